import ReplicationCore

/// What two sides wrote at the same time, and which of it stands: a row of `lindero.conflict`.
public struct RecordedConflict: Sendable, Equatable {
    public enum State: String, Sendable, CaseIterable {
        /// Waits for a person.
        case open
        /// The policy decided for good.
        case settled
        /// A person decided.
        case resolved
    }

    /// A value of one side, without the value itself.
    public struct Write: Sendable, Equatable {
        /// The database that wrote it, by its name in lindero.yaml.
        public var database: String
        /// Commit time there; `nil` for what stood before anybody looked.
        public var committedAt: String?
        /// Its hybrid clock in microseconds.
        public var version: Int64?
        public var lsn: String?
    }

    public var id: Int64
    /// Of the losing change.
    public var direction: String
    public var table: QualifiedName
    /// `nil` when it is about the whole row.
    public var column: String?
    /// `column`, `update_delete`, `insert_insert`, `delete_insert`, `key_change`, or `repair`: what `verify --repair` wrote over.
    public var kind: String
    public var policy: String
    public var kept: Write
    public var lost: Write
    public var state: State
    public var recordedAt: String
    public var resolvedAt: String?
    public var resolvedBy: String?
    /// `take DATABASE`, or `value` for one of the person's own.
    public var resolution: String?
}

/// What a conflict is about, in the text form of the server. Row data: shown only when asked for.
public struct ConflictValues: Sendable, Equatable {
    /// The match columns, in name order.
    public var key: [(column: String, value: String)]
    /// `nil` for NULL, and for a row that is not there.
    public var kept: String?
    public var lost: String?

    public static func == (left: ConflictValues, right: ConflictValues) -> Bool {
        left.key.elementsEqual(right.key) { $0 == $1 } && left.kept == right.kept && left.lost == right.lost
    }
}

/// Which conflicts are meant.
public struct ConflictFilter: Sendable, Equatable {
    /// Only this table; a name without a schema is one of `public`.
    public var table: QualifiedName?
    public var column: String?
    /// All states when empty.
    public var states: [RecordedConflict.State]
    /// The newest this many.
    public var limit: Int

    public init(
        table: QualifiedName? = nil, column: String? = nil, states: [RecordedConflict.State] = [.open], limit: Int = 100
    ) {
        self.table = table
        self.column = column
        self.states = states
        self.limit = limit
    }
}

/// How many conflicts there are of one kind.
public struct ConflictCount: Sendable, Equatable {
    public var table: QualifiedName
    public var column: String?
    public var policy: String
    public var state: RecordedConflict.State
    public var count: Int64
}

/// The conflicts that wait for a person.
public struct ConflictQueue: Sendable, Equatable {
    public var openCount: Int64
    /// `nil` when none is open.
    public var oldestAgeSeconds: Double?
}
