extension TableOwnership {
    /// Whether a table travels from `source` to `target` and nothing of it ever comes back: the target neither makes nor
    /// deletes rows, and no column of its own, nor a shared one, leaves it.
    ///
    /// Rows that need a `fill` there are made one by one, with the others.
    public func isOneWay(from source: String, to target: String) -> Bool {
        fill.isEmpty && !isReferenced && isSilent(target, towards: source)
    }

    /// Whether changes of the table have to carry the whole old row, where its replica identity is made of these columns.
    public func needsOldRow(identity: [String]) -> Bool {
        columns.values.contains { if case .shared = $0 { true } else { false } } || !Set(identity).isSuperset(of: toldColumns)
    }

    /// Columns whose values a changed key leaves out where TOAST keeps them elsewhere, though the other side may need them: it makes
    /// the row anew where it has deleted or moved it, and of a row whose key it changes itself it waits for what `side` had written
    /// meanwhile. So changes on `side` must carry the whole old row where one of these may be large.
    private func columnsLeftBehind(on side: String, by other: String) -> [String] {
        let isMovedThere = match.contains { mayWrite($0, side: other) }
        let isMovedHere = match.contains { mayWrite($0, side: side) }
        // What `on_delete` does there is a write of that side.
        let isEndedThere = deleteOwners.contains(other) || onDelete == .delete && !references.isEmpty
        guard isMovedThere || isMovedHere && (insertOwners.contains(other) || isEndedThere) else { return [] }
        return columns.keys.filter {
            !match.contains($0) && owner(of: $0) == side && travels($0, from: side, to: other, backend: .split)
        }.sorted()
    }

    /// As `needsOldRow`, of a table whose changes travel and are decided about.
    public func mustTellOldRow(_ table: TableDescription, on side: String, by other: String) -> Bool {
        !isSilent(side, towards: other) && !isOneWay(from: side, to: other) && needsOldRow(table, on: side, by: other)
    }

    /// Whether changes of a table on `side` of a split have to carry the whole old row.
    public func needsOldRow(_ table: TableDescription, on side: String, by other: String) -> Bool {
        needsOldRow(identity: table.identityColumns) || !largeColumnsLeftBehind(table, on: side, by: other).isEmpty
    }

    /// Of `columnsLeftBehind`, those that TOAST may keep elsewhere.
    public func largeColumnsLeftBehind(_ table: TableDescription, on side: String, by other: String) -> [String] {
        columnsLeftBehind(on: side, by: other).filter { table.column($0)?.mayBeLarge == true }
    }

    /// What a deleted row has to tell: which one it was, and what others have known it by.
    public var toldColumns: [String] { match + [isReferenced ? surrogate : nil].compactMap { $0 } }

    /// Whether nothing of the table leaves `side` for `other`, in a split. What `on_delete` does to referring rows does.
    public func isSilent(_ side: String, towards other: String) -> Bool {
        references.isEmpty && !insertOwners.contains(side) && !deleteOwners.contains(side)
            && columns.keys.allSatisfy { column in
                match.contains(column) ? !mayWrite(column, side: side) : !travels(column, from: side, to: other, backend: .split)
            }
    }
}
