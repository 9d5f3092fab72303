/// Reads one database's stream for a split: what its local transactions have to do in the other database, and what they
/// mean for the writes that come from there.
///
/// Use: `restart` with both directions' durable progress, stream from `startLSN`, and give each chunk to `read`. The
/// stream must contain all origins (`origin 'any'`) and messages. Transactions that carry our own origin are never sent
/// back; those of other origins (a subscription from elsewhere) count as local.
public struct SplitReader: Sendable {
    /// Origin name of the direction that writes into this database.
    public let ownOrigin: String
    /// Where the stream must begin. The slot's own start, if it is zero.
    public let startLSN: LSN
    /// Everything before this LSN has been read.
    public private(set) var readLSN: LSN
    public var history: LocalHistory
    private let tableIDs: [QualifiedName: Int]
    /// Earlier transactions are read for the history alone: they are applied.
    private let deliverLSN: LSN
    private var clock: HybridClock
    private var context: CausalContext
    /// A transaction of which more is to come.
    private var open: (commitLSN: LSN, effectiveTime: PostgresTime, isDelivered: Bool)?
    /// From which change on a transaction of our own direction that is being read holds consequences (`SplitNote`).
    private var consequences: Int?
    /// Whether one that is being read has made its rows whole (`SplitNote`).
    private var isWhole = false
    /// Whether one that is being read mends rows (`SplitNote`).
    private var isMended = false

    /// - Parameters:
    ///   - outgoing: durable progress of the direction that reads this database.
    ///   - incoming: durable progress of the direction that writes into it.
    ///   - tableIDs: `SplitTable.id` of every table of the split.
    ///   - historyLimitBytes: see `LocalHistory.limitBytes`.
    ///   - storage: for what is more.
    public static func restart(
        ownOrigin: String, outgoing: SplitProgress, incoming: SplitProgress, tableIDs: [QualifiedName: Int],
        historyLimitBytes: Int, storage: HistoryStorage
    ) -> SplitReader {
        // What the writes that are still to come in may not have seen is read again, to be known.
        let isBehind = incoming.context.lsn < outgoing.appliedLSN
        return SplitReader(
            ownOrigin: ownOrigin, startLSN: isBehind ? incoming.context.lsn : outgoing.appliedLSN,
            history: LocalHistory(
                limitBytes: historyLimitBytes, trimmedLSN: incoming.context.lsn, storage: storage),
            tableIDs: tableIDs, deliverLSN: outgoing.appliedLSN,
            time: isBehind ? incoming.context.time : outgoing.time, context: outgoing.context)
    }

    init(
        ownOrigin: String, startLSN: LSN, history: LocalHistory, tableIDs: [QualifiedName: Int],
        deliverLSN: LSN,
        time: PostgresTime, context: CausalContext
    ) {
        self.ownOrigin = ownOrigin
        self.startLSN = startLSN
        readLSN = startLSN
        self.history = history
        self.tableIDs = tableIDs
        self.deliverLSN = deliverLSN
        clock = HybridClock(time: time)
        self.context = context
    }

    /// The direction's progress once everything that was read is applied; `nil` inside a transaction, and while what is
    /// applied already is read again: progress never goes back. To be recorded now and then while there is nothing to
    /// apply, with its `appliedNote`; this direction's target trims its history by it.
    public var position: SplitProgress? {
        guard open == nil, readLSN >= deliverLSN else { return nil }
        return SplitProgress(appliedLSN: readLSN, time: clock.time, context: context)
    }

    /// What the database had seen of the other one where it was read last: what follows has seen no less.
    public var seen: CausalContext { context }

    /// Whether more of a transaction is to come.
    public var isInTransaction: Bool { open != nil }

    /// - Parameters:
    ///   - tableOf: layout of a relation's index; `nil` when its table is not part of the split.
    /// - Returns: in stream order, the transactions that have something to do in the other database.
    /// - Throws: `SplitError` for what can't be carried across, and what the history's storage throws.
    public mutating func read(
        _ chunk: ChangeChunk, tableOf: (Int) -> SplitTable?
    ) throws -> [SplitTransaction] {
        var transactions: [SplitTransaction] = []
        transactions.reserveCapacity(chunk.transactions.count)
        for (index, span) in chunk.transactions.enumerated() {
            let operations: [RowOperation]
            var plainChanges: [Int] = []
            let effectiveTime: PostgresTime
            if OriginName(ownOrigin).holds(span.origin) {
                let created = try note(span)
                effectiveTime = clock.time
                let (applied, own) = splitAtConsequences(span)
                var found = try echoes(applied, chunk, created: created, tableOf)
                if span.isCommitted { isWhole = false }
                if let own {
                    found += try readLocal(
                        own, chunk, effectiveTime: effectiveTime, isConsequence: true, tableOf, &plainChanges)
                }
                operations = found
            } else {
                effectiveTime = stamp(span)
                operations =
                    isMending(span)
                    ? [] : try readLocal(span, chunk, effectiveTime: effectiveTime, tableOf, &plainChanges)
            }
            // What has begun is also to end, even if the rest of it is nothing.
            let isDelivered =
                span.commitLSN >= deliverLSN
                && (!operations.isEmpty || !plainChanges.isEmpty || open?.isDelivered ?? false)
            open = span.isCommitted ? nil : (span.commitLSN, effectiveTime, isDelivered)
            if span.isCommitted { readLSN = max(readLSN, span.endLSN) }
            guard isDelivered else { continue }
            transactions.append(
                SplitTransaction(
                    span: index, commitLSN: span.commitLSN, commitTime: span.commitTime,
                    effectiveTime: effectiveTime, context: context, operations: operations,
                    plainChanges: plainChanges,
                    progress: span.isCommitted
                        ? SplitProgress(appliedLSN: span.endLSN, time: clock.time, context: context) : nil))
        }
        if open == nil { readLSN = max(readLSN, chunk.endLSN) }
        return transactions
    }

    /// Whether a transaction only makes rows what they are on the other side; its first piece says so.
    private mutating func isMending(_ span: TransactionSpan) -> Bool {
        if !isMended { isMended = span.notes.contains { (try? SplitNote.decode($0))?.contains(.mended) == true } }
        defer { if span.isCommitted { isMended = false } }
        return isMended
    }

    /// The effective time of a local transaction, the same for all its pieces.
    private mutating func stamp(_ span: TransactionSpan) -> PostgresTime {
        if let open, open.commitLSN == span.commitLSN { return open.effectiveTime }
        return clock.stamp(span.commitTime)
    }

    private mutating func readLocal(
        _ span: TransactionSpan, _ chunk: ChangeChunk, effectiveTime: PostgresTime, isConsequence: Bool = false,
        _ tableOf: (Int) -> SplitTable?, _ plainChanges: inout [Int]
    ) throws -> [RowOperation] {
        var operations: [RowOperation] = []
        var known = KnownTable()
        var likely: [Int] = []
        for (offset, index) in span.changes.enumerated() {
            let change = chunk.changes[index]
            if change.kind == .truncate {
                try refuse(chunk.truncations[change.relation], tableOf)
                continue
            }
            let id = OperationID(commitLSN: span.commitLSN, position: span.precedingCount + offset)
            known.look(change.relation, tableOf)
            if known.isOneWay {
                if plainChanges.isEmpty { plainChanges.reserveCapacity(span.changes.count - offset) }
                plainChanges.append(index)
                continue
            }
            guard let table = known.table else { continue }
            guard RowOperation.isTold(change, table, chunk.arena) else { throw SplitError.needsFullIdentity(table.name) }
            let mark = WriteMark(id: id, commitTime: span.commitTime, effectiveTime: effectiveTime)
            let operation = RowOperation(
                change, id: id, table: table, arena: chunk.arena, likely: likely, repeatsReferences: isConsequence)
            if let operation {
                if operation.kind == .update { likely = operation.columns }
                try history.record(operation, mark: mark, table: table, arena: chunk.arena)
                if operations.isEmpty { operations.reserveCapacity(span.changes.count - offset) }
                operations.append(operation)
            }
            try history.recordWatched(change, mark: mark, table: table, arena: chunk.arena)
            try history.recordNumber(change, mark: mark, table: table, arena: chunk.arena)
        }
        return operations
    }

    /// Takes in what our own direction says about a transaction of its; the rows that a changed key made anew.
    private mutating func note(_ span: TransactionSpan) throws -> Set<RowKey> {
        var created: Set<RowKey> = []
        for (index, content) in span.notes.enumerated() {
            for note in try SplitNote.decode(content) {
                switch note {
                case .applied(let seen):
                    context.advance(to: seen)
                    clock.observe(seen.time)
                case .matched(let table, let key, let deletion):
                    guard let id = tableIDs[table] else { continue }
                    try history.match(deletion, of: RowKey(table: id, bytes: key))
                case .created(let table, let key):
                    guard let id = tableIDs[table] else { continue }
                    created.insert(RowKey(table: id, bytes: key))
                case .whole:
                    isWhole = true
                case .mended:
                    break
                case .consequences:
                    consequences = index < span.notePositions.count ? span.notePositions[index] : 0
                }
            }
        }
        return created
    }

    /// What our own direction has applied, and what this side did because of it.
    private mutating func splitAtConsequences(_ span: TransactionSpan) -> (applied: TransactionSpan, own: TransactionSpan?) {
        defer { if span.isCommitted { consequences = nil } }
        guard let start = consequences else { return (span, nil) }
        let end = span.changes.upperBound
        let cut = min(max(span.changes.lowerBound + start - span.precedingCount, span.changes.lowerBound), end)
        var (applied, own) = (span, span)
        applied.changes = span.changes.lowerBound..<cut
        own.changes = cut..<end
        own.precedingCount = span.precedingCount + applied.changes.count
        return (applied, own.changes.isEmpty ? nil : own)
    }

    /// Our own direction's writes: they show what became of local ones. What this side's own columns got in new rows
    /// travels back.
    private mutating func echoes(
        _ span: TransactionSpan, _ chunk: ChangeChunk, created: Set<RowKey>, _ tableOf: (Int) -> SplitTable?
    ) throws -> [RowOperation] {
        // The notes of a transaction in pieces may come last.
        let isInOnePiece = span.isCommitted && span.precedingCount == 0
        // A key that no row has was noted in another form (`LocalHistory.strayMatches`).
        let tellsCreated = isInOnePiece && (created.isEmpty || created.isSubset(of: insertedKeys(span, chunk, tableOf)))
        var echoes: [RowOperation] = []
        var known = KnownTable()
        for (offset, index) in span.changes.enumerated() {
            let change = chunk.changes[index]
            // Most of what comes back: an update of a row that keeps its key.
            if change.kind == .truncate || change.kind == .update && change.oldKind == nil { continue }
            known.look(change.relation, tableOf)
            guard let table = known.table else { continue }
            let id = OperationID(commitLSN: span.commitLSN, position: span.precedingCount + offset)
            let isMove = RowOperation.changesKey(change, table, chunk.arena)
            if change.kind == .delete || isMove {
                let key = RowOperation.oldKey(of: change, table, chunk.arena)
                // What is only read again has been carried.
                if isMove, !isWhole, span.commitLSN >= deliverLSN, RowOperation.lacksOwnValue(change, table, chunk.arena) {
                    throw SplitError.needsFullIdentity(table.name)
                }
                history.endGeneration(of: key)
                let mark = WriteMark(id: id, commitTime: span.commitTime, effectiveTime: clock.time)
                if table.isReferenced {
                    let newKey = isMove ? RowOperation.newKey(of: change, table, chunk.arena) : nil
                    try history.recordPassage(of: key, to: newKey, mark: mark)
                }
                try history.recordNumber(change, mark: mark, table: table, arena: chunk.arena)
                // The other side has seen all of this transaction: what does not outlast it means nothing there.
                echoes.removeAll { $0.key == key }
            }
            let isEchoed =
                isMove
                || change.kind == .insert
                    && (table.echoesInserts || !tellsCreated
                        || !created.isEmpty
                            && created.contains(RowOperation.newKey(of: change, table, chunk.arena)))
            guard isEchoed, !isWhole else { continue }
            if let echo = RowOperation(echoOf: change, id: id, table: table, arena: chunk.arena) {
                echoes.append(echo)
            }
        }
        return echoes
    }

    private func insertedKeys(_ span: TransactionSpan, _ chunk: ChangeChunk, _ tableOf: (Int) -> SplitTable?) -> Set<RowKey> {
        Set(
            chunk.changes[span.changes].compactMap { change in
                guard change.kind == .insert, let table = tableOf(change.relation) else { return nil }
                return RowOperation.newKey(of: change, table, chunk.arena)
            })
    }

    /// The layout of the last change: the next one is mostly of the same table.
    private struct KnownTable {
        private var relation: Int?
        private(set) var table: SplitTable?
        var isOneWay: Bool { table?.isOneWay ?? false }

        mutating func look(_ relation: Int, _ tableOf: (Int) -> SplitTable?) {
            if relation == self.relation { return }
            self.relation = relation
            table = tableOf(relation)
        }
    }

    private func refuse(_ truncation: Truncation, _ tableOf: (Int) -> SplitTable?) throws(SplitError) {
        for relation in truncation.relations {
            if let table = tableOf(relation) { throw .truncated(table.name) }
        }
    }
}
