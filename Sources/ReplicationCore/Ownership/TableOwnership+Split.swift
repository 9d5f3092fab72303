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
