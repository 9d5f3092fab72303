import ReplicationCore

/// What waits to be applied from one side, in the order of its stream: in memory up to a bound, beyond it in files.
struct SplitQueue: Sendable {
    private enum Entry: Sendable {
        case item(SplitItem, serial: Int)
        case spilled(SplitSpilled)
    }

    /// What is to be done for the next group.
    enum Next: Sendable {
        case group(SplitGroup)
        /// Nothing can be said before this is in memory.
        case load(SplitSpilled)
        case wait
    }

    /// Items that are to go into a file.
    struct Spill: Sendable {
        /// The first of them. What was in a file and has come back has a later number than what stands behind it, so
        /// the others are told by their number only.
        fileprivate var firstSerial: Int
        fileprivate var itemCount: Int
        var chunks: [(chunk: SplitChunk, transactions: [SplitTransaction])]
    }

    private let limitBytes: Int
    private let stopBytes: Int
    /// A transaction that has to be applied in one piece, however large.
    private let wholeLSN: LSN?
    private let runChanges: Int
    private var entries: [Entry] = []
    private var spilledCount = 0
    private var nextSerial = 0
    /// Memory in use.
    private(set) var heldBytes = 0
    /// What bounds a group, of all that is in memory.
    private var sizeBytes = 0
    private var changeCount = 0
    private var endCount = 0
    /// Whether the first transaction has to be read to its end before anything can be applied.
    private(set) var waitsForWhole = false

    /// - Parameters:
    ///   - stopBytes: what one transaction may take that can't be applied in parts.
    ///   - groupChanges: the most that a group has of changes.
    init(limitBytes: Int, stopBytes: Int, wholeLSN: LSN? = nil, groupChanges: Int = .max) {
        runChanges = min(SplitItem.runChanges, groupChanges)
        self.limitBytes = limitBytes
        self.stopBytes = stopBytes
        self.wholeLSN = wholeLSN
    }

    var isEmpty: Bool { entries.isEmpty }
    /// Whether no more should be read, unless somebody waits for it.
    var isFull: Bool { heldBytes >= limitBytes || spilledCount > 0 }

    /// Whether a group taken now would end at a limit, or at something that ends it.
    func makesFullGroup(_ limits: GroupLimits) -> Bool {
        isFull || endCount > 0 || sizeBytes >= limits.bytes || changeCount >= limits.changes
    }

    // MARK: coming in

    mutating func append(_ transactions: [SplitTransaction], of chunk: SplitChunk) {
        for item in SplitItem.items(transactions, of: chunk, runChanges: runChanges) { append(item) }
    }

    mutating func append(_ item: SplitItem) {
        entries.append(.item(item, serial: nextSerial))
        nextSerial += 1
        account(item, 1)
    }

    private mutating func account(_ item: SplitItem, _ sign: Int) {
        heldBytes += sign * item.heldBytes
        sizeBytes += sign * item.sizeBytes
        changeCount += sign * item.changeCount
        if item.endsGroup { endCount += sign }
    }

    /// What should go into a file, if there is too much.
    func nextSpill() -> Spill? {
        // Fewer bytes are not worth a file.
        guard heldBytes >= limitBytes + min(1 << 20, limitBytes / 2), !waitsForWhole else { return nil }
        var firstSerial: Int?
        var itemCount = 0
        var bytes = 0
        var chunks: [(chunk: SplitChunk, transactions: [SplitTransaction])] = []
        // From the end, as far as memory is over its bound, whole chunks that lie together.
        for entry in entries.reversed() {
            guard case .item(let item, let serial) = entry, !item.transactions.isEmpty else {
                if firstSerial == nil { continue }
                break
            }
            if chunks.last?.chunk !== item.chunk {
                if heldBytes - bytes < limitBytes { break }
                chunks.append((item.chunk, []))
            }
            chunks[chunks.count - 1].transactions += item.transactions.reversed()
            bytes += item.heldBytes
            firstSerial = serial
            itemCount += 1
        }
        guard let firstSerial else { return nil }
        return Spill(
            firstSerial: firstSerial, itemCount: itemCount,
            chunks: chunks.reversed().map { ($0.chunk, $0.transactions.reversed()) })
    }

    /// Puts a file in the place of what it holds; false if some of that has been taken meanwhile.
    mutating func replace(_ spill: Spill, by spilled: SplitSpilled) -> Bool {
        let first = entries.firstIndex { entry in
            if case .item(_, let serial) = entry { serial == spill.firstSerial } else { false }
        }
        // Items go from the front: where the first is, all are.
        guard let first else { return false }
        let range = first..<(first + spill.itemCount)
        for case .item(let item, _) in entries[range] { account(item, -1) }
        entries.replaceSubrange(range, with: [.spilled(spilled)])
        spilledCount += 1
        return true
    }

    /// Puts back what was in a file.
    mutating func expand(_ spilled: SplitSpilled, to chunks: [(SplitChunk, [SplitTransaction])]) {
        let index = entries.firstIndex { entry in
            if case .spilled(let other) = entry { other === spilled } else { false }
        }
        guard let index else { return }
        var items: [Entry] = []
        for (chunk, transactions) in chunks {
            for item in SplitItem.items(transactions, of: chunk, runChanges: runChanges) {
                items.append(.item(item, serial: nextSerial))
                nextSerial += 1
                account(item, 1)
            }
        }
        entries.replaceSubrange(index...index, with: items)
        spilledCount -= 1
    }

    // MARK: going out

    /// Whole transactions up to the limits, at least one; of one that is too large for memory, its first part.
    mutating func next(_ limits: GroupLimits) throws -> Next {
        waitsForWhole = false
        var end = 0
        var sizeBytes = 0
        var changes = 0
        var isLast = false
        var canBeParted = true
        var following: SplitSpilled?
        for (index, entry) in entries.enumerated() {
            guard case .item(let item, _) = entry else {
                if case .spilled(let spilled) = entry { following = spilled }
                break
            }
            sizeBytes += item.sizeBytes
            changes += item.changeCount
            if end > 0, sizeBytes > limits.bytes || changes > limits.changes { break }
            isLast = isLast || item.endsGroup
            canBeParted = canBeParted && isDivisible(item)
            guard item.progress != nil else { continue }
            end = index + 1
            if isLast { break }
        }
        if end > 0 { return .group(take(end)) }
        guard let first = entries.first else { return .wait }
        if case .spilled(let spilled) = first { return .load(spilled) }
        if canBeParted {
            guard isFull else { return .wait }
            return nextPart(limits)
        }
        waitsForWhole = true
        guard heldBytes < stopBytes else { throw SplitOverflow.transaction(firstLSN ?? .zero) }
        return following.map { .load($0) } ?? .wait
    }

    /// The next part of the transaction that comes first.
    mutating func nextPart(_ limits: GroupLimits) -> Next {
        guard let lsn = firstLSN else {
            if case .spilled(let spilled)? = entries.first { return .load(spilled) }
            return .wait
        }
        var end = 0
        var sizeBytes = 0
        for entry in entries {
            guard case .item(let item, _) = entry, item.transactions.last?.commitLSN == lsn else { break }
            sizeBytes += item.sizeBytes
            if end > 0, sizeBytes > limits.bytes { break }
            end += 1
            if item.progress != nil { break }
        }
        return .group(take(end))
    }

    /// Whether a group can be taken at once.
    mutating func nextNow(_ limits: GroupLimits) -> SplitGroup? {
        guard spilledCount == 0, !waitsForWhole else { return nil }
        guard entries.contains(where: { if case .item(let item, _) = $0 { item.progress != nil } else { false } }) else { return nil }
        if case .group(let group)? = try? next(limits) { return group }
        return nil
    }

    private var firstLSN: LSN? {
        guard case .item(let item, _)? = entries.first else { return nil }
        return item.transactions.last?.commitLSN
    }

    /// What rows become that refer to others is known at a transaction's end alone.
    private func isDivisible(_ item: SplitItem) -> Bool {
        if let wholeLSN, item.transactions.last?.commitLSN == wholeLSN { return false }
        return item.chunk.isDivisible
    }

    private mutating func take(_ count: Int) -> SplitGroup {
        var items: [SplitItem] = []
        for case .item(let item, _) in entries[..<count] {
            items.append(item)
            account(item, -1)
        }
        entries.removeSubrange(..<count)
        return SplitGroup(items)
    }
}
