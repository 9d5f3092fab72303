import PostgresClient
import ReplicationCore

/// A service that has moved to its own database: what it writes on the side that it left would stay there, so that side refuses it.
///
/// Sessions tell who is there, not who comes tomorrow: a forgotten job would part the databases unseen. It hears of it instead.
public struct MovedService: Sendable {
    /// Writers queue behind who waits for a lock: no try may be longer.
    private static let tryMilliseconds = 50

    private let refusal: WriteRefusal

    public init(name: String, roles: [String], tables: [QualifiedName]) {
        refusal = WriteRefusal(service: name, roles: roles, tables: tables)
    }

    /// Refuses it from now on, one table after the other; who is in the way is waited for, a short time each try.
    ///
    /// - Parameter leftMilliseconds: how long that may take yet.
    /// - Returns: false where the role may not make triggers, being no owner of the tables.
    public func refuse(on connection: PostgresConnection, leftMilliseconds: () -> Int) async throws -> Bool {
        // One that was killed on the way may have left some.
        if try await refusal.refusing(on: connection).count == refusal.creation(on: connection).count { return true }
        do {
            try await refusal.create(
                on: connection, tryMilliseconds: Self.tryMilliseconds, longestMilliseconds: Self.tryMilliseconds,
                leftMilliseconds: leftMilliseconds)
            return true
        } catch let error as PostgresError where error.sqlState?.rawValue == "42501" {
            try await allow(on: connection, leftMilliseconds: leftMilliseconds)
            return false
        }
    }

    /// Takes its writes again.
    public func allow(on connection: PostgresConnection, leftMilliseconds: () -> Int) async throws {
        try await refusal.remove(
            on: connection, tryMilliseconds: Self.tryMilliseconds, longestMilliseconds: Self.tryMilliseconds,
            leftMilliseconds: leftMilliseconds)
    }
}
