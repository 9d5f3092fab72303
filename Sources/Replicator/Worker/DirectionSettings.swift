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
    /// Reads the ownership rules anew, for columns that came while the stream ran; `nil` when there are none.
    public var policyReader: (@Sendable () async throws -> OwnershipPolicy)?
    /// Columns of the source that no rule speaks of and that stay there, such as generated ones.
    var stayingColumns: Set<ColumnName> = []
    /// Columns that the stream carries and the source no longer has: dropped, or renamed. Their values are kept.
    var formerColumns: Set<ColumnName> = []
    /// Tables of the stream that no rule speaks of and that stay on the source.
    var stayingTables: Set<QualifiedName> = []
    /// Tables that newer rules add to a direction that streams: they wait for the next start, unless their copy has begun.
    var waitingTables: Set<QualifiedName> = []
    /// Of a split: which tables of either side are meant.
    var sourceTables = TableOIDs()
    var targetTables = TableOIDs()

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
        !Self.isNobodys(table) && policy.map { $0.tables[table] != nil } ?? true
    }

    private static func isNobodys(_ table: QualifiedName) -> Bool { table.schema == "lindero" || table.name == "_prisma_migrations" }

    /// Whether the stream has a table under a name that was not there when the ownership rules were resolved, or is no more.
    func isUnknown(_ table: QualifiedName) -> Bool {
        policyReader != nil && !includes(table) && !Self.isNobodys(table) && !stayingTables.contains(table)
    }

    /// Columns that came to the source after the ownership rules were resolved.
    func unownedColumns(_ relation: RelationMessage) -> [String] { unowned(relation.columns.map(\.name), of: relation.name) }

    func unowned(_ columns: [String], of table: QualifiedName) -> [String] {
        guard policyReader != nil, let ownership = policy?.tables[table] else { return [] }
        return columns.filter { column in
            let name = ColumnName(table: table, column: column)
            return ownership.columns[column] == nil && !ownership.match.contains(column)
                && !stayingColumns.contains(name) && !formerColumns.contains(name)
        }
    }

    /// Columns of a table that the rules know and that do not travel.
    func stayingColumns(of table: QualifiedName) -> [String] {
        (policy?.tables[table]?.columns.keys.filter { !travels(table, $0) } ?? []).sorted()
    }

    /// Whether a refused change of the table is set aside rather than stop the direction.
    func quarantines(_ table: QualifiedName) -> Bool { policy?.tables[table]?.onError == .quarantine }

    /// Whether a column may be written to the target.
    func travels(_ table: QualifiedName, _ column: String) -> Bool {
        guard let policy else { return true }
        if formerColumns.contains(ColumnName(table: table, column: column)) { return true }
        return policy.tables[table]?.travels(column, from: sourceName, to: targetName, backend: backend) ?? false
    }
}

extension DirectionSettings {
    /// How a target that has missed changes becomes whole again, as a next step.
    var copyAnew: String {
        // Its tables are the only copy there is.
        if backend == .shared { return "Run `lindero run`: it makes the change feed anew, from then on." }
        return "To copy \(targetName) anew: `lindero migrate --down`, empty its tables, drop the slot if it is there "
            + "(SELECT pg_drop_replication_slot(\(SQLText.literal(slot)));), then `lindero run`."
    }
}

extension DirectionSettings {
    /// The next step where changes of the source can't be read any more. A side of a split holds what nobody else has: it is never emptied.
    var afterGap: String {
        guard backend == .split else { return copyAnew }
        return "`lindero slot renew \(sourceName)` says what will be missing on \(targetName), and with --execute goes on from now; then "
            + "`lindero run`, and `lindero verify --repair` beside it."
    }

    /// The next step where the source is not, or no longer, what the target's changes came from.
    var withOtherSource: String {
        guard backend == .split else { return copyAnew }
        return "keep what you need of it, stop it, and `lindero rollback --lost \(sourceName)` goes on with \(targetName) alone."
    }
}

extension DirectionSettings {
    /// For short questions to the source.
    var askingOptions: ConnectionOptions {
        var options = source
        options.settings.append(ConnectionOptions.answersInTime)
        return options
    }

    /// Foreign keys and ordinary triggers of the target must not fire for rows that have been checked at the source.
    var applyOptions: ConnectionOptions {
        var options = target
        options.settings += [
            (name: "session_replication_role", value: "replica"),
            (name: "plan_cache_mode", value: "force_generic_plan"),
            // A `FusedStatement` joins up to nine single rows: any order is as good, and looking for a better one takes long.
            (name: "join_collapse_limit", value: "1"),
            // A plan is kept for as long as its table keeps its shape: made while there were few rows, it would read all of them
            // for each key when there are many. Nothing here is worth compiling.
            (name: "enable_seqscan", value: "off"), (name: "jit", value: "off"),
            ConnectionOptions.answersInTime,
        ]
        return options
    }
}

/// A column of a table.
struct ColumnName: Hashable, Sendable {
    var table: QualifiedName
    var column: String
}
