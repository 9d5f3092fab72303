extension PostgresConnection {
    /// One transaction: all that `body` does on this connection, or nothing of it. An error of a statement has to leave `body`, for a
    /// COMMIT of what has failed looks as if it were done; and nothing in it may begin another transaction.
    ///
    /// - Parameter beginning: what it begins with (`SET LOCAL …`, a lock), sent with its BEGIN.
    /// - Throws: what `body` threw, after the rollback; `PostgresError` of BEGIN or COMMIT. Whether a COMMIT was done of which
    ///   the connection broke, nobody knows: a caller that goes on afterwards looks.
    nonisolated(nonsending) public func inTransaction<Value>(
        _ beginning: String = "", _ body: nonisolated(nonsending) () async throws -> Value
    ) async throws -> Value {
        do {
            _ = try await execute(beginning.isEmpty ? "BEGIN" : "BEGIN; \(beginning)")
            let value = try await body()
            _ = try await execute("COMMIT")
            return value
        } catch {
            // Also after a BEGIN with which something was refused.
            do { try await rollback() } catch { await close() }
            throw error
        }
    }
}
