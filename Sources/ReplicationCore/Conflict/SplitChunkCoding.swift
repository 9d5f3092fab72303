/// Writes a chunk of a side's stream, and what the reader made of it, as bytes for a file; and reads them back.
///
/// The definitions of tables are no part of it: they stay in memory.
public enum SplitChunkCoding {
    private static let echoFlag: UInt32 = 1 << 31

    public static func encode(_ chunk: ChangeChunk, _ transactions: [SplitTransaction]) -> [UInt8] {
        var writer = SpillWriter()
        writer.reserve(chunk.arena.bytes.count + 13 * chunk.arena.cells.count + 40 * chunk.changes.count + 1_024)
        writer.put(chunk.arena.bytes)
        writer.put(UInt32(truncatingIfNeeded: chunk.arena.cells.count))
        for cell in chunk.arena.cells {
            writer.put(cell.kind.rawValue)
            writer.put(UInt32(bitPattern: cell.length))
            writer.put(UInt64(cell.offset))
        }
        writer.put(UInt32(truncatingIfNeeded: chunk.changes.count))
        for change in chunk.changes { put(change, into: &writer) }
        writer.put(UInt8(chunk.hasIncompleteInserts ? 1 : 0))
        writer.put(chunk.endLSN.rawValue)
        writer.put(UInt32(truncatingIfNeeded: transactions.count))
        for transaction in transactions { put(transaction, of: chunk, into: &writer) }
        return writer.bytes
    }

    /// - Parameters:
    ///   - tableOf: the layouts that the chunk was read with.
    /// - Returns: a chunk with the spans of these transactions alone, without truncations, notes and heartbeats: all that
    ///   applying them takes.
    public static func decode(
        _ bytes: [UInt8], _ range: Range<Int>, relations: RelationHistory, tableOf: (Int) -> SplitTable?
    ) throws(SpillFrame.Damage) -> (chunk: ChangeChunk, transactions: [SplitTransaction]) {
        var cursor = SpillCursor(bytes, range)
        var chunk = ChangeChunk()
        chunk.relations = relations
        chunk.arena.bytes = try cursor.takeBlock()
        let cellCount = try cursor.takeCount()
        chunk.arena.cells.reserveCapacity(cellCount)
        for _ in 0..<cellCount {
            guard let kind = Cell.Kind(rawValue: try cursor.take(UInt8.self)) else { throw .altered }
            let length = Int32(bitPattern: try cursor.take(UInt32.self))
            chunk.arena.cells.append(Cell(kind: kind, offset: Int(try cursor.take(UInt64.self)), length: length))
        }
        let changeCount = try cursor.takeCount()
        chunk.changes.reserveCapacity(changeCount)
        for _ in 0..<changeCount { chunk.changes.append(try takeChange(&cursor)) }
        chunk.hasIncompleteInserts = try cursor.take(UInt8.self) != 0
        chunk.endLSN = try cursor.takeLSN()
        var transactions: [SplitTransaction] = []
        for _ in 0..<(try cursor.takeCount()) {
            transactions.append(try takeTransaction(&cursor, into: &chunk, tableOf))
        }
        return (chunk, transactions)
    }

    /// Several of them, one after the other.
    public static func join(_ blocks: [[UInt8]]) -> [UInt8] {
        var writer = SpillWriter()
        writer.reserve(blocks.reduce(0) { $0 + $1.count + 4 })
        for block in blocks { writer.put(block) }
        return writer.bytes
    }

    /// Where each of them is.
    public static func split(_ bytes: [UInt8], _ range: Range<Int>) throws(SpillFrame.Damage) -> [Range<Int>] {
        var cursor = SpillCursor(bytes, range)
        var ranges: [Range<Int>] = []
        while !cursor.isAtEnd {
            let count = try cursor.takeCount()
            ranges.append(cursor.offset..<(cursor.offset + count))
            try cursor.skip(count)
        }
        return ranges
    }

    // MARK: changes

    private static func put(_ change: Change, into writer: inout SpillWriter) {
        writer.put(change.kind.rawValue)
        writer.put(UInt8(change.oldKind.map { $0 == .full ? 2 : 1 } ?? 0))
        writer.put(UInt32(truncatingIfNeeded: change.relation))
        for tuple in [change.old, change.new] {
            writer.put(UInt32(truncatingIfNeeded: tuple.firstCell))
            writer.put(UInt32(truncatingIfNeeded: tuple.count) << 1 | (tuple.hasUnchanged ? 1 : 0))
        }
    }

    private static func takeChange(_ cursor: inout SpillCursor) throws(SpillFrame.Damage) -> Change {
        guard let kind = Change.Kind(rawValue: try cursor.take(UInt8.self)) else { throw .altered }
        let oldKind = try cursor.take(UInt8.self)
        var change = Change(kind: kind, relation: try cursor.takeCount())
        change.oldKind = oldKind == 0 ? nil : oldKind == 2 ? .full : .key
        change.old = try takeTuple(&cursor)
        change.new = try takeTuple(&cursor)
        return change
    }

    private static func takeTuple(_ cursor: inout SpillCursor) throws(SpillFrame.Damage) -> TupleReference {
        let first = try cursor.takeCount()
        let field = try cursor.take(UInt32.self)
        return TupleReference(firstCell: first, count: Int(field >> 1), hasUnchanged: field & 1 != 0)
    }

    // MARK: transactions

    private static func put(
        _ transaction: SplitTransaction, of chunk: ChangeChunk, into writer: inout SpillWriter
    ) {
        let span = chunk.transactions[transaction.span]
        writer.put(span.xid)
        writer.put(span.endLSN.rawValue)
        writer.put(UInt32(truncatingIfNeeded: span.changes.lowerBound))
        writer.put(UInt32(truncatingIfNeeded: span.changes.upperBound))
        writer.put(UInt64(span.precedingCount))
        writer.put(transaction.commitLSN.rawValue)
        writer.put(transaction.commitTime.microseconds)
        writer.put(transaction.effectiveTime.microseconds)
        put(transaction.context, into: &writer)
        writer.put(UInt8(transaction.progress == nil ? 0 : 1))
        if let progress = transaction.progress {
            writer.put(progress.appliedLSN.rawValue)
            writer.put(progress.time.microseconds)
            put(progress.context, into: &writer)
        }
        writer.put(UInt32(truncatingIfNeeded: transaction.operations.count))
        for operation in transaction.operations {
            let index = span.changes.lowerBound + operation.id.position - span.precedingCount
            writer.put(UInt32(truncatingIfNeeded: index) | (operation.kind == .echo ? echoFlag : 0))
        }
        writer.put(UInt32(truncatingIfNeeded: transaction.plainChanges.count))
        for index in transaction.plainChanges { writer.put(UInt32(truncatingIfNeeded: index)) }
    }

    private static func put(_ context: CausalContext, into writer: inout SpillWriter) {
        writer.put(context.lsn.rawValue)
        writer.put(context.time.microseconds)
    }

    private static func takeContext(_ cursor: inout SpillCursor) throws(SpillFrame.Damage) -> CausalContext {
        CausalContext(lsn: try cursor.takeLSN(), time: try cursor.takeTime())
    }

    private static func takeTransaction(
        _ cursor: inout SpillCursor, into chunk: inout ChangeChunk, _ tableOf: (Int) -> SplitTable?
    ) throws(SpillFrame.Damage) -> SplitTransaction {
        let xid = try cursor.take(UInt32.self)
        let endLSN = try cursor.takeLSN()
        let (first, end) = (try cursor.takeCount(), try cursor.takeCount())
        let precedingCount = Int(try cursor.take(UInt64.self))
        guard first <= end, end <= chunk.changes.count else { throw .altered }
        let commitLSN = try cursor.takeLSN()
        let commitTime = try cursor.takeTime()
        var span = TransactionSpan(
            xid: xid, commitLSN: commitLSN, endLSN: endLSN, commitTime: commitTime, origin: nil, changes: first..<end)
        span.precedingCount = precedingCount
        chunk.transactions.append(span)
        var transaction = SplitTransaction(
            span: chunk.transactions.count - 1, commitLSN: commitLSN, commitTime: commitTime,
            effectiveTime: try cursor.takeTime(), context: try takeContext(&cursor), operations: [])
        if try cursor.take(UInt8.self) != 0 {
            transaction.progress = SplitProgress(
                appliedLSN: try cursor.takeLSN(), time: try cursor.takeTime(), context: try takeContext(&cursor))
        }
        let count = try cursor.takeCount()
        transaction.operations.reserveCapacity(count)
        for _ in 0..<count {
            let field = try cursor.take(UInt32.self)
            let index = Int(field & ~echoFlag)
            guard span.changes.contains(index) else { throw .altered }
            let change = chunk.changes[index]
            let id = OperationID(commitLSN: commitLSN, position: span.precedingCount + index - first)
            guard let table = tableOf(change.relation),
                let operation = field & echoFlag == 0
                    ? RowOperation(change, id: id, table: table, arena: chunk.arena, repeatsReferences: true)
                    : RowOperation(echoOf: change, id: id, table: table, arena: chunk.arena)
            else { throw .altered }
            transaction.operations.append(operation)
        }
        for _ in 0..<(try cursor.takeCount()) {
            let index = try cursor.takeCount()
            guard span.changes.contains(index) else { throw .altered }
            transaction.plainChanges.append(index)
        }
        return transaction
    }
}
