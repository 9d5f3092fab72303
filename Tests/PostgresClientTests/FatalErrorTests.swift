import TestSupport
import Testing

@testable import PostgresClient

/// A server that ends a session says why, and that is what callers get.
@Suite struct FatalErrorTests {
    private func terminate(_ application: String) async throws {
        let cluster = try await PostgresCluster.shared()
        try await waitUntil("the session is ended") {
            try await cluster.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '\(application)'"
                    + " AND state = 'active'"
            ).rowCount > 0
        }
    }

    private func options(_ application: String) async throws -> ConnectionOptions {
        var options = ConnectionOptions(try await TestDatabase().conninfo)
        options.settings.append((name: "application_name", value: application))
        return options
    }

    private func expectShutdown(_ error: PostgresError?) {
        #expect(error?.sqlState == SQLState("57P01"), "\(String(describing: error))")
        #expect(error?.isTransient == true)
    }

    @Test func statementOfATerminatedSessionThrowsTheServersError() async throws {
        let name = "fatal_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let connection = try await PostgresConnection.connect(try await options(name))
        let running = Task { _ = try await connection.execute("SELECT pg_sleep(60)") }
        try await terminate(name)
        expectShutdown(await postgresError { try await running.value })
        let again = Task { _ = try await connection.execute("SELECT 1") }
        guard case .closed = await postgresError({ try await again.value }) else {
            Issue.record("a call on a session that is gone does not say so")
            return
        }
    }

    @Test func streamOfATerminatedSessionThrowsTheServersError() async throws {
        let name = "fatal_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let options = try await options(name)
        let connection = try await PostgresConnection.connect(options)
        _ = try await connection.execute("CREATE PUBLICATION p FOR ALL TABLES")
        await connection.close()
        let stream = try await ReplicationConnection.connect(options.withoutSenderTimeout)
        _ = try await stream.createSlot(name, temporary: true)
        try await stream.startReplication(
            slot: name, at: 0, options: [("proto_version", "1"), ("publication_names", "p")])
        let reading = Task {
            while true { _ = try await stream.receive(maximumBytes: 1 << 20, waitMilliseconds: 100) }
        }
        try await terminate(name)
        expectShutdown(await postgresError { try await reading.value })
    }

    @Test func anyFatalErrorIsTransientForItsWork() async throws {
        let name = "fatal_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let connection = try await PostgresConnection.connect(try await options(name))
        _ = try await connection.execute("SET idle_in_transaction_session_timeout = 50; BEGIN")
        let cluster = try await PostgresCluster.shared()
        try await waitUntil("the server ends the session") {
            try await cluster.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = '\(name)'").rowCount == 0
        }
        let error = await postgresError { _ = try await connection.execute("SELECT 1") }
        #expect(error?.isTransient == true)
    }

    /// 24: the wake of a finished request could interrupt the next call.
    @Test func finishedCancelRequestRaisesNothingMore() async throws {
        let session = LibPQSession(ConnectionOptions(try await TestDatabase().conninfo), wake: try WakeEvent())
        try session.open()
        for _ in 0..<200 {
            session.wake.clear()
            let request = CancelRequest(for: try session.opened(), raising: session.wake)
            while !request.isFinished { await Task.yield() }
            session.wake.clear()
            let late = SocketWait.wait(
                socket: -1, reading: false, writing: false, wake: session.wake, deadline: Deadline(milliseconds: 1))
            guard case .timedOut = late else {
                Issue.record("a request that is finished woke a later call")
                return
            }
        }
        session.close()
    }
}
