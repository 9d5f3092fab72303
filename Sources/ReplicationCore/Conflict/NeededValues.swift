/// What applying a chunk's transactions takes, without the rest: with a whole old row and a whole new one, an update brings
/// many times what it wrote.
///
/// Smaller chunks make larger groups of the same memory.
public struct NeededValues: Sendable {
    private let source: ChangeChunk
    private var arena = ChangeArena()
    private var changes: [Change]

    /// Leaves out of a chunk what its transactions, which refer to it, do not need. They then refer to what is returned.
    ///
    /// An update keeps its row's key and the values that it wrote; the old ones only of counters, whose difference is applied.
    /// What is read back from a file (`SplitChunkCoding`) comes to the same operations.
    ///
    /// - Parameter tableOf: the layouts that the transactions were read with.
    /// - Returns: `nil` when it is not worth it.
    public static func only(
        of chunk: ChangeChunk, for transactions: inout [SplitTransaction], tableOf: (Int) -> SplitTable?
    ) -> ChangeChunk? {
        var (count, largeCount) = (0, 0)
        for transaction in transactions {
            count += transaction.operations.count + transaction.plainChanges.count
            largeCount += transaction.operations.count { $0.kind == .update && $0.old.count > 0 }
        }
        guard 2 * largeCount > count else { return nil }
        var values = NeededValues(source: chunk, changes: chunk.changes)
        values.take(&transactions, tableOf)
        var smaller = chunk
        // It waits: room to grow would be counted, and make groups smaller.
        smaller.arena = values.arena.fitted()
        smaller.changes = values.changes
        return smaller
    }

    private init(source: ChangeChunk, changes: [Change]) {
        self.source = source
        self.changes = changes
        arena.cells.reserveCapacity(source.arena.cells.count / 2)
        // Those of changes that travel nowhere are gone.
        for index in changes.indices {
            self.changes[index].old = TupleReference(firstCell: 0, count: 0)
            self.changes[index].new = TupleReference(firstCell: 0, count: 0)
        }
    }

    private mutating func take(_ transactions: inout [SplitTransaction], _ tableOf: (Int) -> SplitTable?) {
        var known: (relation: Int, table: SplitTable, counters: Set<Int>)?
        for number in transactions.indices {
            let span = source.transactions[transactions[number].span]
            for place in transactions[number].operations.indices {
                let operation = transactions[number].operations[place]
                if known?.relation != operation.relation {
                    known = tableOf(operation.relation).map { (operation.relation, $0, PlainChanges.counters(of: $0)) }
                }
                guard let (_, table, counters) = known else { continue }
                let index = span.changes.lowerBound + operation.id.position - span.precedingCount
                // What an update of a row that refers to others leaves out may have to be written all the same.
                if operation.kind == .update, operation.old.count > 0, table.references.isEmpty {
                    takeUpdate(operation, at: index, table, counters)
                } else {
                    takeWhole(index)
                }
                transactions[number].operations[place].old = changes[index].old
                transactions[number].operations[place].new = changes[index].new
            }
            for index in transactions[number].plainChanges { takeWhole(index) }
        }
    }

    private mutating func takeWhole(_ index: Int) {
        let change = source.changes[index]
        changes[index].old = copy(change.old)
        changes[index].new = copy(change.new)
    }

    private mutating func copy(_ tuple: TupleReference) -> TupleReference {
        let first = arena.cells.count
        for cell in tuple.cells { arena.cells.append(copy(cell)) }
        return TupleReference(firstCell: first, count: tuple.count, hasUnchanged: tuple.hasUnchanged)
    }

    private mutating func takeUpdate(_ operation: RowOperation, at index: Int, _ table: SplitTable, _ counters: Set<Int>) {
        let first = arena.cells.count
        for _ in 0..<operation.new.count { arena.cells.append(Cell(kind: .unchanged)) }
        for position in table.keyIndexes {
            let isSent = source.arena.cells[operation.new.firstCell + position].kind != .unchanged
            arena.cells[first + position] = copy((isSent ? operation.new : operation.old).firstCell + position)
        }
        for column in operation.columns {
            let position = table.columns[column].sourceIndex
            arena.cells[first + position] = copy(operation.new.firstCell + position)
        }
        changes[index].new = TupleReference(firstCell: first, count: operation.new.count, hasUnchanged: true)
        let counted = counters.isEmpty ? [] : operation.columns.filter(counters.contains)
        guard !counted.isEmpty else { return changes[index].oldKind = nil }
        let old = arena.cells.count
        // Where the new row says nothing, nothing changed.
        for _ in 0..<operation.old.count { arena.cells.append(Cell(kind: .null)) }
        for position in table.keyIndexes { arena.cells[old + position] = arena.cells[first + position] }
        for column in operation.columns {
            let position = table.columns[column].sourceIndex
            arena.cells[old + position] = copy(operation.old.firstCell + position)
        }
        changes[index].old = TupleReference(firstCell: old, count: operation.old.count)
    }

    private mutating func copy(_ cell: Int) -> Cell {
        var copied = source.arena.cells[cell]
        let end = copied.offset + Int(copied.length)
        if copied.length > 0 {
            let start = arena.bytes.count
            arena.bytes.append(contentsOf: source.arena.bytes[copied.offset..<end])
            copied.offset = start
        }
        return copied
    }
}
