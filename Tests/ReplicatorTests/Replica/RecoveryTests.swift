import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// What passes by itself is outlived in every phase, and the phase that is told is true.
@Suite struct RecoveryTests {
    /// Ends Lindero's sessions in a database, but not the test's own.
    private func terminate(_ connection: PostgresConnection) async throws -> Int {
        try await connection.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
            AND pid <> pg_backend_pid() AND backend_type IN ('client backend', 'walsender')
            """
        ).rowCount
    }

    @Test func pauseOutlivesTheLossOfItsSessions() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 1)", state)
            _ = try await pair.source.execute("ALTER TABLE t ALTER v TYPE text USING v::text; INSERT INTO t VALUES (2, 'two')")
            try await waitUntil("the direction pauses") { state.phase == .paused }
            for _ in 0..<3 {
                try await waitUntil("a session was ended") { try await terminate(pair.target) > 0 }
                _ = try await terminate(pair.source)
            }
            try await waitUntil("it looks again") {
                let sessions = try await pair.rows(
                    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()", on: pair.target)
                return !sessions.isEmpty
            }
            #expect(state.phase == .paused)
            _ = try await pair.target.execute("ALTER TABLE t ALTER v TYPE text USING v::text")
            try await waitUntil("it goes on") { state.phase != .paused }
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 2)
        }
    }

    @Test(arguments: ["source", "target"]) func lostSessionsOfTheCopyAreReplaced(_ side: String) async throws {
        var replication = ReplicationSettings()
        replication.copy.rateLimitBytes = 400_000
        let pair = try await FreshPair(
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 10000) i",
            replication: replication)
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("rows are on their way") { (state.snapshot().copy?.bytes ?? 0) > 0 }
        _ = try await terminate(side == "source" ? pair.source : pair.target)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        #expect(state.snapshot().problem == nil)
        #expect(state.snapshot().reconnects > 0)
        try await pair.expectSame("SELECT count(*), sum(id) FROM t")
        state.drain()
        try await running.value
    }

    @Test func backlogIsNoStreamingAndNoSmallLag() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v text)")
        _ = try await PostgresConnection.with(pair.settings.target) { try await Migrator(connection: $0).migrate() }
        // What an earlier run of the same worker left in the log, and what it did not get to.
        for _ in 0..<5 {
            let content = Heartbeat.content(sequence: HeartbeatSequence.next(), worker: "test")
            _ = try await pair.source.execute(
                "SELECT pg_logical_emit_message(true, '\(Heartbeat.messagePrefix)', '\(content)')")
        }
        try await Task.sleep(for: .seconds(1))
        // Large enough to be applied in pieces, apart from what stands before it.
        _ = try await pair.source.execute("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i")
        let blocker = try await ReplicaPair.connect(pair.targetURL)
        _ = try await blocker.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        try await pair.streaming { state in
            try await waitUntil("the old heartbeats are on the target") {
                try await pair.rows("SELECT count(*) FROM lindero.heartbeat", on: pair.target) == [["1"]]
            }
            #expect(state.phase == .catchingUp)
            try await waitUntil("the lag is known") {
                state.snapshot().lag.lagSeconds(atMilliseconds: Monotonic.milliseconds()).map { $0 >= 1 } ?? false
            }
            #expect(state.phase == .catchingUp)
            _ = try await blocker.execute("ROLLBACK")
            try await waitUntil("it streams") { state.phase == .streaming }
            // 27: others are told, too.
            try await waitUntil("the target says so") {
                try await pair.rows("SELECT state FROM lindero.direction", on: pair.target) == [["streaming"]]
            }
        }
    }

    @Test func drainAfterAReconnectWaitsForTheApplier() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY)")
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams") { state.phase == .streaming }
        try await waitUntil("a session was ended") {
            try await pair.target.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'lindero'"
                    + " AND pid <> pg_backend_pid()").rowCount > 0
        }
        try await waitUntil("it streams again") { state.snapshot().reconnects > 0 && state.phase == .streaming }
        let blocker = try await ReplicaPair.connect(pair.targetURL)
        _ = try await blocker.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        _ = try await pair.source.execute("INSERT INTO t VALUES (1)")
        try await waitUntil("the applier waits") {
            try await pair.rows("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 't'::regclass", on: pair.target).count == 1
        }
        state.drain()
        try await Task.sleep(for: .milliseconds(600))
        _ = try await blocker.execute("ROLLBACK")
        try await running.value
        let confirmed = try await pair.rows(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '\(pair.slot)'", on: pair.source)
        #expect(confirmed.first?[0].flatMap { LSN($0) } == state.durableLSN)
        try await pair.expectSame("SELECT * FROM t")
    }

    @Test func preparedStatementsAreBounded() async throws {
        let columns = (0..<12).map { "c\($0) int NOT NULL DEFAULT 0" }.joined(separator: ", ")
        // Without a key and with the whole old row, each set of changed columns is a statement of its own.
        let pair = try await ReplicaPair("CREATE TABLE t (id int, \(columns)); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT 1")
        _ = try await pair.target.execute(
            """
            CREATE TABLE seen (n int);
            CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              INSERT INTO public.seen SELECT count(*) FROM pg_prepared_statements; RETURN NULL; END $$;
            CREATE TRIGGER look AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION look();
            ALTER TABLE t ENABLE ALWAYS TRIGGER look;
            """)
        try await pair.streaming { state in
            _ = try await pair.source.execute(
                """
                DO $$ BEGIN FOR mask IN 1..2000 LOOP
                  EXECUTE 'UPDATE t SET ' || (SELECT string_agg(format('c%s = c%s + 1', i, i), ', ') FROM generate_series(0, 11) i WHERE mask >> i & 1 = 1);
                END LOOP; END $$
                """)
            try await pair.catchUp(state, timeoutSeconds: 120)
            try await pair.expectSame("SELECT * FROM t")
            let most = try await pair.rows("SELECT max(n) FROM seen", on: pair.target).first?[0].flatMap { Int($0) }
            #expect(try #require(most) > 300)
            #expect(try #require(most) <= StatementCache.limit + 10)
        }
    }

    @Test func rowThatComesUnderAFilterWithoutItsLargeValueStops() async throws {
        let pair = try await ReplicaPair(
            """
            CREATE TABLE t (id int NOT NULL, n int NOT NULL, big text, UNIQUE (id, n)); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
            ALTER TABLE t REPLICA IDENTITY USING INDEX t_id_n_key;
            """, publication: "CREATE PUBLICATION p FOR TABLE t WHERE (n > 0)")
        let state = DirectionState()
        let running = pair.start(state)
        try await pair.apply("INSERT INTO t VALUES (1, 1, 'small')", state)
        _ = try await pair.source.execute("INSERT INTO t VALUES (2, 0, repeat('x', 100000)); INSERT INTO t VALUES (3, 1, 'before')")
        _ = try await pair.source.execute("UPDATE t SET n = 1 WHERE id = 2")
        let failure = await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(failure?.code == .rowIncomplete)
        #expect(try await pair.rows("SELECT id FROM t ORDER BY id", on: pair.target) == [["1"], ["3"]])
    }
}
