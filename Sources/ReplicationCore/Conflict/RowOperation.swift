/// One row change of a direction, as far as it travels.
public struct RowOperation: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        case insert, update, delete
        /// A changed match key: the row of `key` ends, and one with `newKey` begins.
        case move(newKey: RowKey)
        /// Values that the source gave to its own columns in a row that the other direction made there.
        case echo
    }

    public var kind: Kind
    public var key: RowKey
    public var id: OperationID
    /// Columns that it writes, as indexes into `SplitTable.columns`, without the key: those that changed, or all.
    public var columns: [Int]
    /// Index into the stream's `RelationHistory`.
    public var relation: Int
    public var old: TupleReference
    public var new: TupleReference

    /// Reads a change; `nil` when nothing of it travels.
    init?(
        _ change: Change, id: OperationID, table: SplitTable, arena: ChangeArena, isEcho: Bool = false
    ) {
        self.id = id
        relation = change.relation
        old = change.old
        new = change.new
        let hasOld = change.oldKind != nil
        let oldKey = hasOld ? Self.key(in: change.old, or: change.new, table, arena) : nil
        switch change.kind {
        case .truncate: return nil
        case .insert:
            kind = .insert
            key = Self.key(in: change.new, or: nil, table, arena)
            columns = Self.written(table) { Self.hasValue($0.sourceIndex, change, arena) }
        case .delete:
            guard let oldKey else { return nil }
            kind = .delete
            key = oldKey
            columns = []
        case .update:
            let newKey = Self.key(in: change.new, or: hasOld ? change.old : nil, table, arena)
            key = oldKey ?? newKey
            if key != newKey {
                kind = .move(newKey: newKey)
                columns = Self.written(table) { Self.hasValue($0.sourceIndex, change, arena) }
            } else {
                kind = .update
                columns = Self.written(table) { Self.isChanged($0.sourceIndex, change, arena) }
                if columns.isEmpty, !isEcho { return nil }
            }
        }
        guard isEcho else { return }
        if case .move(let newKey) = kind { key = newKey }
        kind = .echo
        columns = Self.written(table) { $0.role == .owned && Self.hasValue($0.sourceIndex, change, arena) }
        if columns.isEmpty { return nil }
    }

    /// The cell with a column's new value: where TOAST left it out because it did not change, the old row's.
    /// - Parameter column: index into `SplitTable.columns`.
    public func newCell(_ column: Int, table: SplitTable, arena: ChangeArena) -> Int {
        let index = table.columns[column].sourceIndex
        let cell = new.firstCell + index
        return arena.cells[cell].kind == .unchanged && old.count > 0 ? old.firstCell + index : cell
    }

    /// The cell that a counter's difference starts from: the old value of an update. `nil` counts as 0: an insert adds its
    /// whole value, and so does a changed key, since it makes a new row.
    public func oldCell(_ column: Int, table: SplitTable) -> Int? {
        kind == .update && old.count > 0 ? old.firstCell + table.columns[column].sourceIndex : nil
    }

    /// A copy of a column's new value; `nil` is NULL.
    func newValue(_ column: Int, table: SplitTable, arena: ChangeArena) -> [UInt8]? {
        arena.withCell(newCell(column, table: table, arena: arena)) { cell, bytes in
            cell.kind == .null ? nil : Array(bytes)
        }
    }

    private static func written(_ table: SplitTable, where isWritten: (SplitTable.Column) -> Bool) -> [Int] {
        table.columns.indices.filter { table.columns[$0].role != .key && isWritten(table.columns[$0]) }
    }

    private static func key(
        in tuple: TupleReference, or other: TupleReference?, _ table: SplitTable, _ arena: ChangeArena
    ) -> RowKey {
        let cells = table.keyIndexes.map { index -> Int in
            let cell = tuple.firstCell + index
            guard let other, arena.cells[cell].kind == .unchanged else { return cell }
            return other.firstCell + index
        }
        return RowKey(table: table.id, cells: cells, arena: arena)
    }

    /// Without the whole old row, a TOAST value that did not change is not known.
    private static func hasValue(_ index: Int, _ change: Change, _ arena: ChangeArena) -> Bool {
        arena.cells[change.new.firstCell + index].kind != .unchanged || change.oldKind == .full
    }

    private static func isChanged(_ index: Int, _ change: Change, _ arena: ChangeArena) -> Bool {
        let new = arena.cells[change.new.firstCell + index]
        if new.kind == .unchanged { return false }
        // Without the whole old row every value that came may be a new one.
        guard change.oldKind == .full else { return true }
        let old = arena.cells[change.old.firstCell + index]
        guard old.kind == new.kind, old.length == new.length else { return true }
        if new.kind == .null { return false }
        return !arena.bytes[old.offset..<(old.offset + Int(old.length))]
            .elementsEqual(arena.bytes[new.offset..<(new.offset + Int(new.length))])
    }
}
