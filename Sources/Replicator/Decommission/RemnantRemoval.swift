import PostgresClient
import ReplicationCore

/// Removes one thing by the statements that it names, and nothing else.
public struct RemnantRemoval: Sendable {
    /// How long a table's writers are waited for.
    static let lockTimeoutMilliseconds = 5_000

    let connection: PostgresConnection

    public init(connection: PostgresConnection) { self.connection = connection }

    public enum Failure: Error, Sendable {
        /// Somebody took it since it was looked at.
        case inUse
        /// Writers of the table were waited for in vain.
        case locked
    }

    /// - Throws: `Failure`, `PostgresError`; nothing was changed then.
    public func run(_ remnant: Remnant) async throws {
        do {
            switch remnant.kind {
            case .slot, .publication, .origin:
                for statement in remnant.sql { _ = try await connection.execute(statement) }
            case .schema: try await Migrator(connection: connection).removeOwnSchema()
            case .refusal, .identity, .role, .column, .guarded:
                try await connection.inTransaction("SET LOCAL lock_timeout = \(Self.lockTimeoutMilliseconds)") {
                    for statement in remnant.sql { _ = try await connection.execute(statement) }
                }
            }
        } catch let error as PostgresError {
            if error.isObjectInUse { throw Failure.inUse }
            if error.sqlState?.rawValue == "55P03" { throw Failure.locked }
            throw error
        }
    }
}
