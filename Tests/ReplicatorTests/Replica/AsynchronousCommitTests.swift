import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// The target commits without waiting for its disk; the source is told only of what is there.
@Suite struct AsynchronousCommitTests {
    private static let table = "CREATE TABLE t (id int PRIMARY KEY, v text)"

    /// A server that writes its log by itself every ten seconds only.
    private func lazyCluster() async throws -> PostgresCluster {
        try await PostgresCluster.start(settings: ["wal_writer_delay": "10000ms", "wal_writer_flush_after": "1GB"])
    }

    private func pair(_ cluster: PostgresCluster) async throws -> ReplicaPair {
        try await ReplicaPair(Self.table, targetCluster: cluster)
    }

    /// Whatever the server had not written to its disk is gone.
    private func crash(_ cluster: PostgresCluster) async throws {
        try await cluster.stop(mode: "immediate")
        try await cluster.restart()
    }

    private func expectSame(_ pair: ReplicaPair, atLeast: Int) async throws {
        let target = try await ReplicaPair.connect(pair.targetURL)
        let expected = try await pair.rows("SELECT * FROM t ORDER BY id", on: pair.source)
        #expect(expected.count >= atLeast)
        #expect(try await pair.rows("SELECT * FROM t ORDER BY id", on: target) == expected)
        await target.close()
    }

    private func confirmed(_ pair: ReplicaPair) async throws -> LSN {
        let row = try await pair.rows(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '\(pair.slot)'", on: pair.source).first?[0]
        return try #require(row.flatMap { LSN($0) })
    }

    @Test func aCrashOfTheTargetLosesNothingThatWasAcknowledged() async throws {
        let cluster = try await lazyCluster()
        let pair = try await pair(cluster)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 500) i", state)
            // Shown, not durable: so not acknowledged.
            let applied = state.appliedLSN
            #expect(state.durableLSN < applied)
            #expect(try await confirmed(pair) < applied)
            try await crash(cluster)
            try await pair.apply("UPDATE t SET v = 'y' WHERE id % 2 = 0", state)
            try await expectSame(pair, atLeast: 500)
        }
        cluster.remove()
    }

    /// Whatever comes next, what came before is asked for.
    @Test func whatKeepsComingIsAcknowledgedMeanwhile() async throws {
        let pair = try await ReplicaPair(Self.table)
        try await pair.streaming { state in
            var tenth = LSN.zero
            for id in 1...1_000 {
                _ = try await pair.source.execute("INSERT INTO t VALUES (\(id), 'x')")
                if id == 10 {
                    let position = try await pair.source.query("SELECT pg_current_wal_insert_lsn()::text").firstValue
                    tenth = try #require(position.flatMap { LSN($0) })
                }
                if id > 10, id % 10 == 0, state.durableLSN >= tenth, try await confirmed(pair) >= tenth { return }
                try await Task.sleep(for: .milliseconds(10))
            }
            Issue.record("of ten seconds' transactions none was acknowledged")
        }
    }

    @Test func whatTheLastWorkerLeftIsDurableBeforeTheNextOneAcknowledgesIt() async throws {
        let cluster = try await lazyCluster()
        let pair = try await pair(cluster)
        let first = DirectionState()
        let running = pair.start(first)
        try await pair.apply("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 500) i", first)
        let applied = first.appliedLSN
        // As a kill would: without the drain that settles everything.
        running.cancel()
        _ = await running.result
        #expect(try await confirmed(pair) < applied)
        try await pair.streaming { state in
            try await waitUntil("the source may forget it") { try await confirmed(pair) >= applied }
            try await crash(cluster)
            try await pair.apply("INSERT INTO t VALUES (1000, 'z')", state)
            try await expectSame(pair, atLeast: 501)
        }
        cluster.remove()
    }

    @Test func aDrainLeavesNothingUnsettled() async throws {
        let cluster = try await lazyCluster()
        let pair = try await pair(cluster)
        let state = DirectionState()
        let running = pair.start(state)
        try await pair.apply("INSERT INTO t VALUES (1, 'x')", state)
        let applied = state.appliedLSN
        state.drain()
        try await running.value
        #expect(state.durableLSN >= applied)
        #expect(try await confirmed(pair) >= applied)
        try await crash(cluster)
        try await expectSame(pair, atLeast: 1)
        cluster.remove()
    }

    /// Pieces of a large transaction are on the target, and an earlier commit is not settled: what settles that must not
    /// commit them.
    @Test func aDrainInTheMiddleOfALargeTransactionLeavesNothingOfIt() async throws {
        let cluster = try await lazyCluster()
        let pair = try await pair(cluster)
        let state = DirectionState()
        let running = pair.start(state)
        try await pair.apply("INSERT INTO t VALUES (0, 'first')", state)
        _ = try await pair.source.execute(
            """
            BEGIN; INSERT INTO t VALUES (1, 'small'); COMMIT;
            INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(2, 100000) i
            """)
        try await waitUntil("a piece is on the target") {
            let writing = """
                SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND backend_xid IS NOT NULL AND query LIKE 'COPY%'
                """
            return try await !pair.rows(writing, on: pair.target).isEmpty
        }
        state.drain()
        try await running.value
        let count = try await pair.rows("SELECT count(*) FROM t", on: pair.target)
        #expect(count == [["2"]] || count == [["100001"]])
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (200000, 'last')", state)
            try await pair.expectSame("SELECT count(*), sum(hashtext(t::text)) FROM t")
        }
        cluster.remove()
    }

    @Test(arguments: [("", "off"), ("nobody", "remote_apply")])
    func aTargetWithSynchronousStandbysCommitsAsItsAdministratorSays(_ standbys: String, _ expected: String) async throws {
        let cluster = try await PostgresCluster.start(
            settings: ["synchronous_standby_names": standbys, "synchronous_commit": "remote_apply"])
        let target = try await PostgresConnection.connect(ConnectionOptions(cluster.conninfo()))
        try await DirectionRun.commitAsynchronously(target)
        #expect(try await target.query("SHOW synchronous_commit").firstValue == expected)
        await target.close()
        cluster.remove()
    }
}
