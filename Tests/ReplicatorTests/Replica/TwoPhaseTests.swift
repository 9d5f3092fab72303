import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Transactions that are prepared at the source are prepared on the target.
///
/// On clusters apart, one test at a time: what stays prepared is in the way of whoever makes a slot there.
@Suite(.serialized) struct TwoPhaseTests {
    private static let table = "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;"
    private static let all = "SELECT count(*), sum(hashtext(t::text)::bigint), max(id) FROM t"

    private func pair(
        streaming: ReplicationSettings.Streaming = .off, target: PostgresCluster? = nil, policy: OwnershipPolicy? = nil
    ) async throws -> ReplicaPair {
        var replication = ReplicationSettings()
        replication.twoPhase = true
        replication.streaming = streaming
        replication.memoryLimitBytes = 4_000_000
        let cluster: PostgresCluster
        if let target { cluster = target } else { cluster = try await PostgresCluster.shared("prepared target") }
        return try await ReplicaPair(
            StreamingPair.workMemory + Self.table, policy: policy, replication: replication, cluster: "prepared",
            targetCluster: cluster)
    }

    /// What stands prepared on the target.
    private func standing(_ pair: ReplicaPair) async throws -> Int {
        try await pair.rows("SELECT 1 FROM pg_prepared_xacts WHERE database = current_database()", on: pair.target).count
    }

    private func prepare(_ sql: String, as gid: String, _ pair: ReplicaPair) async throws {
        _ = try await pair.source.execute("BEGIN; \(sql); PREPARE TRANSACTION '\(gid)'")
    }

    private func expectEqual(_ pair: ReplicaPair, _ state: DirectionState) async throws {
        try await pair.catchUp(state)
        try await pair.expectSame(Self.all)
        #expect(try await standing(pair) == 0)
    }

    @Test func preparedTransactionIsShownOnlyAfterItsCommit() async throws {
        let pair = try await pair()
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t SELECT i, 'old' FROM generate_series(1, 10) i", state)
            try await prepare("INSERT INTO t VALUES (100, 'p'); UPDATE t SET v = 'p' WHERE id < 4; DELETE FROM t WHERE id = 4", as: "a", pair)
            // Others go on meanwhile, before the source's row locks end.
            for id in 11...30 { try await pair.apply("INSERT INTO t VALUES (\(id), 'later'); UPDATE t SET v = 'later' WHERE id = 5", state) }
            #expect(try await standing(pair) == 1)
            let shown = try await pair.rows("SELECT count(*) FILTER (WHERE v = 'p'), count(*) FILTER (WHERE id = 4), count(*) FROM t", on: pair.target)
            #expect(shown == [["0", "1", "30"]])
            _ = try await pair.source.execute("COMMIT PREPARED 'a'")
            try await expectEqual(pair, state)
        }
    }

    /// It would hold its locks for ever, and the tables could not be emptied for a copy.
    @Test func nothingIsTakenDownAroundOneThatStands() async throws {
        let pair = try await pair()
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 'old')", state)
            try await prepare("UPDATE t SET v = 'p' WHERE id = 1", as: "a", pair)
            try await pair.catchUp(state)
        }
        let gid = try #require(try await pair.rows("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", on: pair.target).first?[0])
        for down in [{ try await $0.requireRemovable() }, { _ = try await $0.migrateDown() }] as [(Migrator) async throws -> Void] {
            await #expect {
                try await down(Migrator(connection: pair.target))
            } throws: { "\($0)".contains("ROLLBACK PREPARED '\(gid)';") }
        }
        _ = try await pair.target.execute("ROLLBACK PREPARED '\(gid)'")
        try await Migrator(connection: pair.target).migrateDown()
        _ = try await pair.source.execute("ROLLBACK PREPARED 'a'")
    }

    @Test func rolledBackAndEmptyOnesLeaveNothing() async throws {
        let pair = try await pair()
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 'old')", state)
            try await prepare("UPDATE t SET v = 'p' WHERE id = 1", as: "a", pair)
            try await prepare("CREATE TABLE other (id int)", as: "b", pair)
            try await pair.catchUp(state)
            #expect(try await standing(pair) == 2)
            _ = try await pair.source.execute("ROLLBACK PREPARED 'a'")
            _ = try await pair.source.execute("COMMIT PREPARED 'b'")
            // The row is free again on both sides, and so is the name.
            try await pair.apply("UPDATE t SET v = 'new' WHERE id = 1", state)
            try await expectEqual(pair, state)
            try await prepare("UPDATE t SET v = 'newer' WHERE id = 1", as: "a", pair)
            _ = try await pair.source.execute("COMMIT PREPARED 'a'")
            try await expectEqual(pair, state)
        }
    }

    /// The server leaves out what it can't read of it any more, and sends an update of rows that it has not sent.
    @Test func oneThatIsRolledBackBeforeItIsReadComesWithHolesAndToNothing() async throws {
        let pair = try await pair(streaming: .on)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t SELECT i, 'old' FROM generate_series(-3000, 0) i", state)
            try await prepare("INSERT INTO t VALUES (5000, 'old')", as: "first", pair)
            try await pair.catchUp(state)
            #expect(try await standing(pair) == 1)
            try await pair.apply("COMMIT PREPARED 'first'", state)
        }
        let other = try await ReplicaPair.connect(pair.sourceURL)
        _ = try await pair.source.execute("BEGIN; INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i")
        // By it the walsender knows the table, each time that the stream begins: else it would leave out everything.
        _ = try await other.execute("BEGIN; UPDATE t SET v = 'new' WHERE id <= 0")
        _ = try await pair.source.execute("SAVEPOINT a; UPDATE t SET v = 'p' WHERE id > 0; PREPARE TRANSACTION 'a'")
        _ = try await pair.source.execute("ROLLBACK PREPARED 'a'")
        _ = try await other.execute("COMMIT")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 'later')", state)
            try await expectEqual(pair, state)
        }
    }

    @Test(arguments: [ReplicationSettings.Streaming.off, .on])
    func largeOneIsPreparedOnceWhole(streaming: ReplicationSettings.Streaming) async throws {
        let pair = try await pair(streaming: streaming)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (0, 'old')", state)
            try await prepare(StreamingPair.rows(1, 60_000) + "; SAVEPOINT s; DELETE FROM t WHERE id < 30000; ROLLBACK TO s", as: "a", pair)
            try await pair.apply("INSERT INTO t VALUES (70000, 'later')", state)
            #expect(try await standing(pair) == 1)
            #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["2"]])
            #expect(streaming == .off || state.snapshot().streaming.transactions > 0)
            _ = try await pair.source.execute("COMMIT PREPARED 'a'")
            try await expectEqual(pair, state)
        }
    }

    @Test func oneThatStandsOutlivesRestartsOfWorkerAndTarget() async throws {
        let target = try await PostgresCluster.start(settings: ["wal_writer_delay": "10000ms"])
        let pair = try await pair(target: target)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t SELECT i, 'old' FROM generate_series(1, 5) i", state)
            try await prepare("UPDATE t SET v = 'p' WHERE id = 1", as: "a", pair)
            try await prepare("UPDATE t SET v = 'q' WHERE id = 2", as: "b", pair)
            try await pair.apply("INSERT INTO t VALUES (6, 'later')", state)
            try await target.stop(mode: "immediate")
            try await target.restart()
            // Its commit is on disk at once, and the progress that says so is not.
            try await pair.apply("COMMIT PREPARED 'a'", state)
            try await target.stop(mode: "immediate")
            try await target.restart()
            try await pair.apply("INSERT INTO t VALUES (7, 'later')", state)
        }
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (8, 'later')", state)
            let again = try await ReplicaPair.connect(pair.targetURL)
            #expect(try await pair.rows("SELECT id, v FROM t WHERE id < 3 ORDER BY id", on: again) == [["1", "p"], ["2", "old"]])
            #expect(try await pair.rows("SELECT 1 FROM pg_prepared_xacts", on: again).count == 1)
            _ = try await pair.source.execute("COMMIT PREPARED 'b'")
            try await pair.catchUp(state)
            #expect(try await pair.rows("SELECT * FROM t ORDER BY id", on: again) == pair.rows("SELECT * FROM t ORDER BY id", on: pair.source))
            #expect(try await pair.rows("SELECT 1 FROM pg_prepared_xacts", on: again).isEmpty)
            await again.close()
        }
        target.remove()
    }

    /// The server sends its Prepare and its commit together then, and the Prepare's place lies far behind the progress.
    @Test func oneThatWasPreparedBeforeTheSlotKnewComesAtItsCommit() async throws {
        let pair = try await pair()
        var plain = pair.settings
        plain.replication.twoPhase = false
        let first = DirectionState()
        let running = pair.start(first, settings: plain)
        try await prepare("INSERT INTO t VALUES (1, 'p')", as: "a", pair)
        try await prepare("INSERT INTO t VALUES (2, 'q')", as: "b", pair)
        try await pair.apply("INSERT INTO t VALUES (3, 'later')", first)
        first.drain()
        try await running.value
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (4, 'later')", state)
            #expect(try await standing(pair) == 0)
            _ = try await pair.source.execute("COMMIT PREPARED 'a'")
            _ = try await pair.source.execute("ROLLBACK PREPARED 'b'")
            try await expectEqual(pair, state)
        }
        // Once it knows, there is no way back.
        let stopped = DirectionState()
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.start(stopped, settings: plain).value }
        #expect(failure?.code == .slotTwoPhase && failure?.nextStep.contains("two_phase: true") == true)
    }

    @Test func badChangeStopsBeforeItsTransactionIsPrepared() async throws {
        let pair = try await pair()
        _ = try await pair.target.execute("INSERT INTO t VALUES (2, 'in the way')")
        let state = DirectionState()
        let running = pair.start(state)
        _ = try await pair.source.execute("INSERT INTO t VALUES (1, 'first')")
        try await prepare("INSERT INTO t VALUES (2, 'p'), (3, 'p')", as: "a", pair)
        _ = try await pair.source.execute("COMMIT PREPARED 'a'")
        let failure = await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(failure?.code == .changeRefused)
        #expect(try await standing(pair) == 0)
        #expect(try await pair.rows("SELECT id FROM t ORDER BY id", on: pair.target) == [["1"], ["2"]])
        _ = try await pair.target.execute("DELETE FROM t WHERE id = 2")
        try await pair.streaming { try await expectEqual(pair, $0) }
    }

    @Test func oneThatSomebodyEndedOnTheTargetStopsTheDirection() async throws {
        let pair = try await pair()
        let state = DirectionState()
        let running = pair.start(state)
        try await prepare("INSERT INTO t VALUES (1, 'p')", as: "a", pair)
        try await pair.catchUp(state)
        let name = try #require(try await pair.rows("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", on: pair.target).first?[0])
        #expect(name.hasPrefix("lindero_") && name.contains("bot->sync"))
        _ = try await pair.target.execute("ROLLBACK PREPARED '\(name)'")
        _ = try await pair.source.execute("COMMIT PREPARED 'a'; ")
        let failure = await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(failure?.code == .preparedGone)
        // And does so again.
        let again = await #expect(throws: ReplicationFailure.self) { try await pair.start(DirectionState()).value }
        #expect(again?.code == .preparedGone)
    }

    @Test func targetWithoutPreparedTransactionsIsRefused() async throws {
        let target = try await PostgresCluster.start(settings: ["max_prepared_transactions": "0"])
        let pair = try await pair(target: target)
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.start(DirectionState()).value }
        #expect(failure?.code == .preparedDisabled && failure?.nextStep.contains("max_prepared_transactions") == true)
        target.remove()
    }

    @Test func copyComesFirstAndNoneAfter() async throws {
        var replication = ReplicationSettings()
        replication.twoPhase = true
        var pair = try await FreshPair(
            Self.table + "CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1); INSERT INTO t VALUES (1, 'x')",
            policy: FreshPair.policy(["t"]), replication: replication, sourceCluster: "prepared", targetCluster: "prepared target")
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams") { state.phase == .streaming }
        _ = try await pair.source.execute("BEGIN; INSERT INTO t VALUES (2, 'p'); PREPARE TRANSACTION 'a'")
        try await pair.catchUp(state)
        #expect(try await pair.rows("SELECT 1 FROM pg_prepared_xacts WHERE database = current_database()", on: pair.target).count == 1)
        _ = try await pair.source.execute("COMMIT PREPARED 'a'")
        try await pair.catchUp(state)
        try await pair.expectSame("SELECT * FROM t ORDER BY id")
        state.drain()
        try await running.value
        pair.settings.policy = FreshPair.policy(["t", "later"])
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .slotTwoPhase && failure?.message.contains("later") == true)
        #expect(try await pair.rows("SELECT to_regclass('later')", on: pair.target) == [[nil]])
    }

    /// A table was copied after the slot was made: the stream begins without, and begins again once it has passed the copy.
    @Test func streamThatIsOlderThanACopyBeginsAgainOnceItHasPassedIt() async throws {
        var pair = try await FreshPair(
            Self.table + "CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)",
            policy: FreshPair.policy(["t"]), sourceCluster: "prepared", targetCluster: "prepared target")
        try await pair.sync()
        _ = try await pair.source.execute("INSERT INTO t VALUES (1, 'before'); INSERT INTO later VALUES (2)")
        pair.settings.replication.twoPhase = true
        pair.settings.policy = FreshPair.policy(["t", "later"])
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("the slot sends prepared transactions") {
            try await pair.rows(
                "SELECT 1 FROM pg_replication_slots WHERE slot_name = '\(pair.settings.slot)' AND two_phase AND active", on: pair.source
            ).count == 1
        }
        _ = try await pair.source.execute("BEGIN; INSERT INTO later VALUES (3); PREPARE TRANSACTION 'a'")
        try await pair.catchUp(state)
        #expect(try await pair.rows("SELECT 1 FROM pg_prepared_xacts WHERE database = current_database()", on: pair.target).count == 1)
        _ = try await pair.source.execute("COMMIT PREPARED 'a'")
        try await pair.catchUp(state)
        try await pair.expectSame("SELECT * FROM later ORDER BY id")
        try await pair.expectSame("SELECT * FROM t ORDER BY id")
        state.drain()
        try await running.value
    }

    @Test func preparedTransactionsOfAnEarlierLifeAreRefusedAndTheAdviceWorks() async throws {
        let pair = try await pair()
        let state = DirectionState()
        let running = pair.start(state)
        try await prepare("INSERT INTO t VALUES (1, 'p')", as: "a", pair)
        try await pair.catchUp(state)
        state.drain()
        try await running.value
        _ = try await pair.source.execute("ROLLBACK PREPARED 'a'")
        _ = try await pair.target.execute("DELETE FROM lindero.direction")
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.start(DirectionState()).value }
        #expect(failure?.code == .preparedLeft)
        let advice = try #require(failure?.nextStep.firstMatch(of: /ROLLBACK PREPARED '[^']+';/)?.output)
        _ = try await pair.target.execute(String(advice))
        #expect(try await standing(pair) == 0)
    }
}
