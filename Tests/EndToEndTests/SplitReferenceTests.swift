import PostgresClient
import TestSupport
import Testing

/// Rows that refer to others by numbers which each side of a split gives itself.
@Suite struct SplitReferenceTests {
    static func tables(onDelete: String) -> String {
        """
          hotels: { match: [code], insert: [bot, sync], delete: [bot, sync], columns: { sync: [name] } }
          rooms:
            match: [number]
            insert: [bot, sync]
            delete: [bot, sync]
            references: { hotelId: hotels }
            on_delete: \(onDelete)
            columns:
              bot: [notes]
              sync: [price]
              shared: { hotelId: { policy: last_write } }

        """
    }

    /// - Parameter reference: what follows `"hotelId" int` in the table of rooms.
    func scene(
        onDelete: String, reference: String = "REFERENCES hotels", first: PostgresCluster? = nil
    ) async throws -> SplitPair {
        let schema = """
            SET search_path = public;
            CREATE TABLE public.hotels (id serial PRIMARY KEY, code text NOT NULL UNIQUE, name text);
            CREATE TABLE public.rooms (number text PRIMARY KEY, "hotelId" int \(reference), notes text, price int);
            ALTER TABLE hotels REPLICA IDENTITY FULL;
            ALTER TABLE rooms REPLICA IDENTITY FULL;
            """
        let pair = try await SplitPair(schema: schema, tables: Self.tables(onDelete: onDelete), first: first)
        _ = try await pair.bot.execute("""
            INSERT INTO hotels (code) VALUES ('sea'), ('hill'), ('city');
            INSERT INTO rooms (number, "hotelId", notes) SELECT 'r-' || n, n % 3 + 1, 'first' FROM generate_series(1, 6) n
            """)
        return pair
    }

    /// Rooms with the hotel that they are in, by its code.
    static let rooms = """
        SELECT coalesce(string_agg(concat_ws(' ', r.number, coalesce(h.code, '-'), r.notes, r.price), ', ' ORDER BY r.number), '')
        FROM rooms r LEFT JOIN hotels h ON h.id = r."hotelId"
        """
    static let codes = "SELECT string_agg(code, ' ' ORDER BY code) FROM hotels"

    func room(_ number: String, in code: String) -> String {
        "INSERT INTO rooms (number, \"hotelId\") SELECT '\(number)', id FROM hotels WHERE code = '\(code)';"
    }

    func move(_ number: String, to code: String) -> String {
        "UPDATE rooms SET \"hotelId\" = (SELECT id FROM hotels WHERE code = '\(code)') WHERE number = '\(number)';"
    }

    /// Has both sides write while nobody carries, then carries until each has the other's last write and all is equal.
    func meet(_ pair: SplitPair, bot: String, sync: String) async throws -> String? {
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rooms)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute(bot)
        _ = try await pair.sync.execute(sync)
        for (side, name) in [(pair.bot, "bot"), (pair.sync, "sync")] {
            _ = try await side.execute("INSERT INTO hotels (code) VALUES ('last of \(name)')")
        }
        worker = try await pair.startStreaming()
        do {
            try await waitUntil("each side has the other's last write") {
                try await pair.values("SELECT count(*) FROM hotels WHERE code LIKE 'last of %'") == ["2", "2"]
            }
            try await pair.waitUntilEqual(Self.rooms)
            try await pair.waitUntilEqual(Self.codes)
        } catch {
            // A direction that stands, or both sides apart for good.
            let status = try? await pair.command(["status"])
            Issue.record("\(error); status: \(status?.output ?? "none"); the worker: \(worker.errors)")
            throw error
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        return try await pair.values(Self.rooms)[0]
    }

    @Test func numbersDifferAndEveryReferenceMeansTheSameRow() async throws {
        let pair = try await scene(onDelete: "keep")
        let rooms = try await meet(
            pair,
            bot: "INSERT INTO hotels (code) VALUES ('x1'), ('x2'), ('both');" + room("b-1", in: "both") + room("b-2", in: "x1")
                + move("r-1", to: "x2") + "UPDATE rooms SET notes = 'later' WHERE number = 'r-2'",
            sync: "INSERT INTO hotels (code) VALUES ('both'), ('y1');" + room("s-1", in: "both") + room("s-2", in: "y1")
                + move("r-3", to: "both") + "UPDATE rooms SET \"hotelId\" = NULL WHERE number = 'r-4'")
        #expect(
            rooms == "b-1 both, b-2 x1, r-1 x2 first, r-2 city later, r-3 both first, r-4 - first, r-5 city first, r-6 sea first, "
                + "s-1 both, s-2 y1")
        let number = try await pair.values("SELECT id FROM hotels WHERE code = 'both'")
        #expect(number[0] != number[1])
        // The numbers themselves have not travelled: each side has given its own ones in order.
        #expect(try await pair.values("SELECT count(DISTINCT id) FROM hotels") == ["9", "9"])

        // Written while both directions run, rows and what refers to them in one transaction.
        let worker = try await pair.startStreaming()
        for (side, name) in [(pair.bot, "bot"), (pair.sync, "sync")] {
            for n in 1...20 {
                _ = try await side.execute(
                    "BEGIN; INSERT INTO hotels (code) VALUES ('\(name)\(n)');" + room("\(name)-\(n)", in: "\(name)\(n)") + "COMMIT")
            }
        }
        try await waitUntil("all rooms are on both sides") { try await pair.values("SELECT count(*) FROM rooms") == ["50", "50"] }
        try await pair.waitUntilEqual(Self.rooms)
        #expect(try await pair.values("SELECT count(*) FROM rooms WHERE \"hotelId\" IS NULL") == ["1", "1"])
        let verify = try await pair.command(["verify"])
        #expect(verify.exitCode == 0, "\(verify.output) \(verify.errors)")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// One side deletes a hotel that has no rooms there; the other has just put rooms into it.
    private func deleteAgainstReference(_ onDelete: String) async throws -> String? {
        let pair = try await scene(onDelete: onDelete)
        let rooms = try await meet(
            pair,
            bot: "DELETE FROM rooms WHERE number IN ('r-1', 'r-4'); DELETE FROM hotels WHERE code = 'hill';" + room("b-1", in: "sea")
                + move("r-2", to: "sea") + room("b-2", in: "sea") + move("b-2", to: "city"),
            sync: room("s-1", in: "hill") + move("r-2", to: "hill") + room("s-2", in: "hill") + move("s-2", to: "city")
                + "DELETE FROM rooms WHERE number IN ('r-3', 'r-6'); DELETE FROM hotels WHERE code = 'sea';")
        // What each side had seen before it deleted, and what it moved away again, is as the writers left it.
        #expect(try await pair.values(Self.codes) == Array(repeating: "city last of bot last of sync", count: 2))
        await pair.remove()
        return rooms
    }

    @Test func nullifyEmptiesReferencesToARowThatTheOtherSideDeleted() async throws {
        // r-2 was put into either hotel last by sync; then bot's delete of that one empties it.
        #expect(
            try await deleteAgainstReference("nullify") == "b-1 -, b-2 city, r-2 - first, r-5 city first, s-1 -, s-2 city")
    }

    @Test func deleteTakesRowsAlongThatReferToARowThatTheOtherSideDeleted() async throws {
        #expect(try await deleteAgainstReference("delete") == "b-2 city, r-5 city first, s-2 city")
    }

    @Test func keepLeavesReferencesThatMeanNothing() async throws {
        #expect(try await deleteAgainstReference("keep") == "b-1 -, b-2 city, r-2 - first, r-5 city first, s-1 -, s-2 city")
    }

    @Test func aReferenceThatMayNotBeEmptyWaitsForWhatBecomesOfIt() async throws {
        let pair = try await scene(onDelete: "delete", reference: "NOT NULL REFERENCES hotels")
        let rooms = try await meet(
            pair, bot: "DELETE FROM rooms WHERE number IN ('r-1', 'r-4'); DELETE FROM hotels WHERE code = 'hill'",
            sync: room("s-1", in: "hill") + room("s-2", in: "hill") + move("s-2", to: "city")
                + "UPDATE rooms SET price = 5 WHERE number = 's-2';" + move("r-2", to: "hill") + move("r-3", to: "hill")
                + move("r-3", to: "city"))
        #expect(rooms == "r-3 city first, r-5 city first, r-6 sea first, s-2 city 5")
        await pair.remove()
    }

    @Test func whatTheSourceItselfDidToReferringRowsComesFirst() async throws {
        let pair = try await scene(onDelete: "delete", reference: "REFERENCES hotels ON DELETE CASCADE")
        // The rows that bot's cascade took are made again at once, before sync has heard of it.
        let rooms = try await meet(
            pair, bot: "DELETE FROM hotels WHERE code = 'hill'; COMMIT;" + room("r-1", in: "sea"),
            sync: "UPDATE rooms SET price = 9 WHERE number = 'r-4';" + room("s-1", in: "hill"))
        #expect(rooms == "r-1 sea, r-2 city first, r-3 sea first, r-5 city first, r-6 sea first")
        await pair.remove()
    }
}

extension SplitReferenceTests {
    @Test func aReferenceFollowsTheKeyThatEitherSideChanges() async throws {
        let pair = try await scene(onDelete: "nullify")
        let rooms = try await meet(
            pair,
            // hill is moved by the side that refers to it, before and after; sea by the other one.
            bot: room("b-1", in: "hill")
                + "UPDATE hotels SET code = 'peak' WHERE code = 'hill'; COMMIT;" + room("b-2", in: "peak")
                + room("b-3", in: "sea") + room("b-4", in: "city") + "UPDATE hotels SET code = 'town' WHERE code = 'city'",
            sync: "UPDATE hotels SET code = 'ocean' WHERE code = 'sea';" + room("s-1", in: "hill"))
        #expect(
            rooms == "b-1 peak, b-2 peak, b-3 ocean, b-4 town, r-1 peak first, r-2 town first, r-3 ocean first, r-4 peak first, "
                + "r-5 town first, r-6 ocean first, s-1 peak")
        await pair.remove()
    }

    /// The source is asked late what a number means: by then its row has a key that another row still has on the other side.
    @Test(arguments: ["nullify", "keep"])
    func aReferenceMeansTheRowThatItMeantWhenItWasWritten(onDelete: String) async throws {
        let pair = try await scene(onDelete: onDelete)
        func rename(_ code: String, _ newCode: String) -> String { "UPDATE hotels SET code = '\(newCode)' WHERE code = '\(code)';" }
        func delete(_ code: String) -> String { "DELETE FROM hotels WHERE code = '\(code)';" }
        func make(_ code: String) -> String { "INSERT INTO hotels (code) VALUES ('\(code)');" }
        let transactions = [
            // hill becomes sea, which was another one.
            room("s-01", in: "hill") + move("r-3", to: "city") + move("r-6", to: "city") + delete("sea"), rename("hill", "sea"),
            // Two change places.
            room("s-02", in: "sea") + room("s-03", in: "city") + rename("sea", "x") + rename("city", "sea") + rename("x", "city")
                + room("s-04", in: "sea") + room("s-05", in: "city"),
            // One goes and comes back.
            room("s-06", in: "sea") + rename("sea", "away") + room("s-07", in: "away"), rename("away", "sea") + room("s-08", in: "sea"),
            // A new row takes a name over, after it was referred to, and before.
            make("lake") + room("s-09", in: "lake") + rename("lake", "pond"),
            room("s-10", in: "pond") + make("lake") + room("s-11", in: "lake"),
            move("s-09", to: "lake") + move("s-10", to: "lake") + delete("pond") + rename("lake", "pond") + make("lake")
                + room("s-12", in: "pond") + room("s-13", in: "lake"),
            // Gone, and made again with the same key.
            room("s-14", in: "pond"), move("s-09", to: "sea") + "UPDATE rooms SET \"hotelId\" = NULL WHERE number IN ('s-10', 's-11', 's-12');"
                + move("s-14", to: "sea") + delete("pond"), make("pond") + room("s-15", in: "pond"),
        ]
        let rooms = try await meet(pair, bot: "", sync: transactions.map { "BEGIN;" + $0 + "COMMIT;" }.joined())
        #expect(
            rooms == """
                r-1 city first, r-2 sea first, r-3 sea first, r-4 city first, r-5 sea first, r-6 sea first, s-01 city, s-02 city, \
                s-03 sea, s-04 sea, s-05 city, s-06 sea, s-07 sea, s-08 sea, s-09 sea, s-10 -, s-11 -, s-12 -, s-13 lake, s-14 sea, \
                s-15 pond
                """)
        await pair.remove()
    }

    @Test func aKeyChangedOntoARowOfTheOtherSideTakesItsReferencesAlong() async throws {
        let pair = try await scene(onDelete: "delete")
        let rooms = try await meet(
            pair, bot: "UPDATE hotels SET code = 'peak' WHERE code = 'hill';" + room("b-1", in: "peak"),
            sync: "INSERT INTO hotels (code) VALUES ('peak');" + room("s-1", in: "hill") + room("s-2", in: "peak"))
        #expect(
            rooms == "b-1 peak, r-1 peak first, r-2 city first, r-3 sea first, r-4 peak first, r-5 city first, r-6 sea first, "
                + "s-1 peak, s-2 peak")
        await pair.remove()
    }
}
