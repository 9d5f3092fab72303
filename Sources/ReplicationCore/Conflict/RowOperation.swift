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
    ///
    /// - Parameters:
    ///   - likely: columns that an update may well write: if it does, they share their memory.
    ///   - repeatsReferences: whether an update that changes nothing says once more what the row refers to.
    init?(
        _ change: Change, id: OperationID, table: SplitTable, arena: ChangeArena, likely: [Int] = [],
        repeatsReferences: Bool = false
    ) {
        self.id = id
        relation = change.relation
        old = change.old
        new = change.new
        switch change.kind {
        case .truncate: return nil
        case .insert:
            kind = .insert
            key = Self.newKey(of: change, table, arena)
            columns = Self.known(table.valueColumns, change, table, arena)
        case .delete:
            kind = .delete
            key = Self.oldKey(of: change, table, arena)
            columns = []
        case .update where Self.changesKey(change, table, arena):
            kind = .move(newKey: Self.newKey(of: change, table, arena))
            key = Self.oldKey(of: change, table, arena)
            // The row that it becomes keeps what the target alone knows.
            columns = Self.known(table.valueColumns, change, table, arena).filter {
                !table.inboundColumns.contains($0) || Self.isChanged(table.columns[$0].sourceIndex, change, arena)
            }
        case .update:
            kind = .update
            columns = Self.changed(table, change, arena, likely: likely)
            if columns.isEmpty, repeatsReferences { columns = table.references.keys.sorted() }
            if columns.isEmpty { return nil }
            key = Self.newKey(of: change, table, arena)
        }
    }

    /// Reads what our own direction has written: what the source's own columns got in a new row. `nil` when there is none.
    init?(echoOf change: Change, id: OperationID, table: SplitTable, arena: ChangeArena) {
        self.id = id
        relation = change.relation
        old = change.old
        new = change.new
        kind = .echo
        columns = Self.known(table.ownedColumns, change, table, arena)
        if columns.isEmpty { return nil }
        key = Self.newKey(of: change, table, arena)
    }

    /// The key that its row has afterwards.
    public var laterKey: RowKey { if case .move(let newKey) = kind { newKey } else { key } }

    /// Whether a changed key leaves out a value that the row has under its old one: TOAST keeps it elsewhere, and no old row was sent.
    func leavesValues(_ table: SplitTable) -> Bool {
        guard case .move = kind, new.hasUnchanged else { return false }
        return table.valueColumns.contains { !table.inboundColumns.contains($0) && !columns.contains($0) }
    }

    /// Whether a key that the target has changed comes back without a value that the source has in a column of its own.
    static func lacksOwnValue(_ change: Change, _ table: SplitTable, _ arena: ChangeArena) -> Bool {
        guard table.isMovedByTarget, change.new.hasUnchanged else { return false }
        return table.ownedColumns.contains { column in
            let index = table.columns[column].sourceIndex
            guard change.oldKind != .full else { return isHollow(index, change, arena) }
            return arena.cells[change.new.firstCell + index].kind == .unchanged
        }
    }

    /// Whether neither the new row nor the old one, which is said to be whole, has a value that the row has.
    private static func isHollow(_ index: Int, _ change: Change, _ arena: ChangeArena) -> Bool {
        arena.cells[change.new.firstCell + index].kind == .unchanged && arena.cells[change.old.firstCell + index].kind == .null
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

    /// Whether a change carries enough of the old row: which one it was, and, where that matters, what was written.
    static func isTold(_ change: Change, _ table: SplitTable, _ arena: ChangeArena) -> Bool {
        guard change.kind == .update || change.kind == .delete else { return true }
        if change.oldKind == .full { return !isHollow(change, table, arena) }
        if change.kind == .update, table.needsOldRow { return false }
        return change.oldKind == nil || tellsKey(change, table, arena)
    }

    private static func tellsKey(_ change: Change, _ table: SplitTable, _ arena: ChangeArena) -> Bool {
        table.keyIndexes.allSatisfy { arena.cells[change.old.firstCell + $0].kind != .null }
    }

    /// Whether what is said to be the whole old row has no more than its key: of a partition whose own replica identity is not
    /// FULL, as that of the whole table is. Only what would go wrong then is looked at, and cannot be NULL.
    private static func isHollow(_ change: Change, _ table: SplitTable, _ arena: ChangeArena) -> Bool {
        if !tellsKey(change, table, arena) { return true }
        if table.isReferenced, !table.hasNumber(change.old, arena) { return true }
        guard change.kind == .update, change.new.hasUnchanged else { return false }
        return (0..<min(change.old.count, change.new.count)).contains { isHollow($0, change, arena) }
    }

    /// Whether an update gives its row another key.
    static func changesKey(_ change: Change, _ table: SplitTable, _ arena: ChangeArena) -> Bool {
        guard change.kind == .update, change.oldKind != nil else { return false }
        return table.keyIndexes.contains { index in
            let (old, new) = (
                arena.cells[change.old.firstCell + index], arena.cells[change.new.firstCell + index]
            )
            return new.kind != .unchanged && !isSame(old, new, arena)
        }
    }

    static func oldKey(of change: Change, _ table: SplitTable, _ arena: ChangeArena) -> RowKey {
        RowKey(table: table.id, cells: table.keyIndexes.lazy.map { change.old.firstCell + $0 }, arena: arena)
    }

    static func newKey(of change: Change, _ table: SplitTable, _ arena: ChangeArena) -> RowKey {
        let cells = table.keyIndexes.lazy.map { index -> Int in
            let cell = change.new.firstCell + index
            let isKnown = change.oldKind == nil || arena.cells[cell].kind != .unchanged
            return isKnown ? cell : change.old.firstCell + index
        }
        return RowKey(table: table.id, cells: cells, arena: arena)
    }

    /// Without the values that TOAST left out and that no old row has.
    private static func known(
        _ columns: [Int], _ change: Change, _ table: SplitTable, _ arena: ChangeArena
    ) -> [Int] {
        guard change.new.hasUnchanged, change.oldKind != .full else { return columns }
        return columns.filter {
            arena.cells[change.new.firstCell + table.columns[$0].sourceIndex].kind != .unchanged
        }
    }

    private static func changed(
        _ table: SplitTable, _ change: Change, _ arena: ChangeArena, likely: [Int]
    ) -> [Int] {
        // Without the whole old row every value that came may be a new one.
        if change.oldKind != .full, !change.new.hasUnchanged { return table.valueColumns }
        // Updates come in runs that write the same columns: then no list need be made.
        var count = 0
        var found: [Int]?
        for column in table.valueColumns where isChanged(table.columns[column].sourceIndex, change, arena) {
            if found == nil, count < likely.count, likely[count] == column {
                count += 1
            } else {
                if found == nil { found = Array(likely[..<count]) }
                found?.append(column)
            }
        }
        return found ?? (count == likely.count ? likely : Array(likely[..<count]))
    }

    static func isChanged(_ index: Int, _ change: Change, _ arena: ChangeArena) -> Bool {
        let new = arena.cells[change.new.firstCell + index]
        if new.kind == .unchanged { return false }
        return change.oldKind != .full || !isSame(arena.cells[change.old.firstCell + index], new, arena)
    }

    private static func isSame(_ left: Cell, _ right: Cell, _ arena: ChangeArena) -> Bool {
        guard left.kind == right.kind, left.length == right.length else { return false }
        if left.kind == .null { return true }
        return arena.bytes.withUnsafeBytes { bytes in
            // Word by word: rows with their old values carry large ones twice, and most of them did not change.
            let (count, first, second) = (Int(left.length), left.offset, right.offset)
            var offset = 0
            while count - offset >= 8 {
                if bytes.loadUnaligned(fromByteOffset: first + offset, as: UInt64.self)
                    != bytes.loadUnaligned(fromByteOffset: second + offset, as: UInt64.self)
                {
                    return false
                }
                offset += 8
            }
            while offset < count {
                if bytes[first + offset] != bytes[second + offset] { return false }
                offset += 1
            }
            return true
        }
    }
}
