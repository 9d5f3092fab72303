import PostgresClient
import ReplicationCore

/// A direction whose lag can be read from the databases, without its worker.
struct LagDirection: Sendable {
    enum Kind: Sendable {
        /// Shared mode's feed: the slot alone tells.
        case feed
        case replica(target: Database)
        /// A standby that PostgreSQL itself keeps.
        case standby(Database)
    }

    var kind: Kind
    var source: Database
    /// `nil` for a standby, whose own settings name it.
    var slot: String?
    var gates: Gates
    /// Heartbeat interval of the worker; 0 when it writes none.
    var heartbeatMilliseconds: Int
    var copiesFirst: Bool

    var isStandby: Bool {
        if case .standby = kind { true } else { false }
    }

    var name: String {
        switch kind {
        case .feed: "\(source.name)->feed"
        case .replica(let target): "\(source.name)->\(target.name)"
        case .standby(let standby): "\(source.name)->\(standby.name)"
        }
    }

    /// The directions of a configuration.
    static func all(_ loaded: LoadedConfiguration) async throws -> [LagDirection] {
        let configuration = loaded.configuration
        let origin = try loaded.origin()
        let others = try loaded.databases().filter { $0.name != origin.name }
        let copies = configuration.backend == .shared ? [] : others.filter { !$0.isPhysicalStandby }
        let kinds = copies.isEmpty ? [Kind.feed] : copies.map { Kind.replica(target: $0) }
        let forward = try await origin.connected { connection in
            var directions: [LagDirection] = []
            for kind in kinds + others.filter(\.isPhysicalStandby).map({ Kind.standby($0) }) {
                directions.append(
                    LagDirection(
                        kind: kind, source: origin, slot: try await slot(kind, loaded, connection),
                        gates: configuration.gates,
                        heartbeatMilliseconds: configuration.replication.heartbeatMilliseconds,
                        copiesFirst: configuration.replication.snapshot == .initial))
            }
            return directions
        }
        guard configuration.backend == .split, let other = copies.first else { return forward }
        let back = try await other.connected { try await SlotName.make($0, purpose: origin.name) }
        let backward = LagDirection(
            kind: .replica(target: origin), source: other, slot: back, gates: configuration.gates,
            heartbeatMilliseconds: configuration.replication.heartbeatMilliseconds, copiesFirst: false)
        return forward.prefix(1) + [backward] + forward.dropFirst()
    }

    static func adopted(_ direction: (source: Database, target: Database, slot: String)) -> LagDirection {
        LagDirection(
            kind: .replica(target: direction.target), source: direction.source, slot: direction.slot, gates: Gates(),
            heartbeatMilliseconds: ReplicationSettings().heartbeatMilliseconds, copiesFirst: false)
    }

    private static func slot(
        _ kind: Kind, _ loaded: LoadedConfiguration, _ connection: PostgresConnection
    ) async throws -> String? {
        if case .standby = kind { return nil }
        if let adopted = loaded.configuration.replication.slot { return adopted }
        if case .replica(let target) = kind { return try await SlotName.make(connection, purpose: target.name) }
        return try await SlotName.make(connection, purpose: "feed")
    }
}
