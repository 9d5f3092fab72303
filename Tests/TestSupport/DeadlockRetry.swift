import PostgresClient

extension PostgresConnection {
    /// Runs SQL, again for as often as the server ends it as a deadlock's victim: what a service has to do that writes
    /// several rows at once beside a worker (see Split.md).
    ///
    /// - Parameter sql: Statements that open no transaction block.
    public func executeDespiteDeadlocks(_ sql: String) async throws(PostgresError) {
        while true {
            do {
                _ = try await execute(sql)
                return
            } catch where error.sqlState == SQLState("40P01") {
                continue
            }
        }
    }
}
