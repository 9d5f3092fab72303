/// How one definition of a table travels in one direction of a split: its row identity and the columns that leave.
///
/// It never changes, and is handed on with every change of the stream: shared, not copied.
public final class SplitTable: Sendable {
    public enum Role: Sendable, Equatable {
        case key
        /// Owned by the source.
        case owned
        case shared(SharedColumn)
    }

    public struct SharedColumn: Sendable, Equatable {
        /// The same number in both directions, whatever else is shared: the column's rank by name.
        public var id: Int
        public var policy: SharedColumnRule.Policy
        /// Whether `prefer` prefers the source of this direction.
        public var prefersSource: Bool
        /// What decides between writes that were both made before it: the oldest first. None before a counter's (`delta`).
        var former: [Former] = []
    }

    public struct Column: Sendable, Equatable {
        public var name: String
        /// Position in the stream's tuples.
        public var sourceIndex: Int
        public var role: Role
    }

    /// The same number in both directions, for instance the table's rank by name.
    public let id: Int
    public let name: QualifiedName
    /// Columns that travel, in the stream's order. Decisions refer to them by index.
    public let columns: [Column]
    /// Positions of the match columns in the stream's tuples, in the order of `match`.
    public let keyIndexes: [Int]
    /// Columns that are no key, as indexes into `columns`.
    public let valueColumns: [Int]
    /// Those of them that the source owns, also while services move, as indexes into `columns`.
    let ownedColumns: [Int]
    /// Columns that go this way alone (`TableOwnership.inboundSide`), as indexes into `columns`: the source may know nothing
    /// of what the target holds there.
    let inboundColumns: Set<Int>
    /// Columns that come from the target and never leave: what the source itself writes there has to be known all the same.
    let watchedColumns: [Column]
    /// Whether an update must bring the whole old row. A partition has an identity of its own, of which the definition of
    /// the table that it is part of says nothing.
    let needsOldRow: Bool
    /// Whether the target may give a row another key: with it what the source has in its own columns has to travel back.
    let isMovedByTarget: Bool
    /// Whether values that the target gave to its own columns in a row made by this direction travel back. Needed where
    /// such a column's default is volatile or not the same in both databases; always right, and an update a row.
    public let echoesInserts: Bool
    /// Whether nothing of the table ever comes from the target: its changes need no decision, and no key.
    public let isOneWay: Bool
    /// Columns that hold another table's own key, which is another one on the other side; by index into `columns`.
    public let references: [Int: QualifiedName]
    /// Whether rows of other tables hold this one's own key.
    public let isReferenced: Bool
    /// Where that key stands in the stream's tuples.
    private let numberIndex: Int?
    /// Of what type it is there.
    private let numberTypeOID: UInt32

    /// Lays out what `source` sends to `target`.
    ///
    /// - Parameter former: what shared columns had for rules before, the oldest first.
    public init(
        id: Int, relation: RelationMessage, ownership: TableOwnership, source: String, target: String,
        former: [String: [FormerRule]] = [:], echoesInserts: Bool = true, isOneWay: Bool = false
    ) throws(SplitError) {
        let names = ownership.columns.keys.sorted()
        var columns: [Column] = []
        var watchedColumns: [Column] = []
        for (index, column) in relation.columns.enumerated() {
            let isWatched = ownership.inboundSide(of: column.name) == source
            guard isWatched || ownership.travels(column.name, from: source, to: target, backend: .split) else { continue }
            let role: Role
            if ownership.match.contains(column.name) {
                role = .key
            } else if case .shared(let rule)? = ownership.columns[column.name] {
                role = .shared(
                    SharedColumn(
                        id: names.firstIndex(of: column.name) ?? 0, policy: rule.policy, prefersSource: rule.side == source,
                        former: (former[column.name] ?? []).map { SharedColumn.Former($0, source: source, target: target) }))
            } else {
                role = .owned
            }
            let laidOut = Column(name: column.name, sourceIndex: index, role: role)
            if isWatched { watchedColumns.append(laidOut) } else { columns.append(laidOut) }
        }
        var keyIndexes: [Int] = []
        for name in ownership.match {
            if ownership.references[name] != nil { throw .referenceInMatch(relation.name, name) }
            guard let index = relation.columns.firstIndex(where: { $0.name == name }) else {
                throw .missingMatchColumn(relation.name, name)
            }
            keyIndexes.append(index)
        }
        needsOldRow = columns.contains(where: { $0.role.isShared }) || !watchedColumns.isEmpty
        if relation.replicaIdentity != .full {
            if needsOldRow { throw .needsFullIdentity(relation.name) }
            // A delete would not say of which row. What only one side writes goes by the identity itself.
            let told = Set(relation.columns.lazy.filter(\.isKey).map(\.name))
            if !isOneWay, let column = ownership.toldColumns.first(where: { !told.contains($0) }) {
                throw .outsideIdentity(relation.name, column)
            }
        }
        isMovedByTarget = ownership.match.contains { ownership.mayWrite($0, side: target) }
        self.id = id
        self.name = relation.name
        self.columns = columns
        valueColumns = columns.indices.filter { columns[$0].role != .key }
        ownedColumns = columns.indices.filter { columns[$0].role != .key && ownership.owner(of: columns[$0].name) == source }
        inboundColumns = Set(columns.indices.filter { ownership.inboundSide(of: columns[$0].name) != nil })
        self.watchedColumns = watchedColumns
        self.keyIndexes = keyIndexes
        self.echoesInserts = echoesInserts
        self.isOneWay = isOneWay
        var references: [Int: QualifiedName] = [:]
        for (index, column) in columns.enumerated() { references[index] = ownership.references[column.name] }
        self.references = references
        isReferenced = ownership.isReferenced
        numberIndex = isReferenced ? relation.columns.firstIndex { $0.name == ownership.surrogate } : nil
        numberTypeOID = numberIndex.map { relation.columns[$0].typeOID } ?? 0
    }

    /// What rows of other tables have known a row by that a change deletes, or whose key or number it takes away; `nil`
    /// where they don't, or nothing of that happens.
    func endedNumber(by change: Change, arena: ChangeArena) -> [UInt8]? {
        guard let numberIndex else { return nil }
        switch change.kind {
        case .insert, .truncate: return nil
        case .delete: return number(change.old, arena)
        case .update:
            // An old row that tells its key alone has kept its number.
            if RowOperation.changesKey(change, self, arena) { return number(change.old, arena) ?? number(change.new, arena) }
            return RowOperation.isChanged(numberIndex, change, arena) ? number(change.old, arena) : nil
        }
    }

    /// The number that a change gives to a row.
    func begunNumber(by change: Change, arena: ChangeArena) -> [UInt8]? {
        guard numberIndex != nil else { return nil }
        switch change.kind {
        case .delete, .truncate: return nil
        case .insert: return number(change.new, arena)
        case .update: return newNumber(change.old, change.new, arena)
        }
    }

    /// The number that an operation gives to a row.
    public func begunNumber(by operation: RowOperation, arena: ChangeArena) -> [UInt8]? {
        switch operation.kind {
        case .delete, .echo: return nil
        case .insert: return number(operation.new, arena)
        case .update, .move: return newNumber(operation.old, operation.new, arena)
        }
    }

    /// The new row's number, if the old one had another.
    private func newNumber(_ old: TupleReference, _ new: TupleReference, _ arena: ChangeArena) -> [UInt8]? {
        guard let old = number(old, arena), let new = number(new, arena), old != new else { return nil }
        return new
    }

    /// What rows of other tables know the row by that an operation deletes.
    func deletedNumber(by operation: RowOperation, arena: ChangeArena) -> LocalHistory.Number? {
        number(operation.old, arena).map { LocalHistory.Number(bytes: $0, typeOID: numberTypeOID) }
    }

    func hasNumber(_ tuple: TupleReference, _ arena: ChangeArena) -> Bool {
        numberIndex.map { tuple.count > 0 && arena.cells[tuple.firstCell + $0].hasValue } ?? true
    }

    private func number(_ tuple: TupleReference, _ arena: ChangeArena) -> [UInt8]? {
        guard let numberIndex, tuple.count > 0 else { return nil }
        return arena.withCell(tuple.firstCell + numberIndex) { cell, bytes in cell.hasValue ? Array(bytes) : nil }
    }
}

extension SplitTable.Role {
    var isShared: Bool {
        if case .shared = self { true } else { false }
    }
}
