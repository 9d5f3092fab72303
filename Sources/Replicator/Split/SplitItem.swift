import ReplicationCore

/// A piece of one side's stream, with the layout of its tables; shared by what it brings.
final class SplitChunk: Sendable {
    let chunk: ChangeChunk
    /// By index of the definition; none for tables that are not part of the split.
    let tables: [Int: SplitTable]
    private let hasReferenced: Bool
    /// Whether its transactions may be applied in parts: rows that refer to others may come before those, and what becomes of
    /// rows that refer to deleted ones comes at the end.
    let isDivisible: Bool

    init(_ chunk: ChangeChunk, tables: [Int: SplitTable]) {
        self.chunk = chunk
        self.tables = tables
        hasReferenced = tables.values.contains(where: \.isReferenced)
        isDivisible = !hasReferenced && tables.values.allSatisfy(\.references.isEmpty)
    }

    /// Whether a transaction of the chunk deletes a row, or changes its key, of a table that others refer to.
    func endsReferenced(_ transaction: SplitTransaction) -> Bool {
        hasReferenced
            && transaction.operations.contains { operation in
                switch operation.kind {
                case .delete, .move: tables[operation.relation]?.isReferenced == true
                case .insert, .update, .echo: false
                }
            }
    }
}

/// Why a position is worth recording although nothing is to be applied.
enum SplitSign: Sendable {
    /// This worker's own sign of life.
    case beat(Heartbeat)
    /// Somebody waits for the position.
    case marker
}

/// Something that waits to be applied to the other side.
struct SplitItem: Sendable {
    enum Content: Sendable {
        /// Whole transactions of a chunk that follow each other, or a part of one.
        case transactions([SplitTransaction])
        /// Nothing to do up to here, which is worth recording.
        case position(SplitProgress, SplitSign)
    }

    let content: Content
    let chunk: SplitChunk
    /// Size of its values: the last item of a chunk has all of the chunk's.
    let sizeBytes: Int
    /// Whether a row has gone that others refer to: what becomes of those is the last thing in the target's transaction.
    let endsGroup: Bool
    /// Changes that are to be applied.
    let changeCount: Int
    /// Memory that goes with it.
    let heldBytes: Int

    init(content: Content, chunk: SplitChunk, sizeBytes: Int, endsGroup: Bool = false) {
        self.content = content
        self.chunk = chunk
        self.sizeBytes = sizeBytes
        self.endsGroup = endsGroup
        let transactions = if case .transactions(let transactions) = content { transactions } else { [SplitTransaction]() }
        let operationCount = transactions.reduce(0) { $0 + $1.operations.count }
        changeCount = transactions.reduce(0) { $0 + $1.changeCount }
        heldBytes =
            sizeBytes + MemoryLayout<SplitItem>.stride + transactions.count * MemoryLayout<SplitTransaction>.stride
            + operationCount * Self.operationBytes + (changeCount - operationCount) * MemoryLayout<Int>.stride
    }

    /// So many changes of small transactions are one item, which is copied about as one.
    static let runChanges = 256

    /// What a chunk brings.
    ///
    /// - Parameter runChanges: what transactions that share an item may have of changes; a group is a number of items.
    static func items(_ transactions: [SplitTransaction], of chunk: SplitChunk, runChanges: Int = runChanges) -> [SplitItem] {
        var items: [SplitItem] = []
        var run: [SplitTransaction] = []
        var changeCount = 0
        func close(isLast: Bool, endsGroup: Bool = false) {
            if run.isEmpty { return }
            items.append(
                SplitItem(
                    content: .transactions(run), chunk: chunk, sizeBytes: isLast ? chunk.chunk.sizeBytes : 0, endsGroup: endsGroup))
            run.removeAll(keepingCapacity: false)
            changeCount = 0
        }
        for (index, transaction) in transactions.enumerated() {
            let isPart = transaction.progress == nil || chunk.chunk.transactions[transaction.span].precedingCount > 0
            if isPart || changeCount + transaction.changeCount > runChanges { close(isLast: false) }
            run.append(transaction)
            changeCount += transaction.changeCount
            let endsGroup = chunk.endsReferenced(transaction)
            let isLast = index == transactions.count - 1
            if isPart || endsGroup || isLast { close(isLast: isLast, endsGroup: endsGroup) }
        }
        return items
    }

    /// The same with these transactions alone.
    func with(_ transactions: [SplitTransaction]) -> SplitItem {
        SplitItem(content: .transactions(transactions), chunk: chunk, sizeBytes: sizeBytes, endsGroup: endsGroup)
    }

    /// An operation with its key and its list of columns, about.
    private static let operationBytes = MemoryLayout<RowOperation>.stride + 128

    /// Where the direction stands after it; `nil` inside a transaction.
    var progress: SplitProgress? {
        switch content {
        case .transactions(let transactions): transactions.last?.progress
        case .position(let progress, _): progress
        }
    }

    var transactions: [SplitTransaction] {
        if case .transactions(let transactions) = content { transactions } else { [] }
    }
}

/// Whole transactions of one side that share a transaction on the other.
struct SplitGroup: Sendable {
    let items: [SplitItem]

    /// - Parameter items: at least one, the last of which ends a transaction.
    init(_ items: [SplitItem]) { self.items = items }

    var progress: SplitProgress? { items.last?.progress }

    /// The first note of the target's transaction.
    var appliedNote: SplitNote? {
        switch items.last?.content {
        case .transactions(let transactions): transactions.last?.appliedNote
        case .position(let progress, _): progress.appliedNote
        case nil: nil
        }
    }

    var heartbeat: Heartbeat? {
        for item in items.reversed() {
            if case .position(_, .beat(let beat)) = item.content { return beat }
        }
        return nil
    }

    var commitTime: PostgresTime? { items.lazy.reversed().compactMap(\.transactions.last).first?.commitTime }
    var changeCount: Int { items.reduce(0) { $0 + $1.changeCount } }
    var transactions: some BidirectionalCollection<SplitTransaction> { items.lazy.flatMap(\.transactions) }
    /// Whether there is something that may have to be decided.
    var hasOperations: Bool { transactions.contains { !$0.operations.isEmpty } }
    var transactionCount: Int { transactions.count { $0.progress != nil } }
}
