/// Who owns what in one real table: a `TableRule` resolved against the catalog.
public struct TableOwnership: Sendable, Equatable {
    public enum ColumnOwner: Sendable, Equatable {
        case owned(by: String)
        case shared(SharedColumnRule)
    }

    public var table: QualifiedName
    /// Identity of a row across databases.
    public var match: [String]
    public var insertOwners: Set<String>
    public var deleteOwners: Set<String>
    public var privateColumns: Set<String>
    /// Every column of the table that is not generated.
    public var columns: [String: ColumnOwner]
    public var onError = OnError.stop
    /// Values, in text form, for owned columns of a row that the other side of a split made.
    public var fill: [String: String] = [:]
    /// Columns that hold the primary key of a row of another table, to be found by its `match` on the other side.
    public var references: [String: QualifiedName] = [:]
    /// What becomes of a row when the other side deletes one that it refers to.
    public var onDelete = SplitRule.OnDelete.keep
    /// The primary key, where it is no `match` and each side of a split gives its own numbers: it travels with no row.
    public var surrogate: String?
    /// Whether another table's `references` name this one; its `surrogate` is known then.
    public var isReferenced = false
    /// Owners of columns that both sides write while services move (`inTransition`).
    public var moving: [String: String] = [:]
    /// Those of them that travel towards their owner alone: private ones of the origin.
    public var inbound: Set<String> = []

    public init(
        table: QualifiedName, match: [String], insertOwners: Set<String>, deleteOwners: Set<String>,
        privateColumns: Set<String>, columns: [String: ColumnOwner]
    ) {
        self.table = table
        self.match = match
        self.insertOwners = insertOwners
        self.deleteOwners = deleteOwners
        self.privateColumns = privateColumns
        self.columns = columns
    }

    /// Whether `side` may write the column: its owner may, everybody may if it is shared.
    public func mayWrite(_ column: String, side: String) -> Bool {
        switch columns[column] {
        case .owned(let owner): owner == side
        case .shared: true
        case nil: false
        }
    }

    /// The side that owns a column, also while services move; `nil` for one that is shared.
    public func owner(of column: String) -> String? {
        if case .owned(let side)? = columns[column] { side } else { moving[column] }
    }

    /// The one side that a column travels to although both write it.
    public func inboundSide(of column: String) -> String? { inbound.contains(column) ? moving[column] : nil }

    /// Whether the column leaves `source` for `target` in the given backend.
    ///
    /// The match key always travels. In `replica` everything declared travels except columns that are private
    /// to another side than the target; in `split` the source's own columns that are not private, and shared ones.
    public func travels(
        _ column: String, from source: String, to target: String, backend: LinderoConfiguration.Backend
    ) -> Bool {
        if match.contains(column) { return backend != .shared }
        guard let owner = columns[column] else { return false }
        switch backend {
        case .shared:
            return false
        case .replica:
            // Rows that refer to it are copied with the number as it is.
            if isReferenced, column == surrogate { return true }
            guard privateColumns.contains(column) else { return true }
            return self.owner(of: column) == target
        case .split:
            if let side = inboundSide(of: column) { return side == target }
            // A private one that travels now is its owner's, who is on both sides.
            guard !privateColumns.contains(column) || moving[column] != nil, column != surrogate else { return false }
            switch owner {
            case .owned(let side): return side == source
            case .shared: return true
            }
        }
    }
}
