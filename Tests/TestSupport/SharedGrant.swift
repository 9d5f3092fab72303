import PostgresClient

extension PostgresConnection {
    /// Runs SQL that changes rights of the whole server, as those to a parameter: of two tests that do so at once, one is told
    /// to try again, or that what it makes is there by now.
    public nonisolated func executeOnSharedServer(_ sql: String) async throws {
        try await waitUntil("nobody else changes the server's rights") {
            do throws(PostgresError) {
                _ = try await execute(sql)
                return true
            } catch {
                guard ["XX000", "23505"].contains(error.sqlState?.rawValue) else { throw error }
                return false
            }
        }
    }
}
