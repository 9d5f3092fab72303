/// One change, laid out for its statement: which cells are written, which are compared.
public struct RowChange: Sendable, Equatable {
    public enum Outcome: Sendable, Equatable {
        case apply(RowChange)
        /// It touches only columns that stay behind.
        case withheld
    }

    public var shape: RowStatement.Shape
    /// Cells for `$1…`, as indexes into `ChangeArena.cells`.
    public var cells: [Int]

    /// Lays out an insert, update or delete.
    ///
    /// An unchanged TOAST value is never written. With a full old row, columns that did not change are left out,
    /// and a change that leaves nothing to write is `withheld`.
    public static func resolve(_ change: Change, plan: RelationPlan, arena: ChangeArena) -> Outcome {
        switch change.kind {
        case .insert:
            let written = plan.columns.indices.filter { kind($0, change.new, plan, arena) != .unchanged }
            let shape = RowStatement.Shape(kind: .insert, written: written, compared: [], isWholeRow: false)
            return .apply(RowChange(shape: shape, cells: written.map { cell($0, change.new, plan) }))
        case .update:
            return resolveUpdate(change, plan: plan, arena: arena)
        case .delete:
            let (compared, cells, isWholeRow) = lookup(in: change.old, plan, arena)
            let shape = RowStatement.Shape(kind: .delete, written: [], compared: compared, isWholeRow: isWholeRow)
            return .apply(RowChange(shape: shape, cells: cells))
        case .truncate:
            return .withheld
        }
    }

    private static func resolveUpdate(_ change: Change, plan: RelationPlan, arena: ChangeArena) -> Outcome {
        let hasOld = change.oldKind != nil
        var written = plan.columns.indices.filter { kind($0, change.new, plan, arena) != .unchanged }
        if change.oldKind == .full {
            written.removeAll {
                equal(cell($0, change.old, plan), cell($0, change.new, plan), arena)
            }
        } else if case .key(let key) = plan.identity, !hasOld {
            // No old image means that the key did not change.
            written.removeAll(where: key.contains)
        }
        guard !written.isEmpty else { return .withheld }
        let (compared, found, isWholeRow) = lookup(in: hasOld ? change.old : change.new, plan, arena)
        let shape = RowStatement.Shape(kind: .update, written: written, compared: compared, isWholeRow: isWholeRow)
        return .apply(RowChange(shape: shape, cells: written.map { cell($0, change.new, plan) } + found))
    }

    /// The columns and cells that find the row on the target.
    private static func lookup(
        in tuple: TupleReference, _ plan: RelationPlan, _ arena: ChangeArena
    ) -> (compared: [Int], cells: [Int], isWholeRow: Bool) {
        switch plan.identity {
        case .key(let key):
            return (key, key.map { cell($0, tuple, plan) }, false)
        case .wholeRow:
            let compared = plan.columns.indices.filter { kind($0, tuple, plan, arena) != .unchanged }
            return (compared, compared.map { cell($0, tuple, plan) }, true)
        }
    }

    private static func cell(_ column: Int, _ tuple: TupleReference, _ plan: RelationPlan) -> Int {
        tuple.firstCell + plan.columns[column].sourceIndex
    }

    private static func kind(
        _ column: Int, _ tuple: TupleReference, _ plan: RelationPlan, _ arena: ChangeArena
    ) -> Cell.Kind {
        arena.cells[cell(column, tuple, plan)].kind
    }

    private static func equal(_ left: Int, _ right: Int, _ arena: ChangeArena) -> Bool {
        let (a, b) = (arena.cells[left], arena.cells[right])
        guard a.kind == b.kind, a.length == b.length else { return false }
        if a.kind == .null || a.kind == .unchanged { return true }
        return arena.bytes[a.offset..<(a.offset + Int(a.length))]
            .elementsEqual(arena.bytes[b.offset..<(b.offset + Int(b.length))])
    }
}
