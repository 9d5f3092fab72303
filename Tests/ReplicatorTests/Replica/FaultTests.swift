import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Servers and sessions that go away.
@Suite(.serialized) struct FaultTests {
    /// Databases on clusters of their own, since these tests stop them.
    private func pair() async throws -> (source: PostgresCluster, target: PostgresCluster, settings: DirectionSettings) {
        let source = try await PostgresCluster.start()
        // A target that would confirm commits before they are on disk, if the worker let it.
        let target = try await PostgresCluster.start(settings: ["synchronous_commit": "off", "wal_writer_delay": "10s"])
        let sourceURL = source.conninfo(), targetURL = target.conninfo()
        try await source.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        try await target.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        try await source.execute("CREATE PUBLICATION p FOR TABLE t")
        try await source.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        var replication = ReplicationSettings()
        replication.snapshot = .never
        replication.heartbeatMilliseconds = 200
        return (
            source, target,
            DirectionSettings(
                sourceName: "bot", targetName: "sync", source: ConnectionOptions(sourceURL),
                target: ConnectionOptions(targetURL), slot: "s", publication: "p", backend: .replica,
                replication: replication, policy: nil)
        )
    }

    private func start(_ settings: DirectionSettings, _ state: DirectionState) -> Task<Void, any Error> {
        Task {
            let sync = InitialSync(settings: settings, state: state, logger: FreshPair.quiet)
            try await DirectionSupervisor(
                settings: settings, state: state, logger: FreshPair.quiet, worker: "test", prepare: { _ in try await sync.run() }
            ).run()
        }
    }

    private func count(_ cluster: PostgresCluster) async throws -> String? {
        try await cluster.execute("SELECT count(*) || ' ' || coalesce(sum(v), 0) FROM t").rows.first?[0]
    }

    @Test func restartOfEitherServerIsOutlived() async throws {
        let (source, target, settings) = try await pair()
        defer { source.remove(); target.remove() }
        let state = DirectionState()
        let running = start(settings, state)
        try await source.execute("INSERT INTO t SELECT i, 1 FROM generate_series(1, 100) i")
        try await waitUntil("rows arrive") { try await count(target) == "100 100" }
        for mode in ["fast", "immediate"] {
            try await target.stop(mode: mode)
            try await source.execute("INSERT INTO t SELECT max(id) + 1, 1 FROM t; UPDATE t SET v = v + 1 WHERE id <= 10")
            try await waitUntil("the loss is noticed") { state.phase == .reconnecting }
            try await target.restart()
            let expected = try await count(source)
            try await waitUntil("the target is whole again") { try await count(target) == expected }
            try await source.stop(mode: mode)
            try await source.restart()
            try await source.execute("INSERT INTO t SELECT max(id) + 1, 1 FROM t; DELETE FROM t WHERE id = (SELECT min(id) FROM t)")
            let after = try await count(source)
            try await waitUntil("the stream is back") { try await count(target) == after }
        }
        #expect(state.snapshot().reconnects >= 2)
        state.drain()
        try await running.value
    }

    @Test func acknowledgedChangesSurviveACrashOfTheTarget() async throws {
        let (source, target, settings) = try await pair()
        defer { source.remove(); target.remove() }
        let state = DirectionState()
        let running = start(settings, state)
        try await waitUntil("it streams") { state.phase == .streaming }
        for round in 1...3 {
            try await source.execute("INSERT INTO t SELECT i, 1 FROM generate_series(\(round * 1000), \(round * 1000) + 99) i")
            let lsn = try await source.execute("SELECT pg_current_wal_insert_lsn()").rows.first?[0] ?? ""
            try await waitUntil("the source may forget it") {
                try await source.execute("SELECT confirmed_flush_lsn >= '\(lsn)' FROM pg_replication_slots").rows.first?[0] == "t"
            }
            try await target.stop(mode: "immediate")
            try await target.restart()
            try await waitUntil("the stream is back") { state.phase == .streaming || state.phase == .stopped }
            let expected = try await count(source)
            try await waitUntil("everything is there") { try await count(target) == expected }
        }
        state.drain()
        try await running.value
    }

    @Test func killedSessionsAreReplaced() async throws {
        let (source, target, settings) = try await pair()
        defer { source.remove(); target.remove() }
        let state = DirectionState()
        let running = start(settings, state)
        try await waitUntil("it streams") { state.phase == .streaming }
        for round in 1...6 {
            try await source.execute("INSERT INTO t SELECT i, 1 FROM generate_series(\(round * 1000), \(round * 1000) + 500) i")
            let cluster = round % 2 == 0 ? source : target
            try await cluster.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lindero' AND pid <> pg_backend_pid()")
        }
        let expected = try await count(source)
        try await waitUntil("nothing is lost or doubled") { try await count(target) == expected }
        state.drain()
        try await running.value
    }

    @Test func recreatedSlotIsRefused() async throws {
        let (source, target, settings) = try await pair()
        defer { source.remove(); target.remove() }
        let state = DirectionState()
        let running = start(settings, state)
        try await source.execute("INSERT INTO t VALUES (1, 1)")
        try await waitUntil("rows arrive") { try await count(target) == "1 1" }
        state.drain()
        try await running.value
        try await source.execute("SELECT pg_drop_replication_slot('s')")
        let missing = await #expect(throws: ReplicationFailure.self) {
            try await start(settings, DirectionState()).value
        }
        #expect(missing?.code == .slotMissing)
        try await source.execute("INSERT INTO t VALUES (2, 2)")
        try await source.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        let recreated = await #expect(throws: ReplicationFailure.self) {
            try await start(settings, DirectionState()).value
        }
        #expect(recreated?.code == .slotRecreated)
        #expect(recreated?.isBlocker == true)
        #expect(try await count(target) == "1 1")
    }

    /// Killed while its slot was made, a worker leaves a session that waits for a transaction, and a slot without a position.
    @Test func slotThatIsStillBeingMadeIsWaitedFor() async throws {
        let (source, target, settings) = try await pair()
        defer { source.remove(); target.remove() }
        try await source.execute("SELECT pg_drop_replication_slot('s')")
        let holder = try await PostgresConnection.connect(settings.source)
        let maker = try await PostgresConnection.connect(settings.source)
        _ = try await holder.execute("BEGIN; SELECT pg_current_xact_id()")
        async let made = maker.query("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        try await waitUntil("it is being made") {
            try await source.execute("SELECT active AND confirmed_flush_lsn IS NULL FROM pg_replication_slots").rows.first?[0] == "t"
        }
        let state = DirectionState()
        let running = start(settings, state)
        try await waitUntil("the worker has seen it") {
            try await source.execute("SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%confirmed_flush_lsn IS NULL AND wal_status%'").rowCount > 0
        }
        _ = try await holder.execute("COMMIT")
        _ = try await made
        await maker.close()
        await holder.close()
        try await waitUntil("it streams") { state.phase == .streaming }
        try await source.execute("INSERT INTO t VALUES (1, 1)")
        try await waitUntil("rows arrive") { try await count(target) == "1 1" }
        state.drain()
        try await running.value
    }

    @Test func slotInvalidatedForItsSizeIsSaidSo() async throws {
        let (source, target, settings) = try await pair()
        defer { source.remove(); target.remove() }
        try await source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        try await source.execute("SELECT pg_reload_conf()")
        for _ in 0..<4 {
            try await source.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 9000000)), pg_switch_wal()")
        }
        try await waitUntil("the slot is lost") {
            // The first ones may not have heard of the limit yet.
            try await source.execute("CHECKPOINT")
            return try await source.execute("SELECT wal_status FROM pg_replication_slots").rows.first?[0] == "lost"
        }
        let failure = await #expect(throws: ReplicationFailure.self) { try await start(settings, DirectionState()).value }
        #expect(failure?.code == .slotInvalidated)
    }

    @Test func publicationDroppedUnderTheStreamIsNamed() async throws {
        let (source, target, settings) = try await pair()
        defer { source.remove(); target.remove() }
        let state = DirectionState()
        let running = start(settings, state)
        try await waitUntil("it streams") { state.phase == .streaming }
        try await source.execute("DROP PUBLICATION p")
        try await source.execute("INSERT INTO t VALUES (1, 1)")
        let failure = await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(failure?.code == .publicationMissing)
    }

    @Test func idleSourceStillLetsTheSlotMoveOn() async throws {
        let (source, target, settings) = try await pair()
        defer { source.remove(); target.remove() }
        let state = DirectionState()
        let running = start(settings, state)
        try await waitUntil("it streams") { state.phase == .streaming }
        try await source.execute("CREATE TABLE other AS SELECT i FROM generate_series(1, 100000) i")
        let lsn = try await source.execute("SELECT pg_current_wal_insert_lsn()").rows.first?[0] ?? ""
        try await waitUntil("the slot has passed WAL that was not for us") {
            try await source.execute("SELECT confirmed_flush_lsn >= '\(lsn)' FROM pg_replication_slots WHERE slot_name = 's'")
                .rows.first?[0] == "t"
        }
        state.drain()
        try await running.value
    }
}
