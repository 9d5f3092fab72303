import Configuration
import PostgresClient
import ReplicationCore
import Replicator

/// What a worker will keep running: the directions that follow from the configuration and the live databases.
struct WorkerPlan: Sendable {
    enum Task: Sendable {
        /// Shared mode's feed of one database.
        case feed(DirectionSettings)
        /// A replica of one database in another.
        case replica(DirectionSettings)
        /// Both directions between two databases.
        case split(SplitSettings)

        var isSplit: Bool {
            if case .split = self { true } else { false }
        }

        var directions: [DirectionSettings] {
            switch self {
            case .feed(let settings), .replica(let settings): [settings]
            case .split(let settings): settings.directions.both
            }
        }
    }

    var backend: LinderoConfiguration.Backend
    var tasks: [Task]
    /// Standbys that PostgreSQL itself keeps: measured, never written.
    var standbys: [LagDirection] = []
    /// The limits that the status page judges by.
    var gates = Gates()
    /// Whose guard is looked at; `nil` without a configuration.
    var loaded: LoadedConfiguration?

    /// While what a worker would use is taken down: nothing runs, and status is served.
    static func nothing(_ loaded: LoadedConfiguration) -> WorkerPlan {
        var plan = WorkerPlan(backend: loaded.configuration.backend, tasks: [])
        plan.gates = loaded.configuration.gates
        return plan
    }

    /// Looks at the databases and decides; changes nothing.
    static func make(_ loaded: LoadedConfiguration) async throws -> WorkerPlan {
        var plan = try await withoutStandbys(loaded)
        plan.gates = loaded.configuration.gates
        plan.loaded = loaded
        if try loaded.databases().contains(where: \.isPhysicalStandby) {
            plan.standbys = try await LagDirection.all(loaded).filter(\.isStandby)
        }
        return plan
    }

    private static func withoutStandbys(_ loaded: LoadedConfiguration) async throws -> WorkerPlan {
        let configuration = loaded.configuration
        switch configuration.backend {
        case .shared:
            return WorkerPlan(backend: .shared, tasks: [.feed(try await feed(loaded))])
        case .replica:
            let targets = try loaded.others()
            // With standbys alone there is nothing to copy, but changes and lag of the origin are still followed.
            if targets.isEmpty { return WorkerPlan(backend: .replica, tasks: [.feed(try await feed(loaded))]) }
            var tasks: [Task] = []
            for target in targets { tasks.append(.replica(try await replica(loaded, target: target))) }
            return WorkerPlan(backend: .replica, tasks: tasks)
        case .split:
            return WorkerPlan(backend: .split, tasks: [.split(try await split(loaded))])
        }
    }

    /// A direction that adopts a slot and a publication, without any file.
    static func adopting(
        source: ConnectionOptions, target: ConnectionOptions, slot: String, publication: String
    ) -> WorkerPlan {
        var replication = ReplicationSettings()
        replication.snapshot = .never
        replication.slot = slot
        replication.publication = publication
        let settings = DirectionSettings(
            sourceName: "source", targetName: "target", source: source, target: target, slot: slot,
            publication: publication, backend: .replica, replication: replication, policy: nil)
        return WorkerPlan(backend: .replica, tasks: [.replica(settings)])
    }

    private static func feed(_ loaded: LoadedConfiguration) async throws -> DirectionSettings {
        let origin = try loaded.origin()
        let (slot, policy) = try await origin.connected { connection in
            (try await SlotName.make(connection, purpose: "feed"), try await loaded.policy(connection))
        }
        let replication = loaded.configuration.replication
        // `replication.slot` is a replica's: what the feed confirmed of it would be missing there.
        return DirectionSettings(
            sourceName: origin.name, targetName: "feed", source: origin.options, target: origin.options,
            slot: slot, publication: replication.publication ?? slot,
            backend: .shared, replication: replication, policy: policy)
    }

    private static func requireWritable(_ connection: PostgresConnection, _ target: Database) async throws {
        let isStandby = try await connection.query("SELECT pg_catalog.pg_is_in_recovery()::text").rows.first?[0] == "true"
        guard isStandby else { return }
        throw CommandFailure(
            "standby_target", "\(target.name) is a physical standby, which nobody can write to.", place: target.place,
            nextStep: "Add `physical_standby: true` under databases.\(target.name): then it is measured and nothing is "
                + "copied; or point its url at a server that can be written.", exit: .blocked)
    }

    private static func split(_ loaded: LoadedConfiguration) async throws -> SplitSettings {
        let origin = try loaded.origin()
        let others = try loaded.others()
        guard let other = others.first, others.count == 1 else {
            throw CommandFailure(
                "backend", "A split is between two databases; the configuration names \(others.count + 1).", place: loaded.path,
                nextStep: "Leave two under databases:, beside physical standbys.", exit: .blocked)
        }
        var forward = try await replica(loaded, target: other)
        forward.backend = .split
        let slot = try await other.connected { try await SlotName.make($0, purpose: origin.name) }
        var backward = DirectionSettings(
            sourceName: other.name, targetName: origin.name, source: other.options, target: origin.options, slot: slot,
            publication: slot, backend: .split, replication: forward.replication, policy: forward.policy)
        backward.policyReader = forward.policyReader
        // An adopted slot is the origin's.
        backward.replication.slot = nil
        backward.replication.publication = nil
        func roles(_ side: String) -> [String] { loaded.configuration.database(side)?.roles ?? [] }
        return SplitSettings(
            origin: forward, other: backward, gates: loaded.configuration.gates,
            roles: SidePair(origin: roles(origin.name), other: roles(other.name)))
    }

    private static func replica(
        _ loaded: LoadedConfiguration, target: Database
    ) async throws -> DirectionSettings {
        let origin = try loaded.origin()
        let replication = loaded.configuration.replication
        // An adopted publication without rules decides alone what travels.
        let isAdopted = replication.publication != nil && loaded.configuration.tables.isEmpty
        let (slot, policy) = try await origin.connected { connection -> (String, OwnershipPolicy?) in
            let slot = try await SlotName.make(connection, purpose: target.name)
            return (slot, isAdopted ? nil : try await loaded.policy(connection))
        }
        try await target.connected { try await requireWritable($0, target) }
        var settings = DirectionSettings(
            sourceName: origin.name, targetName: target.name, source: origin.options, target: target.options,
            slot: replication.slot ?? slot, publication: replication.publication ?? slot, backend: .replica,
            replication: replication, policy: policy)
        if !isAdopted {
            settings.policyReader = {
                let fresh = try loaded.reloaded()
                return try await fresh.origin().connected { try await fresh.policy($0) }
            }
        }
        return settings
    }
}

/// Names of slots and publications that Lindero makes. Slots belong to the whole cluster, so the database's own
/// name is part of them.
enum SlotName {
    /// PostgreSQL's limit for identifiers, in bytes.
    static let limitBytes = 63

    static func make(_ connection: PostgresConnection, purpose: String) async throws -> String {
        let row = try await connection.query(
            "SELECT datname, oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()")
        return make(database: row.rows.first?[0] ?? "", oid: row.rows.first?[1] ?? "", purpose: purpose)
    }

    /// Slots allow only lower-case letters, digits and underscores; a name that loses something gets the OID instead.
    static func make(database: String, oid: String, purpose: String) -> String {
        let purpose = plain(purpose)
        let name = "lindero_\(database)_\(purpose)"
        if plain(database) == database && name.utf8.count <= limitBytes { return name }
        return String("lindero_\(oid)_\(purpose)".prefix(limitBytes))
    }

    private static func plain(_ text: String) -> String {
        String(text.lowercased().unicodeScalars.map { isPlain($0) ? Character($0) : "_" })
    }

    private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
        "a"..."z" ~= scalar || "0"..."9" ~= scalar || scalar == "_"
    }
}
