import Foundation
import PostgresClient
import Synchronization
import TestSupport
import Testing

/// The worker is killed between the steps of a prepared transaction; the target's own locks hold it there.
///
/// On clusters apart, one test at a time: what stays prepared is in the way of whoever makes a slot there.
@Suite(.serialized) struct TwoPhaseKillTests {
    /// Where a worker is stopped and killed.
    enum Point: String, CaseIterable, Sendable {
        /// Its changes are being applied.
        case applying
        /// It is prepared, and the progress does not say so.
        case prepared
        /// The progress says so, too.
        case recorded
        /// It has committed or was rolled back, and the progress does not say so.
        case ended
    }

    @Test(arguments: Point.allCases, [true, false])
    func killedBetweenTwoStepsNothingIsLostOrDoubled(point: Point, commits: Bool) async throws {
        let pair = try await TwoPhasePair()
        do {
            try await killed(at: point, commits: commits, pair)
        } catch {
            // The next test's slot would wait for it.
            try? await pair.end(commits: false)
            throw error
        }
    }

    private func killed(at point: Point, commits: Bool, _ pair: TwoPhasePair) async throws {
        var worker = try pair.start()
        _ = try await pair.source.execute("INSERT INTO guest SELECT i, 'old' FROM generate_series(1, 10) i")
        try await pair.waitUntilEqual()
        let gate = try await pair.connect(pair.targetURL)
        let (onPrepare, onEnd) = (point == .applying || point == .prepared, point == .ended)
        if onPrepare { try await hold(point, pair, gate) }
        _ = try await pair.source.execute(
            """
            BEGIN; INSERT INTO guest SELECT i, 'p' FROM generate_series(100, 300) i; UPDATE guest SET name = 'p' WHERE id = 1;
            DELETE FROM guest WHERE id = 2; PREPARE TRANSACTION 'a'
            """)
        // More, behind it.
        _ = try await pair.source.execute("INSERT INTO guest VALUES (11, 'later'); UPDATE guest SET name = 'later' WHERE id = 3")
        if !onPrepare {
            try await waitUntil("it stands, and what came later is there") {
                try await pair.count("SELECT 1 FROM guest WHERE id = 11", on: pair.target) == 1
            }
            #expect(try await pair.standing() == 1)
        }
        if onEnd {
            try await hold(point, pair, gate)
            try await pair.end(commits: commits)
        }
        if onPrepare || onEnd { try await pair.waitUntilHeld() }
        worker.kill9()
        _ = try await worker.wait()
        try await pair.endSessions()
        try await release(point, pair, gate)
        #expect(try await pair.standing() == (point == .applying || point == .ended ? 0 : 1))
        worker = try pair.start()
        if !onEnd {
            try await waitUntil("it stands again, and what came later is there") {
                let isThere = try await pair.count("SELECT 1 FROM guest WHERE id = 11", on: pair.target) == 1
                let standing = try await pair.standing()
                return isThere && standing == 1
            }
            #expect(try await pair.count("SELECT 1 FROM guest WHERE name = 'p'", on: pair.target) == 0)
            try await pair.end(commits: commits)
        }
        _ = try await pair.source.execute("INSERT INTO guest VALUES (12, 'last')")
        try await pair.waitUntilEqual()
        #expect(try await pair.standing() == 0)
        #expect(try await pair.count("SELECT 1 FROM guest WHERE name = 'p'", on: pair.target) == (commits ? 202 : 0))
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await gate.close()
    }

    /// Makes the worker wait at the point: for a table's lock, or in a trigger of the progress's row.
    private func hold(_ point: Point, _ pair: TwoPhasePair, _ gate: PostgresConnection) async throws {
        if point == .applying {
            _ = try await gate.execute("BEGIN; LOCK TABLE guest IN EXCLUSIVE MODE")
            return
        }
        let isThere = "EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database())"
        _ = try await gate.execute(
            """
            SELECT pg_advisory_lock(1);
            CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              IF \(point == .prepared ? "" : "NOT") \(isThere) THEN PERFORM pg_catalog.pg_advisory_xact_lock(1); END IF;
              RETURN NEW; END $$;
            CREATE TRIGGER wait BEFORE UPDATE ON lindero.direction FOR EACH ROW EXECUTE FUNCTION public.wait();
            ALTER TABLE lindero.direction ENABLE ALWAYS TRIGGER wait;
            """)
    }

    private func release(_ point: Point, _ pair: TwoPhasePair, _ gate: PostgresConnection) async throws {
        switch point {
        case .recorded: return
        case .applying: _ = try await gate.execute("ROLLBACK")
        case .prepared, .ended:
            _ = try await gate.execute("DROP TRIGGER wait ON lindero.direction; SELECT pg_advisory_unlock(1)")
        }
    }

    /// Money moves in prepared transactions, most of which commit, while the worker is killed at random moments and a
    /// checker adds up what the target shows.
    @Test func killedAtRandomMomentsPreparedTransactionsStayWhole() async throws {
        let pair = try await TwoPhasePair()
        let kills = ProcessInfo.processInfo.environment["LINDERO_TEST_PREPARED_KILLS"].flatMap { Int($0) } ?? 25
        for connection in [pair.source, pair.target] {
            _ = try await connection.execute("CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL)")
        }
        let seed = UInt64.random(in: 0...UInt64.max)
        var moments = SeededMoments(seed: seed)
        var worker = try pair.start()
        _ = try await pair.source.execute("INSERT INTO account SELECT i, 1000 FROM generate_series(1, 40) i")
        try await waitUntil("the worker is at it") { try await pair.count("SELECT 1 FROM account", on: pair.target) == 40 }
        let writers = (0..<3).map { writer in Task { try await write(writer, pair) } }
        let checker = Task { try await check(pair) }
        for _ in 0..<kills {
            try await Task.sleep(for: .milliseconds(moments.next()))
            worker.kill9()
            _ = try await worker.wait()
            worker = try pair.start()
        }
        pair.isOver.store(true, ordering: .relaxed)
        var ended = 0
        for writer in writers { ended += try await writer.value }
        #expect(ended > kills, "seed \(seed)")
        let sums = "SELECT sum(hashtext(a::text)) || ' ' || sum(balance) FROM account a"
        try await waitUntil("both sides are equal (seed \(seed))", timeoutSeconds: 60) {
            try await pair.target.execute(sums).rows.first?[0] == pair.source.execute(sums).rows.first?[0]
        }
        try await waitUntil("nothing stands") { try await pair.standing() == 0 }
        #expect(try await checker.value > 0, "seed \(seed)")
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    /// - Returns: how many prepared transactions it has ended.
    private func write(_ writer: Int, _ pair: TwoPhasePair) async throws -> Int {
        let connection = try await pair.connect(pair.sourceURL)
        var number = 0
        // Each writer has accounts of its own, so that none waits for what another one has prepared.
        let (from, to) = (writer * 10 + 1, writer * 10 + 2)
        while !pair.isOver.load(ordering: .relaxed) {
            number += 1
            let gid = "\(pair.slot) \(writer) \(number)"
            let bulk = number % 20 == 0 ? "UPDATE account SET balance = balance WHERE id BETWEEN \(from) AND \(from + 9);" : ""
            _ = try await connection.execute(
                """
                BEGIN; UPDATE account SET balance = balance - 5 WHERE id = \(from); \(bulk)
                UPDATE account SET balance = balance + 5 WHERE id = \(to); PREPARE TRANSACTION '\(gid)'
                """)
            _ = try await connection.execute("UPDATE account SET balance = balance + 1 WHERE id = 40; UPDATE account SET balance = balance - 1 WHERE id = 40")
            try? await Task.sleep(for: .milliseconds(number % 7 * 3))
            _ = try await connection.execute("\(number % 4 == 0 ? "ROLLBACK" : "COMMIT") PREPARED '\(gid)'")
        }
        await connection.close()
        return number
    }

    private func check(_ pair: TwoPhasePair) async throws -> Int {
        let connection = try await pair.connect(pair.targetURL)
        var checks = 0
        while !pair.isOver.load(ordering: .relaxed) {
            let sum = try await connection.execute("SELECT sum(balance) FROM account").rows.first?[0]
            // One statement may come between the two that change account 40.
            if let sum {
                #expect((40_000...40_003).contains(Int(sum) ?? 0))
                checks += 1
            }
            try? await Task.sleep(for: .milliseconds(15))
        }
        await connection.close()
        return checks
    }
}

/// A table on two clusters, and a worker with `two_phase: true` that adopts a slot.
final class TwoPhasePair: Sendable {
    let sourceURL: String
    let targetURL: String
    let source: PostgresConnection
    let target: PostgresConnection
    let slot = "s" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
    /// Set when writers and checkers are to end: cancelled, they would leave something prepared.
    let isOver = Atomic(false)
    private let folder: String

    init() async throws {
        sourceURL = try await PostgresCluster.shared("killed prepared").createDatabase(prefix: "ps")
        targetURL = try await PostgresCluster.shared("killed prepared target").createDatabase(prefix: "pt")
        source = try await Self.connect(sourceURL)
        target = try await Self.connect(targetURL)
        for connection in [source, target] {
            _ = try await connection.execute("CREATE TABLE guest (id int PRIMARY KEY, name text)")
        }
        _ = try await source.execute("CREATE PUBLICATION p FOR ALL TABLES")
        _ = try await source.execute("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
        folder = NSTemporaryDirectory() + "lindero-prepared-" + slot
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try """
            version: 1
            backend: replica
            databases:
              bot: { url: env:DATABASE_URL }
              sync: { url: env:SYNC_DATABASE_URL }
            origin: bot
            defaults: { unlisted_column: origin }
            replication: { snapshot: never, slot: \(slot), publication: p, two_phase: true, heartbeat: 200ms }
            tables:
              "public.*": { insert: bot, delete: bot, columns: { bot: "*" } }

            """.write(toFile: folder + "/lindero.yaml", atomically: true, encoding: .utf8)
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func start() throws -> RunningLindero {
        try LinderoProcess.start(
            ["run", "--http", "none"], environment: ["DATABASE_URL": sourceURL, "SYNC_DATABASE_URL": targetURL], folder: folder)
    }

    func connect(_ url: String) async throws -> PostgresConnection { try await Self.connect(url) }

    private static func connect(_ url: String) async throws -> PostgresConnection {
        var options = ConnectionOptions(url)
        options.usesPinnedSettings = false
        options.applicationName = "test"
        return try await PostgresConnection.connect(options)
    }

    func count(_ sql: String, on connection: PostgresConnection) async throws -> Int {
        try await connection.execute(sql).rowCount
    }

    /// How many of the worker's transactions stand prepared on the target.
    func standing() async throws -> Int {
        try await count("SELECT 1 FROM pg_prepared_xacts WHERE database = current_database()", on: target)
    }

    func end(commits: Bool) async throws {
        _ = try await source.execute("\(commits ? "COMMIT" : "ROLLBACK") PREPARED 'a'")
    }

    /// Waits until a session of the worker waits for a lock on the target.
    func waitUntilHeld() async throws {
        try await waitUntil("the worker is held") {
            try await count("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'", on: target) > 0
        }
    }

    /// Ends what a killed worker left on the target, before it is given the lock that it waits for.
    func endSessions() async throws {
        _ = try await target.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE 'lindero%'
            """)
        try await waitUntil("its sessions are gone") {
            try await count("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'lindero%'", on: target) == 0
        }
    }

    func waitUntilEqual() async throws {
        let sql = "SELECT count(*)::text || md5(coalesce(string_agg(g::text, ',' ORDER BY id), '')) FROM guest g"
        try await waitUntil("both tables are equal") {
            let there = try await target.execute(sql).rows.first?[0]
            return try await source.execute(sql).rows.first?[0] == there
        }
    }
}
