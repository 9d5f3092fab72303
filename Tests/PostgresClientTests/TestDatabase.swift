import PostgresClient
import TestSupport

/// A fresh database on the shared cluster, for one test.
struct TestDatabase {
    let conninfo: String

    init() async throws {
        conninfo = try await PostgresCluster.shared().createDatabase(prefix: "client")
    }

    func connect() async throws -> PostgresConnection {
        try await PostgresConnection.connect(ConnectionOptions(conninfo))
    }
}

/// Runs `body` with a connection to a fresh database, and closes it.
func withConnection<Value: Sendable>(
    _ body: (PostgresConnection) async throws -> Value
) async throws -> Value {
    let connection = try await TestDatabase().connect()
    do {
        let value = try await body(connection)
        await connection.close()
        return value
    } catch {
        await connection.close()
        throw error
    }
}

/// The error that `body` throws as a `PostgresError`; nil when it throws none.
func postgresError(_ body: () async throws -> Void) async -> PostgresError? {
    do {
        try await body()
        return nil
    } catch {
        return error as? PostgresError
    }
}

func bigEndian<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.bigEndian) { Array($0) }
}
