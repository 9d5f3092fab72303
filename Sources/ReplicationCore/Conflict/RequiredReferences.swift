/// What is known about an operation's references where the target's columns may not be empty.
public struct RequiredReferences: Sendable {
    /// Those whose row is not there, as indexes into `SplitTable.columns`: the columns stay as they are, and a row that would
    /// be new is not made before a later change tells what it refers to.
    public let missing: Set<Int>
    /// Whether it is such a change: an update that brings every value of a row which could not be made before.
    let makesRow: Bool

    public init(missing: Set<Int>, of operation: RowOperation, table: SplitTable, arena: ChangeArena) {
        self.missing = missing
        makesRow =
            missing.isEmpty && operation.kind == .update
            && table.valueColumns.allSatisfy {
                arena.cells[operation.newCell($0, table: table, arena: arena)].kind != .unchanged
            }
    }
}
