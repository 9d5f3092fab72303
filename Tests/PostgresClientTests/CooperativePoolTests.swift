import PostgresClient
import TestSupport
import Testing

@Suite struct CooperativePoolTests {
    /// More statements wait than the pool has threads; were they to wait on it, nothing else would run.
    @Test func waitingStatementsLeaveTheCooperativePoolFree() async throws {
        let cluster = try await PostgresCluster.shared()
        let conninfo = cluster.conninfo(database: "postgres")
        try await withThrowingTaskGroup(of: PostgresConnection.self) { group in
            for _ in 0..<12 {
                group.addTask { try await PostgresConnection.connect(ConnectionOptions(conninfo)) }
            }
            var connections: [PostgresConnection] = []
            for try await connection in group { connections.append(connection) }
            let sleepers = connections.map { connection in
                Task { _ = try await connection.query("SELECT pg_catalog.pg_sleep(300)") }
            }
            try await waitUntil("every statement runs") {
                let sql =
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_catalog.pg_sleep(300)%'"
                return try await cluster.execute(sql)[row: 0, column: 0] == "12"
            }
            for sleeper in sleepers { sleeper.cancel() }
            for connection in connections { await connection.close() }
        }
    }
}
