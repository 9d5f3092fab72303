import PostgresClient
import ReplicationCore
import Replicator

/// Sessions of a service on the database that it does not live in any more: what they write there is their own, and nobody
/// else's.
enum StrayService {
    /// Those of the service whose home is the other database.
    static func sessions(_ loaded: LoadedConfiguration, on database: Database, of service: String) async throws -> [ServiceSession] {
        let roles = loaded.configuration.database(service)?.roles ?? []
        if roles.isEmpty { return [] }
        return try await database.connected { try await ServiceSessions(connection: $0, roles: roles).read() }
    }

    /// Of the origin's own service, on the other database: sessions that may write there. Who only reads may stay.
    static func visitors(_ loaded: LoadedConfiguration, _ pair: PhasePair) async throws -> [ServiceSession] {
        let tables = try await pair.origin.connected { try await loaded.policy($0).tables.keys.sorted() }
        let declared = Set(loaded.configuration.database(pair.origin.name)?.roles ?? [])
        return try await pair.other.connected { connection in
            let writers = try await ServiceSessions.writers(of: tables, on: connection).map(\.name).filter(declared.contains)
            return writers.isEmpty ? [] : try await ServiceSessions(connection: connection, roles: writers).read()
        }
    }

    /// Good to know while services move, and after it: its writes there do not come home for ever.
    static func visitorWords(_ loaded: LoadedConfiguration) async -> [String] {
        guard loaded.state.worker.backend == .split, let pair = try? PhasePair(loaded) else { return [] }
        guard let sessions = try? await visitors(loaded, pair), !sessions.isEmpty else { return [] }
        return [
            "service \(pair.origin.name) writes to \(pair.other.name), and what it writes to its own columns there stays there once the "
                + "services have moved: \(sessions.prefix(5).map(\.description).joined(separator: "; "))"
        ]
    }

    /// In a settled split: why nobody may rest yet.
    static func words(_ loaded: LoadedConfiguration) async -> [String] {
        guard loaded.state.worker == .split, let pair = try? PhasePair(loaded) else { return [] }
        guard let sessions = try? await sessions(loaded, on: pair.origin, of: pair.other.name), !sessions.isEmpty else { return [] }
        return [
            "service \(pair.other.name) is still on \(pair.origin.name), where what it writes to its own columns stays: "
                + sessions.prefix(5).map(\.description).joined(separator: "; ")
        ]
    }
}
