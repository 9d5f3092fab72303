/// Turns decoded messages into chunks of whole transactions.
///
/// Use: decode each message into `arena`, pass it to `handle`, and at the end of a read call `take` until it has none.
public struct TransactionAssembler: Sendable {
    /// Bytes of one transaction that may gather before it is cut.
    public let cutBytes: Int
    public private(set) var relations = RelationHistory()
    private var chunk = ChangeChunk()
    /// Complete chunks that go before it.
    private var finished: [ChangeChunk] = []
    /// How much the last chunk had that had rows.
    private var last = (bytes: 0, cells: 0, changes: 0)
    /// The transaction being read; its changes end where the chunk's do.
    private var open: TransactionSpan?

    public init(cutBytes: Int = 4 << 20) { self.cutBytes = cutBytes }

    /// Makes room for what a read has brought, by what the last chunk was: growing bit by bit copies it again and again.
    ///
    /// - Parameters:
    ///   - bytes: of the rows in it, at most; a row has no more cells.
    ///   - messages: how many it is, at least as many as its changes.
    public mutating func reserve(bytes: Int, messages: Int) {
        guard chunk.arena.bytes.count < bytes, last.bytes > 0 else { return }
        func share(_ count: Int) -> Int { count * bytes / last.bytes * 9 / 8 + 4 }
        chunk.arena.bytes.reserveCapacity(chunk.arena.bytes.count + bytes)
        chunk.arena.cells.reserveCapacity(chunk.arena.cells.count + min(share(last.cells), bytes))
        chunk.changes.reserveCapacity(chunk.changes.count + min(share(last.changes), messages))
    }

    /// Where the decoder puts values.
    public var arena: ChangeArena {
        _read { yield chunk.arena }
        _modify { yield &chunk.arena }
    }

    /// Whether a transaction has begun and not yet ended.
    ///
    /// Not `open != nil`: that copies all of it into a comparison.
    public var isInTransaction: Bool { if case .some = open { true } else { false } }
    /// Whether so much of a transaction is here, or has been taken, that nobody sees before the rest of it has come.
    public func hasBegun(bytes: Int) -> Bool {
        guard let open else { return false }
        return open.precedingCount > 0 || chunk.sizeBytes >= bytes
    }

    /// Whether a piece of the transaction that is being read has been taken.
    public var isCut: Bool { open?.isCut ?? false }
    public var sizeBytes: Int { chunk.sizeBytes }
    /// Changes that wait to be taken.
    public var changeCount: Int { chunk.changes.count }

    public mutating func handle(_ message: PGOutputMessage) throws(StreamError) {
        switch message {
        case .begin(let finalLSN, let commitTime, let xid):
            guard !isInTransaction else { throw .unexpected("Begin inside a transaction") }
            open = TransactionSpan(
                xid: xid, commitLSN: finalLSN, endLSN: .zero, commitTime: commitTime, origin: nil,
                changes: chunk.changes.count..<chunk.changes.count)
        case .commit(let commitLSN, let endLSN, let commitTime):
            // Of a transaction that was read before its commit the place is known only now.
            open?.commitLSN = commitLSN
            open?.isEarly = false
            try finish(endLSN: endLSN, commitTime: commitTime)
        case .origin(_, let name):
            open?.origin = name
        case .relation(let relation, _):
            relations.record(relation)
        case .type:
            break
        case .insert(let relation, let new, _):
            let entry = try entry(relation)
            try add(width: entry.width, Change(kind: .insert, relation: entry.index, new: new))
        case .update(let relation, let old, let new, _):
            let entry = try entry(relation)
            try add(width: entry.width, Change(kind: .update, relation: entry.index, old: old, new: new))
        case .delete(let relation, let old, _):
            let entry = try entry(relation)
            try add(width: entry.width, Change(kind: .delete, relation: entry.index, old: old))
        case .truncate(let ids, let cascade, let restartIdentity, _):
            var indexes: [Int] = []
            for id in ids { indexes.append(try entry(id).index) }
            chunk.truncations.append(
                Truncation(relations: indexes, cascades: cascade, restartsIdentity: restartIdentity))
            try add(width: 0, Change(kind: .truncate, relation: chunk.truncations.count - 1))
        case .message(_, let lsn, let prefix, let content, _):
            note(prefix: prefix, content: content, lsn: lsn)
        case .beginPrepare(let prepareLSN, let endLSN, let prepareTime, let xid, _):
            guard !isInTransaction else { throw .unexpected("Begin Prepare inside a transaction") }
            endChunk()
            open = TransactionSpan(
                xid: xid, commitLSN: prepareLSN, endLSN: .zero, commitTime: prepareTime, origin: nil, changes: 0..<0,
                twoPhase: .prepare(endLSN: endLSN))
        case .prepare(_, let endLSN, let prepareTime, _, _):
            guard open?.twoPhase == .prepare(endLSN: endLSN) else { throw .unexpected("Prepare without its beginning") }
            try finish(endLSN: endLSN, commitTime: prepareTime)
            endChunk()
        case .commitPrepared(let commitLSN, let endLSN, let commitTime, let xid, _):
            try add(.commit, xid: xid, commitLSN: commitLSN, endLSN: endLSN, time: commitTime)
        case .rollbackPrepared(_, let endLSN, _, let rollbackTime, let xid, _):
            try add(.rollback, xid: xid, commitLSN: endLSN, endLSN: endLSN, time: rollbackTime)
        case .streamStart, .streamStop, .streamCommit, .streamAbort, .streamPrepare:
            throw .unexpected("a streamed transaction where none may be")
        }
    }

    /// The end of a prepared transaction, in a chunk of its own.
    private mutating func add(
        _ step: TwoPhaseStep, xid: UInt32, commitLSN: LSN, endLSN: LSN, time: PostgresTime
    ) throws(StreamError) {
        guard !isInTransaction else { throw .unexpected("the end of a prepared transaction inside a transaction") }
        endChunk()
        chunk.transactions = [
            TransactionSpan(
                xid: xid, commitLSN: commitLSN, endLSN: endLSN, commitTime: time, origin: nil, changes: 0..<0, twoPhase: step)
        ]
        chunk.endLSN = max(chunk.endLSN, endLSN)
        endChunk()
    }

    /// What follows stands in another chunk.
    private mutating func endChunk() {
        if !chunk.isEmpty { finished.append(exchange(with: ChangeChunk())) }
    }

    // MARK: streamed transactions

    /// A number for the next announcement of a table, wherever it is kept; each is larger than those before.
    public mutating func nextAnnouncement() -> UInt64 { relations.nextAnnouncement() }

    /// From here on only the definitions that the transaction brings itself hold.
    mutating func beginOwnRelations() { relations.beginOwn() }

    mutating func record(_ relation: RelationMessage, announcement: UInt64) {
        relations.recordOwn(relation, announcement: announcement)
    }

    mutating func endOwnRelations() { relations.endOwn() }

    /// Begins a transaction whose commit has not come yet, and may never come.
    ///
    /// - Parameter lsn: a position before its commit.
    mutating func beginEarly(xid: UInt32, after lsn: LSN, sentAt: PostgresTime) throws(StreamError) {
        try handle(.begin(finalLSN: lsn, commitTime: sentAt, xid: xid))
        open?.isEarly = true
        beginOwnRelations()
    }

    /// Forgets the transaction that is being read; what was taken of it is to be taken back, before what follows.
    mutating func retract() {
        guard let open else { return }
        self.open = nil
        relations.abandonOwn()
        if chunk.transactions.isEmpty {
            // Not even their room stays: by it the next piece is measured.
            let heartbeat = chunk.heartbeat
            let endLSN = chunk.endLSN
            chunk = ChangeChunk()
            (chunk.heartbeat, chunk.endLSN) = (heartbeat, endLSN)
        } else {
            _ = splitTail(from: open.changes.lowerBound)
        }
        if !open.isCut { return }
        endChunk()
        var order = ChangeChunk()
        order.retracts = true
        finished.append(order)
    }

    // MARK: chunks

    /// The idle position: the server has nothing before this LSN. Ignored inside a transaction.
    public mutating func handleIdle(at lsn: LSN) {
        guard !isInTransaction, lsn > chunk.endLSN else { return }
        chunk.endLSN = lsn
    }

    /// Takes what is complete, until there is nothing more: prepared transactions stand in chunks of their own. An
    /// unfinished transaction stays, unless it has outgrown `cutBytes`: values, cells and changes.
    public mutating func take() -> ChangeChunk? {
        if !finished.isEmpty { return finished.removeFirst() }
        guard var current = open else {
            guard !chunk.isEmpty else { return nil }
            return exchange(with: ChangeChunk())
        }
        if chunk.transactions.isEmpty {
            guard chunk.sizeBytes >= cutBytes else { return nil }
            current.changes = current.changes.lowerBound..<chunk.changes.count
            chunk.transactions.append(current)
            current.precedingCount += current.changes.count
            current.isCut = true
            current.changes = 0..<0
            current.notes = []
            current.notePositions = []
            open = current
            return exchange(with: ChangeChunk())
        }
        let tail = splitTail(from: current.changes.lowerBound)
        current.changes = 0..<tail.changes.count
        open = current
        return exchange(with: tail)
    }

    private mutating func exchange(with next: consuming ChangeChunk) -> ChangeChunk {
        // Not copied: nobody else has it.
        var result = next
        swap(&result, &chunk)
        result.relations = relations
        if !result.arena.bytes.isEmpty {
            last = (result.arena.bytes.count, result.arena.cells.count, result.changes.count)
        }
        if chunk.changes.isEmpty { relations.forgetSuperseded() }
        return result
    }

    private mutating func finish(endLSN: LSN, commitTime: PostgresTime) throws(StreamError) {
        guard var transaction = open.take() else { throw .unexpected("Commit outside a transaction") }
        transaction.endLSN = endLSN
        transaction.commitTime = commitTime
        transaction.changes = transaction.changes.lowerBound..<chunk.changes.count
        chunk.transactions.append(transaction)
        chunk.endLSN = max(chunk.endLSN, endLSN)
    }

    private mutating func add(width: Int, _ change: Change) throws(StreamError) {
        guard isInTransaction else { throw .unexpected("a change outside a transaction") }
        if change.kind != .truncate {
            // Everything after this line may index a tuple by its relation's columns.
            guard change.kind == .delete || change.new.count == width,
                change.oldKind == nil || change.old.count == width
            else { throw .unexpected("a row with another number of columns than its relation") }
        }
        if change.kind == .insert, change.new.hasUnchanged { chunk.hasIncompleteInserts = true }
        chunk.changes.append(change)
    }

    private func entry(_ id: UInt32) throws(StreamError) -> (index: Int, width: Int) {
        guard let entry = relations.entry(of: id) else { throw .unknownRelation(id) }
        return entry
    }

    private mutating func note(prefix: String, content: [UInt8], lsn: LSN) {
        if prefix == SplitNote.messagePrefix, let transaction = open {
            open?.notes.append(content)
            open?.notePositions.append(transaction.precedingCount + chunk.changes.count - transaction.changes.lowerBound)
        }
        guard prefix == Heartbeat.messagePrefix,
            let beat = Heartbeat(content: content, sourceLSN: lsn, sentAt: open?.commitTime ?? .init(microseconds: 0))
        else { return }
        // A worker waits for its own; whoever wrote the marker is served by either.
        if beat.isMarker, chunk.heartbeat != nil { return }
        chunk.heartbeat = beat
    }

    /// Moves the changes from `first` on, with their values, out of the chunk.
    private mutating func splitTail(from first: Int) -> ChangeChunk {
        var tail = ChangeChunk()
        guard first < chunk.changes.count else { return tail }
        // The last entry is for a tail of truncations, which have no cells.
        let firstCell = min(chunk.changes[first...].lazy.map(\.lowestCell).min() ?? .max, chunk.arena.cells.count)
        let cells = chunk.arena.cells[firstCell...]
        let firstByte = cells.first(where: \.hasValue)?.offset ?? chunk.arena.bytes.count
        tail.arena.bytes = Array(chunk.arena.bytes[firstByte...])
        tail.arena.cells = cells.map { cell in
            var moved = cell
            if cell.hasValue { moved.offset -= firstByte }
            return moved
        }
        let firstTruncation = chunk.changes[first...].first { $0.kind == .truncate }?.relation
        if let firstTruncation { tail.truncations = Array(chunk.truncations[firstTruncation...]) }
        tail.hasIncompleteInserts = chunk.hasIncompleteInserts
        tail.changes = chunk.changes[first...].map { $0.moved(cells: firstCell, truncations: firstTruncation ?? 0) }
        chunk.arena.bytes.removeSubrange(firstByte...)
        chunk.arena.cells.removeSubrange(firstCell...)
        chunk.changes.removeSubrange(first...)
        if let firstTruncation { chunk.truncations.removeSubrange(firstTruncation...) }
        return tail
    }
}

extension Change {
    fileprivate var lowestCell: Int {
        switch kind {
        case .insert: new.firstCell
        case .update: oldKind == nil ? new.firstCell : min(old.firstCell, new.firstCell)
        case .delete: old.firstCell
        case .truncate: Int.max
        }
    }

    fileprivate func moved(cells: Int, truncations: Int) -> Change {
        var change = self
        if kind == .truncate {
            change.relation -= truncations
        } else {
            if kind != .delete { change.new.firstCell -= cells }
            if oldKind != nil { change.old.firstCell -= cells }
        }
        return change
    }
}
