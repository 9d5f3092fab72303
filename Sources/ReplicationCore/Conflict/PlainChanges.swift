/// Operations that need no decision, as changes that write what they changed and nothing else: for the statements that
/// carry many rows.
///
/// What an update left alone is marked as not sent, so that no statement writes it.
public struct PlainChanges: Sendable {
    /// The changes that were added so far; their values are the source chunk's.
    public private(set) var chunk: ChangeChunk

    /// A changed key can't be among them, nor a change of a counter.
    ///
    /// - Parameter source: the chunk that the operations are from.
    public init(of source: ChangeChunk) {
        chunk = ChangeChunk()
        chunk.arena = source.arena
        chunk.relations = source.relations
    }

    public var isEmpty: Bool { chunk.changes.isEmpty }

    /// The columns whose changes call for statements of their own: differences are added.
    public static func counters(of table: SplitTable) -> Set<Int> {
        Set(
            table.columns.indices.filter { column in
                if case .shared(let shared) = table.columns[column].role { shared.mayAdd } else { false }
            })
    }

    /// Begins a transaction; operations that are added belong to the last one.
    public mutating func begin(_ transaction: SplitTransaction, xid: UInt32) {
        let position = chunk.changes.count
        var span = TransactionSpan(
            xid: xid, commitLSN: transaction.commitLSN, endLSN: LSN(transaction.commitLSN.rawValue + 1),
            commitTime: transaction.commitTime, origin: nil, changes: position..<position)
        span.precedingCount = transaction.operations.first?.id.position ?? 0
        chunk.transactions.append(span)
        chunk.endLSN = max(chunk.endLSN, span.endLSN)
    }

    /// Adds a change of a table that travels one way only, as it came.
    ///
    /// - Parameter index: of the change in the source chunk.
    public mutating func add(changeAt index: Int, of source: ChangeChunk) {
        guard let last = chunk.transactions.indices.last else { return }
        let change = source.changes[index]
        if change.kind == .insert, change.new.hasUnchanged { chunk.hasIncompleteInserts = true }
        chunk.changes.append(change)
        chunk.transactions[last].changes = chunk.transactions[last].changes.lowerBound..<chunk.changes.count
    }

    public mutating func add(_ operation: RowOperation, table: SplitTable) {
        guard let last = chunk.transactions.indices.last else { return }
        var change = Change(kind: .insert, relation: operation.relation, new: operation.new)
        switch operation.kind {
        case .insert:
            change.new.hasUnchanged = false
        case .update, .echo:
            change.kind = .update
            change.new.hasUnchanged = leaveAlone(operation, table)
        case .delete:
            change = Change(
                kind: .delete, relation: operation.relation, old: OldTuple(kind: .key, tuple: operation.old))
        case .move:
            return
        }
        chunk.changes.append(change)
        chunk.transactions[last].changes = chunk.transactions[last].changes.lowerBound..<chunk.changes.count
    }

    /// Marks the values that the operation does not write; whether there are any.
    private mutating func leaveAlone(_ operation: RowOperation, _ table: SplitTable) -> Bool {
        if operation.old.count > 0, operation.new.hasUnchanged {
            // An echo has values, too, that TOAST left out of the new row.
            for index in table.keyIndexes + operation.columns.map({ table.columns[$0].sourceIndex }) {
                let cell = operation.new.firstCell + index
                if chunk.arena.cells[cell].kind == .unchanged {
                    chunk.arena.cells[cell] = chunk.arena.cells[operation.old.firstCell + index]
                }
            }
        }
        if operation.columns.count == table.valueColumns.count { return false }
        var written = operation.columns[...]
        for column in table.valueColumns {
            let cell = operation.new.firstCell + table.columns[column].sourceIndex
            if written.first == column {
                written = written.dropFirst()
            } else if chunk.arena.cells[cell].kind != .unchanged {
                // Mostly it is so already (`NeededValues`), and the source's cells need not be copied.
                chunk.arena.cells[cell].kind = .unchanged
            }
        }
        return true
    }
}
