import Foundation
import PostgresClient
import TestSupport
import Testing

/// Transactions and backlogs that are many times larger than the memory that a split may take.
@Suite struct SplitLargeTransactionTests {
    private static let table = "public.\"Reservas\""
    private static let rows = 30_000

    private func scene() async throws -> SplitPair {
        let pair = try await SplitPair(schema: SplitWorkerTests.schema, tables: SplitWorkerTests.tables)
        try pair.write(tables: SplitWorkerTests.tables, replication: " memory_limit: 32MB, heartbeat: 200ms ")
        _ = try await pair.bot.execute(
            "INSERT INTO \(Self.table) (\"bookingId\", phone, \"apiData\") SELECT 'b-' || i, '+34', repeat(md5(i::text), 30) "
                + "FROM generate_series(1, \(Self.rows)) i")
        return pair
    }

    private static func peakKilobytes(_ worker: RunningLindero) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(worker.child.processID)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return try #require(line.flatMap { Int($0.filter(\.isNumber)) })
    }

    @Test func bothSidesRewroteEverythingAtOnceAndTheWorkerStaysUnderItsLimit() async throws {
        let pair = try await scene()
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitWorkerTests.all)
        let before = try Self.peakKilobytes(worker)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        // About 90 MB on each side: all rows by both, and by each what the other one writes, too, or deletes.
        _ = try await pair.sync.execute("UPDATE \(Self.table) SET \"guestName\" = repeat('s', 200), visits = visits + 1")
        _ = try await pair.sync.execute("UPDATE \(Self.table) SET phone = 'sync' WHERE right(\"bookingId\", 3) = '100'")
        _ = try await pair.sync.execute("DELETE FROM \(Self.table) WHERE right(\"bookingId\", 3) = '101'")
        _ = try await pair.bot.execute("UPDATE \(Self.table) SET phone = 'bot', \"crmNotes\" = repeat('n', 200), visits = visits + 2")
        _ = try await pair.bot.execute("UPDATE \(Self.table) SET \"guestName\" = 'bot' WHERE right(\"bookingId\", 3) = '102'")
        worker = try await pair.startStreaming()
        try await waitUntil("sync has the bot's notes", timeoutSeconds: 120) {
            try await pair.sync.execute("SELECT 1 FROM \(Self.table) WHERE \"crmNotes\" IS NULL LIMIT 1").rowCount == 0
        }
        try await pair.waitUntilEqual(SplitWorkerTests.all, timeoutSeconds: 120)
        let peak = try Self.peakKilobytes(worker)
        #expect(peak - before < 32 << 10, "\(before) kB before, \(peak) kB at most")
        let counts = """
            SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE phone = 'bot'), sum(visits),
              count(*) FILTER (WHERE "guestName" = repeat('s', 200)), count(*) FILTER (WHERE "crmNotes" = repeat('n', 200))) FROM \(Self.table)
            """
        let left = Self.rows - Self.rows / 1_000
        // The bot's phones are the later ones; of two names the earlier one, sync's, stays.
        #expect(try await pair.values(counts) == Array(repeating: "\(left) \(left) \(3 * left) \(left) \(left)", count: 2))
        let lost = "SELECT string_agg(found, ', ' ORDER BY found) FROM (SELECT concat_ws(' ', column_name, policy, loser, count(*)) AS found FROM lindero.conflict GROUP BY column_name, policy, loser) AS g"
        let each = Self.rows / 1_000
        let logs = [
            "phone last_write sync \(each)",
            "crmNotes row_ended bot \(each), guestName queue bot \(each), phone row_ended bot \(each), visits row_ended bot \(each)",
        ]
        // The last change is dropped: the rows are equal before it has come.
        try await waitUntil("every loser is in the log") { try await pair.values(lost) == logs }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    @Test func aLargeTransactionMeetsWritersAndAKilledWorker() async throws {
        let pair = try await scene()
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitWorkerTests.all)
        let other = try await PostgresConnection.connect(ConnectionOptions(try #require(pair.environment["SYNC_DATABASE_URL"])))
        let isOver = Flag()
        async let added = Self.visit(other, until: isOver)
        // All rows in their order on the disk, while those that the client has written come in another.
        try await pair.bot.executeDespiteDeadlocks(
            "UPDATE \(Self.table) SET \"crmNotes\" = repeat('n', 300), visits = visits + 1, phone = 'bot'")
        // It is at work on sync: its rows are held, and nothing of it shows.
        var shown: String?
        try await waitUntil("sync is being written", timeoutSeconds: 60) {
            // Both at once: it may commit before anybody looks again.
            let row = try await pair.sync.execute(
                "SELECT EXISTS (SELECT FROM \(Self.table) WHERE phone = 'bot') FROM pg_stat_activity WHERE datname = current_database() "
                    + "AND application_name LIKE 'lindero%' AND backend_xid IS NOT NULL AND xact_start < now() - interval '300 ms'"
            ).rows.first
            shown = row?[0]
            return row != nil
        }
        #expect(shown == "f")
        worker.kill9()
        _ = try await worker.wait()
        worker = try await pair.startStreaming()
        try await waitUntil("sync has the bot's notes", timeoutSeconds: 120) {
            try await pair.sync.execute("SELECT 1 FROM \(Self.table) WHERE \"crmNotes\" IS NULL LIMIT 1").rowCount == 0
        }
        isOver.set()
        let visits = try await added
        try await pair.waitUntilEqual(SplitWorkerTests.all, timeoutSeconds: 120)
        #expect(visits > 0)
        #expect(try await pair.values("SELECT sum(visits) FROM \(Self.table)") == Array(repeating: "\(Self.rows + visits)", count: 2))
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await other.close()
        await pair.remove()
    }

    /// Between two parts its source may be busy for long with what else the transaction did. A session that its server ended
    /// for that would try again, and as long again.
    @Test func rowsStayHeldHoweverLateTheNextPartComes() async throws {
        let pair = try await scene()
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitWorkerTests.all)
        _ = try await pair.bot.execute("UPDATE \(Self.table) SET \"crmNotes\" = repeat('n', 300), phone = 'bot'")
        let holder = """
            SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'lindero%'
            AND backend_xid IS NOT NULL AND xact_start < now() - make_interval(secs => 
            """
        try await waitUntil("sync is being written", timeoutSeconds: 60) { try await pair.sync.execute(holder + "0.1)").rowCount == 1 }
        let walsender = try await pair.bot.execute(
            "SELECT active_pid FROM pg_replication_slots WHERE database = current_database() AND active").firstValue
        let processID = try #require(walsender.flatMap { Int32($0) })
        #expect(kill(processID, SIGSTOP) == 0)
        defer { kill(processID, SIGCONT) }
        try await waitUntil("its rows are held for longer than a session may be idle; it said \(worker.errors)", timeoutSeconds: 60) {
            try await pair.sync.execute(holder + "17)").rowCount == 1
        }
        kill(processID, SIGCONT)
        try await waitUntil("sync has the bot's notes", timeoutSeconds: 120) {
            try await pair.sync.execute("SELECT 1 FROM \(Self.table) WHERE \"crmNotes\" IS NULL LIMIT 1").rowCount == 0
        }
        try await pair.waitUntilEqual(SplitWorkerTests.all, timeoutSeconds: 120)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    /// With references a transaction goes as a whole: what does not fit stops, says what to do, and goes on after that.
    @Test func aTransactionWithReferencesThatDoesNotFitStopsAndSaysSo() async throws {
        let pair = try await SplitReferenceTests().scene(onDelete: "nullify")
        let tables = SplitReferenceTests.tables(onDelete: "nullify")
        try pair.write(tables: tables, replication: " memory_limit: 16MB, heartbeat: 200ms ")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        // Two pieces of work: one before it, which goes, and one behind it, which waits.
        _ = try await pair.bot.execute("UPDATE rooms SET notes = 'before' WHERE number = 'r-1'")
        _ = try await pair.bot.execute(
            "INSERT INTO rooms (number, \"hotelId\", notes) "
                + "SELECT 'many-' || n, n % 3 + 1, repeat(md5(n::text), 40) FROM generate_series(1, 30000) n")
        _ = try await pair.bot.execute("UPDATE rooms SET notes = 'behind' WHERE number = 'r-1'")
        #expect(try await worker.wait() == 2, "\(worker.errors)")
        #expect(worker.errors.contains("larger than what may wait in memory"))
        #expect(worker.errors.contains("Raise `replication: { memory_limit: … }` (it is 16"), "\(worker.errors)")
        #expect(!worker.errors.contains("many-1"))
        #expect(try await pair.sync.execute("SELECT count(*) FROM rooms").firstValue == "6")
        #expect(try await pair.sync.execute("SELECT notes FROM rooms WHERE number = 'r-1'").firstValue == "before")

        try pair.write(tables: tables, replication: " memory_limit: 512MB, heartbeat: 200ms ")
        worker = try await pair.startStreaming()
        try await waitUntil("all of it is there", timeoutSeconds: 120) {
            try await pair.sync.execute("SELECT 1 FROM rooms WHERE notes = 'behind'").rowCount == 1
        }
        try await pair.waitUntilEqual("SELECT md5(all_of_it) FROM (\(SplitReferenceTests.rooms)) AS r(all_of_it)", timeoutSeconds: 120)
        #expect(try await pair.sync.execute("SELECT count(*) FROM rooms").firstValue == "30006")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// A client of sync that writes rows here and there; how often it did.
    private static func visit(_ connection: PostgresConnection, until isOver: Flag) async throws -> Int {
        var random = SeededGenerator(seed: 7)
        var count = 0
        while !isOver.isSet {
            _ = try await connection.query(
                "UPDATE \(table) SET visits = visits + 1, \"guestName\" = 'v' WHERE \"bookingId\" = $1",
                [.text("b-\(1 + random.below(rows))")])
            count += 1
            try await Task.sleep(for: .milliseconds(2))
        }
        return count
    }
}
