import Foundation
import PostgresClient
import Replicator
import Synchronization
import TestSupport
import Testing

/// Eight writers, two clusters, one worker, and whatever can happen to them. `LINDERO_CHAOS_SECONDS` and `LINDERO_SEED` choose
/// for how long, and which faults.
@Suite struct SplitChaosTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let seconds = environment["LINDERO_CHAOS_SECONDS"].flatMap { Double($0) } ?? 15
    private static let keptRows = 40
    private static let table = "public.\"Reservas\""

    private static let all = """
        SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY "bookingId"), '') FROM \(table) r
        """

    @Test func whateverHappensBothSidesEndEqualAndNothingAcknowledgedIsLost() async throws {
        let seed = Self.environment["LINDERO_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0..<1_000_000)
        print("split chaos: LINDERO_SEED=\(seed) LINDERO_CHAOS_SECONDS=\(Self.seconds)")
        let scene = try await ChaosScene()
        var worker = try scene.start()
        try await worker.waitForErrors("streaming direction=sync->bot", timeoutSeconds: 60)
        let latest = [LatestValues(), LatestValues()]
        let writers = (0..<8).map {
            ChaosWriter(number: $0, seed: seed, url: $0 < 4 ? scene.botURL : scene.syncURL, latest: latest[$0 / 4])
        }
        let isOver = Flag()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in writers { group.addTask { try await writer.run(until: isOver) } }
            var random = SeededGenerator(seed: seed)
            let end = ContinuousClock.now.advanced(by: .seconds(Self.seconds))
            while ContinuousClock.now < end {
                try await Task.sleep(for: .milliseconds(1_000 + random.below(2_000)))
                switch random.below(4) {
                case 0, 1:
                    worker.kill9()
                    _ = try await worker.wait()
                    worker = try scene.start()
                case 2:
                    let cluster = random.chance(50) ? scene.bot : scene.sync
                    try await cluster.stop(mode: random.chance(50) ? "immediate" : "fast")
                    try await cluster.restart()
                default:
                    let relay = random.chance(50) ? scene.botRelay : scene.syncRelay
                    relay.cut()
                    try await Task.sleep(for: .milliseconds(Self.seconds > 100 ? 30_000 : 2_000))
                    relay.mend()
                }
                // Whatever it died of, it says. Where it never streamed, a server was away just as it began: it says so and
                // ends, and a supervisor of services starts it again.
                if worker.child.exitCode != nil, !worker.errors.contains("streaming direction=") {
                    worker = try scene.start()
                } else if worker.child.exitCode != nil {
                    Issue.record("the worker ended: \(worker.errors.suffix(2_000))")
                    break
                }
            }
            isOver.set()
            try await group.waitForAll()
        }
        // The last fault may have met it at its start.
        while !worker.errors.contains("streaming direction=sync->bot") {
            if worker.child.exitCode != nil { worker = try scene.start() }
            try await Task.sleep(for: .milliseconds(100))
        }
        try await check(scene, writers, worker)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        scene.remove()
    }

    /// Everything that was written is applied on the other side; as long as it takes, but never without getting on. One
    /// direction may wait for the other's backlog.
    private func waitUntilApplied(_ bot: PostgresConnection, _ sync: PostgresConnection) async throws {
        let ends = [try await bot.execute("SELECT pg_current_wal_lsn()").firstValue, try await sync.execute("SELECT pg_current_wal_lsn()").firstValue]
        func look(_ target: PostgresConnection, _ name: String, _ end: String?) async throws -> (reached: String, isOver: Bool) {
            let row = try await target.execute(
                "SELECT applied_lsn, applied_lsn >= '\(end ?? "0/0")' FROM lindero.direction WHERE name = '\(name)'"
            ).rows.first
            return (row?[0] ?? "", row?[1] == "t")
        }
        var reached: [String] = []
        var isOver = false
        while !isOver {
            let before = reached
            try await waitUntil("a direction gets on", timeoutSeconds: 60) {
                let both = [try await look(sync, "bot->sync", ends[0]), try await look(bot, "sync->bot", ends[1])]
                reached = both.map(\.reached)
                isOver = both.allSatisfy(\.isOver)
                return isOver || reached != before
            }
        }
    }

    private func check(_ scene: ChaosScene, _ writers: [ChaosWriter], _ worker: RunningLindero) async throws {
        let bot = try await PostgresConnection.connect(ConnectionOptions(scene.botURL))
        let sync = try await PostgresConnection.connect(ConnectionOptions(scene.syncURL))
        do {
            try await waitUntilApplied(bot, sync)
            try await waitUntil("both sides are equal", timeoutSeconds: 60) {
                let left = try await bot.execute(Self.all).firstValue
                return try await sync.execute(Self.all).firstValue == left
            }
        } catch {
            let left = Set(try await bot.execute("SELECT r::text FROM \(Self.table) r").rows.map { $0[0] ?? "" })
            let right = Set(try await sync.execute("SELECT r::text FROM \(Self.table) r").rows.map { $0[0] ?? "" })
            let dropped = "SELECT count(*) FROM lindero.conflict WHERE policy LIKE 'row%' AND row_key ->> 'bookingId' LIKE 'kept-%'"
            let sum = "SELECT sum(visits) FROM \(Self.table) WHERE \"bookingId\" LIKE 'kept-%'"
            for side in [bot, sync] {
                Issue.record("\(try await side.execute(sum).firstValue ?? "") visits, \(try await side.execute(dropped).firstValue ?? "") dropped")
            }
            for cluster in [scene.bot, scene.sync] {
                let log = (try? String(contentsOfFile: cluster.folder + "/server.log", encoding: .utf8)) ?? ""
                let ended = log.split(separator: "\n").filter { $0.contains("terminating") || $0.contains("FATAL") }
                Issue.record("\(ended.suffix(12).joined(separator: "\n"))")
            }
            let counts = writers.map(\.counts)
            Issue.record("acknowledged \(counts.reduce(0) { $0 + $1.added }), doubtful \(counts.reduce(0) { $0 + $1.doubtful })")
            Issue.record("bot alone: \(left.subtracting(right).sorted())\nsync alone: \(right.subtracting(left).sorted())\n\(worker.errors.suffix(6_000))")
            return
        }
        let total = writers.reduce(into: (sure: 0, doubtful: 0, writes: 0)) { sum, writer in
            let counts = writer.counts
            sum.sure += counts.added
            sum.doubtful += counts.doubtful
            sum.writes += counts.writes
        }
        let visits = try await bot.execute("SELECT sum(visits) FROM \(Self.table) WHERE \"bookingId\" LIKE 'kept-%'").firstValue.flatMap { Int($0) } ?? -1
        #expect(visits >= total.sure && visits <= total.sure + total.doubtful, "\(visits) of \(total)")
        for writer in writers {
            let column = writer.ownedColumn
            let rows = try await bot.execute("SELECT \"bookingId\", \"\(column)\" FROM \(Self.table) WHERE \"bookingId\" LIKE 'kept-%'").rows
            let found = Dictionary(uniqueKeysWithValues: rows.map { ($0[0] ?? "", $0[1].flatMap { Int($0.prefix(9)) } ?? 0) })
            for (key, value) in writer.owned {
                #expect((found[key] ?? -1) >= value, "\(column) of \(key), written by \(writer.number)")
            }
        }
        try await checkSharedValues(bot, sync, writers)
        let conflicts = "SELECT count(*) FROM lindero.conflict"
        print(
            "split chaos: \(total.writes) writes, \(try await bot.execute(conflicts).firstValue ?? "?") conflicts on bot, "
                + "\(try await sync.execute(conflicts).firstValue ?? "?") on sync, \(visits) visits")
        await bot.close()
        await sync.close()
    }
    /// A value that somebody was told is written is in its row, was replaced by a write that had seen it, or lost: then it is
    /// in one of the two logs, once. Under `queue` only a side's latest value counts: an earlier one may have stood on the other
    /// side until that came.
    private func checkSharedValues(_ bot: PostgresConnection, _ sync: PostgresConnection, _ writers: [ChaosWriter]) async throws {
        var logged: [String: Int] = [:]
        for side in [bot, sync] {
            let sql = "SELECT lost_value FROM lindero.conflict WHERE column_name IN ('phone', 'guestName') AND row_key ->> 'bookingId' LIKE 'kept-%'"
            for row in try await side.execute(sql).rows { logged[row[0] ?? "", default: 0] += 1 }
        }
        let standing = Set(
            try await bot.execute("SELECT unnest(ARRAY[phone, \"guestName\"]) FROM \(Self.table) WHERE \"bookingId\" LIKE 'kept-%'")
                .rows.compactMap { $0[0] })
        let replaced = writers.reduce(into: Set<String>()) { $0.formUnion($1.replaced) }
        #expect(logged.allSatisfy { $0.value == 1 }, "\(logged.filter { $0.value > 1 })")
        let acknowledged = writers.flatMap(\.shared)
        let lost = acknowledged.filter { !standing.contains($0) && !replaced.contains($0) }
        #expect(lost.allSatisfy { logged[$0] == 1 }, "\(lost.filter { logged[$0] != 1 }) of \(acknowledged.count)")
        print("split chaos: \(acknowledged.count) shared values acknowledged, \(lost.count) lost to the other side")
    }
}

/// What one side's writers last gave each cell; to be asked while its row is held.
final class LatestValues: Sendable {
    private let values = Mutex<[String: String]>([:])

    func exchange(_ cell: String, _ value: String) -> String? {
        values.withLock { $0.updateValue(value, forKey: cell) }
    }
}

final class Flag: Sendable {
    private let value = Mutex(false)
    var isSet: Bool { value.withLock { $0 } }
    func set() { value.withLock { $0 = true } }
}

/// Two clusters of their own, each behind a stretch of network for the worker.
struct ChaosScene: Sendable {
    let bot: PostgresCluster
    let sync: PostgresCluster
    let botURL: String
    let syncURL: String
    let botRelay: NetworkRelay
    let syncRelay: NetworkRelay
    let folder: String

    init() async throws {
        bot = try await PostgresCluster.start()
        sync = try await PostgresCluster.start()
        botURL = try await bot.createDatabase()
        syncURL = try await sync.createDatabase()
        botRelay = try NetworkRelay(to: bot.port)
        syncRelay = try NetworkRelay(to: sync.port)
        let connection = try await PostgresConnection.connect(ConnectionOptions(botURL))
        _ = try await connection.execute(SplitWorkerTests.schema)
        _ = try await connection.execute(
            "INSERT INTO public.\"Reservas\" (\"bookingId\") SELECT 'kept-' || i FROM generate_series(0, 39) i")
        await connection.close()
        folder = NSTemporaryDirectory() + "lindero-chaos-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try """
            version: 1
            backend: split
            databases:
              bot: { url: env:DATABASE_URL }
              sync: { url: env:SYNC_DATABASE_URL }
            origin: bot
            replication: { heartbeat: 200ms }
            tables:
            \(SplitWorkerTests.tables)
            """.write(toFile: folder + "/lindero.yaml", atomically: true, encoding: .utf8)
    }

    func start() throws -> RunningLindero {
        try LinderoProcess.start(
            ["run", "--http", "none"],
            environment: ["DATABASE_URL": through(botRelay, botURL), "SYNC_DATABASE_URL": through(syncRelay, syncURL)],
            folder: folder)
    }

    private func through(_ relay: NetworkRelay, _ url: String) -> String {
        url.replacingOccurrences(of: ":\(relay.server)/", with: ":\(relay.port)/")
    }

    func remove() {
        botRelay.close()
        syncRelay.close()
        bot.remove()
        sync.remove()
        try? FileManager.default.removeItem(atPath: folder)
    }
}

/// One client of one service.
final class ChaosWriter: Sendable {
    private struct State {
        var owned: [String: Int] = [:]
        var added = 0
        var doubtful = 0
        var writes = 0
        var next = 1
        var shared: [String] = []
        var replaced: Set<String> = []
    }

    let number: Int
    let ownedColumn: String
    private let url: String
    private let seed: UInt64
    private let latest: LatestValues
    private let state = Mutex(State())

    init(number: Int, seed: UInt64, url: String, latest: LatestValues) {
        self.latest = latest
        self.number = number
        self.url = url
        self.seed = seed &+ UInt64(number) &* 7919
        ownedColumn = number < 4 ? "crmNotes" : "apiData"
    }

    /// The last acknowledged value of the owned column, by row; only this writer writes them.
    var owned: [String: Int] { state.withLock { $0.owned } }
    var counts: (added: Int, doubtful: Int, writes: Int) { state.withLock { ($0.added, $0.doubtful, $0.writes) } }

    /// Acknowledged values of shared columns, each written once.
    var shared: [String] { state.withLock { $0.shared } }
    /// What a write of theirs found in its place, also one of which nobody knows whether it was done.
    var replaced: Set<String> { state.withLock { $0.replaced } }

    func run(until isOver: Flag) async throws {
        var random = SeededGenerator(seed: seed)
        var connection: PostgresConnection?
        while !isOver.isSet {
            do {
                if connection == nil { connection = try await PostgresConnection.connect(ConnectionOptions(url)) }
                try await write(connection!, &random)
            } catch let error as PostgresError {
                guard error.isTransient || error.sqlState?.rawValue == "23505" else { throw error }
                if error.sqlState?.rawValue == "23505" || error.sqlState?.rawValue == "40P01" { continue }
                await connection?.close()
                connection = nil
                try await Task.sleep(for: .milliseconds(50))
            }
        }
        await connection?.close()
    }

    private func write(_ connection: PostgresConnection, _ random: inout SeededGenerator) async throws {
        let table = "public.\"Reservas\""
        let kept = "kept-\(random.below(10) * 4 + number % 4)"
        let passing = "row-\(random.below(30))"
        switch random.below(10) {
        case 0, 1, 2:
            let value = state.withLock { state in
                state.next += 1
                return state.next
            }
            // Now and then one that TOAST puts away.
            let text = String(format: "%09d", value) + (random.chance(10) ? String(repeating: "x", count: 9_000) : "")
            _ = try await connection.query(
                "UPDATE \(table) SET \"\(ownedColumn)\" = $1 WHERE \"bookingId\" = $2", [.text(text), .text(kept)])
            state.withLock { $0.owned[kept] = value }
        case 3, 4:
            do {
                _ = try await connection.query("UPDATE \(table) SET visits = visits + 1 WHERE \"bookingId\" = $1", [.text(kept)])
                state.withLock { $0.added += 1 }
            } catch {
                state.withLock { $0.doubtful += 1 }
                throw error
            }
        case 5, 6:
            let column = random.pick(["phone", "guestName"])
            try await writeShared(connection, column, of: random.chance(50) ? kept : passing)
        case 7:
            _ = try await connection.query(
                "INSERT INTO \(table) (\"bookingId\", phone, visits) VALUES ($1, $2, 1) ON CONFLICT (\"bookingId\") DO UPDATE "
                    + "SET phone = excluded.phone", [.text(passing), .text("\(number)")])
        case 8:
            _ = try await connection.query("DELETE FROM \(table) WHERE \"bookingId\" = $1", [.text(passing)])
        default:
            _ = try await connection.query(
                "UPDATE \(table) SET \"bookingId\" = $1 WHERE \"bookingId\" = $2",
                [.text("row-\(random.below(30))"), .text(passing)])
        }
        state.withLock { $0.writes += 1 }
        try await Task.sleep(for: .milliseconds(random.below(10)))
    }

    /// Says what it replaces before it does.
    private func writeShared(_ connection: PostgresConnection, _ column: String, of key: String) async throws {
        let table = "public.\"Reservas\""
        let value = state.withLock { state in
            state.next += 1
            return "\(number)-\(state.next)"
        }
        _ = try await connection.execute("BEGIN")
        do {
            let found = try await connection.query("SELECT \"\(column)\" FROM \(table) WHERE \"bookingId\" = $1 FOR UPDATE", [.text(key)])
            let isThere = found.rowCount == 1
            if let old = found.firstValue { state.withLock { _ = $0.replaced.insert(old) } }
            if column == "guestName", let earlier = latest.exchange(key, value) { state.withLock { _ = $0.replaced.insert(earlier) } }
            _ = try await connection.query(
                "UPDATE \(table) SET \"\(column)\" = $1, \"updatedAt\" = clock_timestamp() WHERE \"bookingId\" = $2",
                [.text(value), .text(key)])
            _ = try await connection.execute("COMMIT")
            if isThere, key.hasPrefix("kept-") { state.withLock { $0.shared.append(value) } }
        } catch {
            _ = try? await connection.execute("ROLLBACK")
            throw error
        }
    }
}
