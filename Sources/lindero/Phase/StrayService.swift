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
