import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// The progress is exactly what the data is.
@Suite struct ProgressTests {
    private func target(_ pair: ReplicaPair) async throws -> PostgresConnection {
        _ = try await PostgresConnection.with(pair.settings.target) { try await Migrator(connection: $0).migrate() }
        let target = try await PostgresConnection.connect(pair.settings.target)
        if try await DirectionRecord(connection: target, settings: pair.settings).read() == nil {
            try await DirectionRecord(connection: target, settings: pair.settings).create(
                systemIdentifier: "1", startLSN: LSN(0x1000))
        }
        return target
    }

    /// From PostgreSQL 16 on the origin advances with a transaction that is aborted after it named its LSN.
    @Test(arguments: [true, false]) func abortedTransactionDoesNotMoveTheProgress(isFirst: Bool) async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY)")
        let first = try await target(pair)
        #expect(try await ProgressOrigin(connection: first, direction: pair.settings.name).acquire() == .zero)
        var transaction = TargetTransaction(connection: first, direction: pair.settings.name)
        if !isFirst { try await transaction.commit(transaction.ending(endLSN: LSN(0x2000), commitTime: nil, heartbeat: nil)) }
        _ = try await first.execute("BEGIN; INSERT INTO public.t VALUES (1)")
        let progress = FusedStatement.sql([], plans: [])
        _ = try await first.query(
            progress.text, [.text(pair.settings.name), .binary(bigEndian(0x3000)), .null, .null],
            parameterTypes: progress.parameterTypes)
        _ = try await first.execute("ROLLBACK")
        await first.close()
        let second = try await target(pair)
        try await waitUntil("the first session is gone") {
            (try? await ProgressOrigin(connection: second, direction: pair.settings.name).acquire()) == (isFirst ? .zero : LSN(0x2000))
        }
        await second.close()
    }

    /// What is taken for rolled back and is not would commit with what comes next.
    @Test func aCancelledTaskRollsBack() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY)")
        let target = try await target(pair)
        var transaction = TargetTransaction(connection: target, direction: pair.settings.name)
        _ = try await transaction.run([.query(sql: "INSERT INTO public.t VALUES (1)", parameters: [], parameterTypes: [])])
        await Task { [transaction] in
            withUnsafeCurrentTask { $0?.cancel() }
            var transaction = transaction
            await transaction.rollBack()
        }.value
        _ = try await target.execute("COMMIT")
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["0"]])
        await target.close()
    }

    /// Sent before the answer to the one before it: nothing but the place that it is sent behind can hold it back.
    @Test(arguments: [false, true]) func whatIsSentBehindARefusedOneIsVoid(asksPosition: Bool) async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY)")
        let target = try await target(pair)
        _ = try await ProgressOrigin(connection: target, direction: pair.settings.name).acquire()
        try await sendAll(on: target, pair, asksPosition: asksPosition)
        #expect(try await pair.rows("SELECT id::text FROM t ORDER BY 1", on: pair.target) == [["1"], ["2"]])
        #expect(try await pair.rows("SELECT applied_lsn::text FROM lindero.direction", on: pair.target) == [["0/4000"]])
        await target.close()
    }

    /// Runs on the connection's own thread, which has nothing else to do.
    private func sendAll(on target: isolated PostgresConnection, _ pair: ReplicaPair, asksPosition: Bool) async throws {
        var transaction = TargetTransaction(connection: target, direction: pair.settings.name)
        try await transaction.commit(transaction.ending(endLSN: LSN(0x2000), commitTime: nil, heartbeat: nil))
        var endings: [TargetTransaction.Ending] = []
        for (number, values) in ["(1)", "(2)", "(1)", "(3)", "(4)"].enumerated() {
            var batch = StepBatch()
            batch.add("INSERT INTO public.t VALUES \(values)")
            let behind = UInt64(0x2000 + 0x1000 * number)
            let ending = transaction.ending(
                endLSN: LSN(behind + 0x1000), behind: LSN(behind), commitTime: nil, heartbeat: nil, after: batch,
                asksConstraints: false, asksPosition: asksPosition)
            try transaction.sendLent(ending, patienceMilliseconds: 100, whileWaiting: {})
            endings.append(ending)
        }
        for (number, ending) in endings.enumerated() {
            let answer = try target.awaitLent(patienceMilliseconds: 100, whileWaiting: {})
            if number < 2 {
                let position = try transaction.handleLent(answer, to: ending)
                #expect((position != nil) == asksPosition)
            } else {
                #expect(throws: (any Error).self) { try transaction.handleLent(answer, to: ending) }
            }
        }
        await transaction.rollBack()
    }

    @Test func directionWithoutItsRowCommitsNothing() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY)")
        let target = try await target(pair)
        _ = try await ProgressOrigin(connection: target, direction: pair.settings.name).acquire()
        var transaction = TargetTransaction(connection: target, direction: pair.settings.name)
        _ = try await transaction.run([.query(sql: "INSERT INTO public.t VALUES (1)", parameters: [], parameterTypes: [])])
        _ = try await pair.target.execute("DELETE FROM lindero.direction")
        do {
            try await transaction.commit(transaction.ending(endLSN: LSN(0x2000), commitTime: nil, heartbeat: nil))
            Issue.record("it committed data without progress")
        } catch ProgressError.noRow {}
        await transaction.rollBack()
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["0"]])
        await target.close()
    }

    @Test func transactionThatFindsNoRowStillRecordsItsProgress() async throws {
        var replication = ReplicationSettings()
        replication.missingRow = .count
        replication.heartbeatMilliseconds = 0
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)", replication: replication)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 1)", state)
            _ = try await pair.target.execute("DELETE FROM t")
            _ = try await pair.source.execute("UPDATE t SET v = 2")
            try await waitUntil("the update is counted") { state.snapshot().counters.missingRows == 1 }
            try await waitUntil("the source may forget it") { state.durableLSN > .zero }
            let durable = state.durableLSN
            try await waitUntil("the row says so") {
                let row = try await pair.rows("SELECT applied_lsn FROM lindero.direction", on: pair.target).first?[0]
                return row.flatMap { LSN($0) }.map { $0 >= durable } ?? false
            }
        }
        // A new worker starts without complaint, and applies nothing twice.
        try await pair.streaming { state in try await pair.apply("INSERT INTO t VALUES (2, 2)", state) }
        #expect(try await pair.rows("SELECT id FROM t", on: pair.target) == [["2"]])
    }

    @Test func anotherSlotUnderTheSameDirectionIsRefused() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY)")
        try await pair.streaming { state in try await pair.apply("INSERT INTO t VALUES (1)", state) }
        let other = pair.slot + "_b"
        _ = try await pair.source.execute("SELECT pg_create_logical_replication_slot('\(other)', 'pgoutput')")
        var settings = pair.settings
        settings.slot = other
        let state = DirectionState()
        let result = await pair.start(state, settings: settings).result
        let failure = #expect(throws: ReplicationFailure.self) { try result.get() }
        #expect(failure?.code == .otherSlot)
        #expect(failure?.isBlocker == true)
        _ = try await pair.source.execute("SELECT pg_drop_replication_slot('\(other)')")
    }
}
