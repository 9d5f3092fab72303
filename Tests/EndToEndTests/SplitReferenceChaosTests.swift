import Foundation
import PostgresClient
import TestSupport
import Testing

/// Whatever both sides do to rows and to what refers to them, they end alike.
@Suite struct SplitReferenceChaosTests {
    private let scenes = SplitReferenceTests()
    private let chains = SplitReferenceChainTests()

    @Test(arguments: ["nullify", "delete", "keep"])
    func bothSidesEndWithTheSameReferences(onDelete: String) async throws {
        let pair = try await scenes.scene(onDelete: onDelete)
        try await carry(pair, onDelete, [SplitReferenceTests.codes, SplitReferenceTests.rooms], write)
    }

    @Test(arguments: SplitReferenceChainTests.OnDelete.allCases, [true, false])
    func bothSidesEndWithTheSameChains(onDelete: SplitReferenceChainTests.OnDelete, hasForeignKeys: Bool) async throws {
        let pair = try await chains.scene(
            hotels: onDelete == .delete ? .nullify : onDelete, rooms: onDelete, beds: hasForeignKeys ? onDelete : .keep,
            hasForeignKeys: hasForeignKeys)
        try await carry(pair, "chain, \(onDelete)", [SplitReferenceChainTests.rows], writeInChain)
    }

    /// Has both sides write in three rounds, with the worker and without it, and looks for equal answers.
    private func carry(
        _ pair: SplitPair, _ name: String, _ queries: [String], _ write: (inout SeededGenerator, _ name: String, _ number: Int) -> String
    ) async throws {
        let seed = ProcessInfo.processInfo.environment["LINDERO_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0..<1_000_000)
        print("split references, \(name): LINDERO_SEED=\(seed)")
        var random = SeededGenerator(seed: seed)
        var worker = try await pair.startStreaming()
        for query in queries { try await pair.waitUntilEqual(query) }
        for round in 0..<3 {
            for step in 0..<60 {
                if step == 20 {
                    worker.kill9()
                    _ = try await worker.wait()
                }
                let isBot = random.below(2) == 0
                let statement = write(&random, isBot ? "bot" : "sync", round * 100 + step)
                do {
                    _ = try await (isBot ? pair.bot : pair.sync).execute(statement)
                } catch {
                    // A key that is taken, or a hotel with rooms: as for any application.
                    let state = error.sqlState?.rawValue ?? "none"
                    try #require(["23503", "23505", "40P01"].contains(state), "\(error)")
                }
            }
            worker = try await pair.startStreaming()
            for (side, name) in [(pair.bot, "bot"), (pair.sync, "sync")] {
                _ = try await side.execute("INSERT INTO hotels (code) VALUES ('\(name) ends \(round)')")
            }
            try await waitUntil("each side has the other's last write") {
                try await pair.values("SELECT count(*) FROM hotels WHERE code LIKE '% ends \(round)'") == ["2", "2"]
            }
            for query in queries {
                do {
                    try await pair.waitUntilEqual(query, timeoutSeconds: 12)
                } catch {
                    Issue.record("seed \(seed), round \(round): \(try await pair.values(query)) \(worker.errors.suffix(500))")
                    throw error
                }
            }
        }
        #expect(worker.errors.contains("error") == false, "\(worker.errors)")
        worker.kill9()
        await pair.remove()
    }

    private func write(_ random: inout SeededGenerator, name: String, number: Int) -> String {
        let code = "h\(random.below(8))"
        let room = "r-\(random.below(12))"
        let (own, value) = name == "bot" ? ("notes", "'bot \(number)'") : ("price", "\(number)")
        let hotel = "(SELECT id FROM hotels WHERE code = '\(code)')"
        switch random.below(10) {
        case 0, 1: return "INSERT INTO hotels (code) VALUES ('\(code)')"
        case 2: return "UPDATE rooms SET \"hotelId\" = NULL WHERE \"hotelId\" = \(hotel); DELETE FROM hotels WHERE code = '\(code)'"
        case 3: return "DELETE FROM rooms WHERE \"hotelId\" = \(hotel); DELETE FROM hotels WHERE code = '\(code)'"
        case 4:
            let other = "h\(random.below(8))"
            if random.below(2) == 0 { return "UPDATE hotels SET code = '\(other)' WHERE code = '\(code)'" }
            // In one transaction another one takes its place, and is referred to at once.
            return "UPDATE hotels SET code = 'from \(name) \(number)' WHERE code = '\(code)';"
                + "UPDATE hotels SET code = '\(code)' WHERE code = '\(other)';"
                + "INSERT INTO rooms (number, \"hotelId\", \(own)) VALUES ('swap \(name) \(number)', \(hotel), \(value))"
        case 5: return "DELETE FROM rooms WHERE number = '\(room)'"
        case 6, 7: return "INSERT INTO rooms (number, \"hotelId\", \(own)) VALUES ('\(room)', \(hotel), \(value))"
        case 8: return "UPDATE rooms SET \"hotelId\" = \(hotel) WHERE number = '\(room)'"
        default: return "UPDATE rooms SET \(own) = \(value) WHERE number = '\(room)'"
        }
    }

    private func writeInChain(_ random: inout SeededGenerator, name: String, number: Int) -> String {
        func code(_ table: String, _ count: Int) -> String { "\(table.prefix(1))\(random.below(count))" }
        func number(_ table: String, _ code: String) -> String { "(SELECT id FROM \(table) WHERE code = '\(code)')" }
        let (hotel, other, room) = (code("hotels", 5), code("hotels", 5), code("rooms", 5))
        let bed = code("beds", 6)
        switch random.below(12) {
        case 0, 1: return "INSERT INTO hotels (code, \"parentId\") VALUES ('\(hotel)', \(number("hotels", other)))"
        case 2: return "UPDATE hotels SET \"parentId\" = \(number("hotels", other)) WHERE code = '\(hotel)'"
        case 3: return "UPDATE hotels SET code = '\(other)' WHERE code = '\(hotel)'"
        case 4:
            return "UPDATE hotels SET \"parentId\" = NULL WHERE \"parentId\" = \(number("hotels", hotel));"
                + "UPDATE rooms SET \"hotelId\" = \(number("hotels", other)) WHERE \"hotelId\" = \(number("hotels", hotel));"
                + "DELETE FROM hotels WHERE code = '\(hotel)'"
        case 5:
            return "DELETE FROM beds WHERE \"roomId\" = \(number("rooms", room)); DELETE FROM rooms WHERE code = '\(room)'"
        case 6, 7: return "INSERT INTO rooms (code, \"hotelId\") VALUES ('\(room)', \(number("hotels", hotel)))"
        case 8:
            return random.below(2) == 0
                ? "UPDATE rooms SET \"hotelId\" = \(number("hotels", hotel)) WHERE code = '\(room)'"
                : "UPDATE rooms SET code = '\(code("rooms", 5))' WHERE code = '\(room)'"
        case 9: return "DELETE FROM beds WHERE code = '\(bed)'"
        case 10: return "INSERT INTO beds (code, \"roomId\") VALUES ('\(bed)', \(number("rooms", room)))"
        default: return "UPDATE beds SET \"roomId\" = \(number("rooms", room)) WHERE code = '\(bed)'"
        }
    }
}
