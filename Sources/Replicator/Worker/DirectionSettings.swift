import PostgresClient
import ReplicationCore

/// Everything a direction needs to know before it connects.
public struct DirectionSettings: Sendable {
    /// `source->target`, as in `lag --json`.
    public var name: String
    public var sourceName: String
    public var targetName: String
    public var source: ConnectionOptions
    public var target: ConnectionOptions
    public var slot: String
    public var publication: String
    public var backend: LinderoConfiguration.Backend
    public var replication: ReplicationSettings
    /// Who owns what; `nil` when an adopted publication alone decides, and everything in it travels.
    public var policy: OwnershipPolicy?

    public init(
        sourceName: String, targetName: String, source: ConnectionOptions, target: ConnectionOptions,
        slot: String, publication: String, backend: LinderoConfiguration.Backend,
        replication: ReplicationSettings, policy: OwnershipPolicy?
    ) {
        name = "\(sourceName)->\(targetName)"
        self.sourceName = sourceName
        self.targetName = targetName
        self.source = source
        self.target = target
        self.slot = slot
        self.publication = publication
        self.backend = backend
        self.replication = replication
        self.policy = policy
    }

    /// Whether a table is part of this direction.
    public func includes(_ table: QualifiedName) -> Bool {
        guard table.schema != "lindero", table.name != "_prisma_migrations" else { return false }
        return policy.map { $0.tables[table] != nil } ?? true
    }

    /// Whether a column may be written to the target.
    func travels(_ table: QualifiedName, _ column: String) -> Bool {
        guard let policy else { return true }
        return policy.tables[table]?.travels(column, from: sourceName, to: targetName, backend: backend) ?? false
    }
}

extension DirectionSettings {
    /// How a target that has missed changes becomes whole again, as a next step.
    var copyAnew: String {
        "To copy \(targetName) anew: `lindero migrate --down`, empty its tables, drop the slot if it is there "
            + "(SELECT pg_drop_replication_slot(\(SQLText.literal(slot)));), then `lindero run`."
    }
}
