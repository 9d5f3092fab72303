import PostgresClient
import TestSupport
import Testing

@testable import Replicator

/// Whose commits a comparison waits for.
@Suite struct HiddenCommitsTests {
    /// A session at work in a transaction, until `holder` lets it go.
    private func atWork(on url: String, heldBy holder: PostgresConnection) async throws -> Task<Void, any Error> {
        let worker = try await ReplicaPair.connect(url)
        let key = Int64.random(in: .min ... .max)
        _ = try await holder.execute("SELECT pg_advisory_lock(\(key))")
        let process = try #require(try await worker.query("SELECT pg_backend_pid()::text").firstValue)
        let task = Task {
            _ = try await worker.execute("BEGIN; SELECT pg_current_xact_id(); SELECT pg_advisory_xact_lock(\(key)); COMMIT")
            await worker.close()
        }
        try await waitUntil("the session is at work in a transaction") {
            try await holder.query(
                """
                SELECT 1 FROM pg_stat_activity
                WHERE pid = \(process) AND backend_xid IS NOT NULL AND wait_event_type = 'Lock'
                """
            ).rowCount == 1
        }
        return task
    }

    @Test func onlyTransactionsOfThisDatabaseAreWaitedFor() async throws {
        let cluster = try await PostgresCluster.shared("source")
        let (here, elsewhere) = (try await cluster.createDatabase(prefix: "here"), try await cluster.createDatabase(prefix: "there"))
        let connection = try await ReplicaPair.connect(here)
        let hidden = HiddenCommits(connection: connection, limitMilliseconds: 300)
        for (url, isWaitedFor) in [(elsewhere, false), (here, true)] {
            let holder = try await ReplicaPair.connect(url)
            let task = try await atWork(on: url, heldBy: holder)
            let isSettled = try await hidden.settle()
            #expect(isSettled != isWaitedFor)
            await holder.close()
            try await task.value
            let isSettledAfterwards = try await HiddenCommits(connection: connection).settle()
            #expect(isSettledAfterwards)
        }
        await connection.close()
    }
}
