import PostgresClient

extension PostgresConnection {
    /// Runs `body` with a connection that is closed afterwards, whatever happens.
    public static func with<Result: Sendable>(
        _ options: ConnectionOptions, _ body: (PostgresConnection) async throws -> Result
    ) async throws -> Result {
        let connection = try await PostgresConnection.connect(options)
        do {
            let result = try await body(connection)
            await connection.close()
            return result
        } catch {
            await connection.close()
            throw error
        }
    }
}

extension ReplicationConnection {
    /// The same with `replication=database`.
    public static func with<Result: Sendable>(
        _ options: ConnectionOptions, _ body: (ReplicationConnection) async throws -> Result
    ) async throws -> Result {
        let connection = try await ReplicationConnection.connect(options)
        do {
            let result = try await body(connection)
            await connection.close()
            return result
        } catch {
            await connection.close()
            throw error
        }
    }
}
