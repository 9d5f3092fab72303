import ReplicationCore

/// A piece of one side's stream, with the layout of its tables; shared by what it brings.
final class SplitChunk: Sendable {
    let chunk: ChangeChunk
    /// By index of the definition; none for tables that are not part of the split.
    let tables: [Int: SplitTable]

    init(_ chunk: ChangeChunk, tables: [Int: SplitTable]) {
        self.chunk = chunk
        self.tables = tables
    }

    /// Whether a transaction of the chunk deletes a row, or changes its key, of a table that others refer to.
    func endsReferenced(_ transaction: SplitTransaction) -> Bool {
        guard tables.values.contains(where: \.isReferenced) else { return false }
        return transaction.operations.contains { operation in
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
        /// A transaction, or a part of one.
        case transaction(SplitTransaction)
        /// Nothing to do up to here, which is worth recording.
        case position(SplitProgress, SplitSign)
    }

    var content: Content
    var chunk: SplitChunk
    /// Size of its values: the last item of a chunk has all of the chunk's.
    var sizeBytes: Int
    /// Whether a row has gone that others refer to: what becomes of those is the last thing in the target's transaction.
    var endsGroup = false

    /// What a chunk brings.
    static func items(_ transactions: [SplitTransaction], of chunk: SplitChunk) -> [SplitItem] {
        let last = transactions.count - 1
        return transactions.enumerated().map { index, transaction in
            SplitItem(
                content: .transaction(transaction), chunk: chunk, sizeBytes: index == last ? chunk.chunk.sizeBytes : 0,
                endsGroup: chunk.endsReferenced(transaction))
        }
    }

    /// An operation with its key and its list of columns, about.
    private static let operationBytes = MemoryLayout<RowOperation>.stride + 128

    /// Memory that goes with it.
    var heldBytes: Int {
        sizeBytes + MemoryLayout<SplitItem>.stride + (transaction.map { $0.operations.count * Self.operationBytes + $0.plainChanges.count * 8 } ?? 0)
    }

    /// Whether its transaction may be applied in parts: rows that refer to others may come before those, and what becomes
    /// of rows that refer to deleted ones comes at the end.
    var isDivisible: Bool { chunk.tables.values.allSatisfy { $0.references.isEmpty && !$0.isReferenced } }

    /// Where the direction stands after it; `nil` inside a transaction.
    var progress: SplitProgress? {
        switch content {
        case .transaction(let transaction): transaction.progress
        case .position(let progress, _): progress
        }
    }

    var transaction: SplitTransaction? {
        if case .transaction(let transaction) = content { transaction } else { nil }
    }

    /// Changes that are to be applied.
    var changeCount: Int { transaction.map { $0.operations.count + $0.plainChanges.count } ?? 0 }
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
        case .transaction(let transaction): transaction.appliedNote
        case .position(let progress, _): progress.appliedNote
        case nil: nil
        }
    }

    var heartbeat: Heartbeat? {
        for case .position(_, .beat(let beat)) in items.reversed().map(\.content) { return beat }
        return nil
    }

    var commitTime: PostgresTime? { items.lazy.reversed().compactMap(\.transaction).first?.commitTime }
    var changeCount: Int { items.reduce(0) { $0 + $1.changeCount } }
    /// Whether there is something that may have to be decided.
    var hasOperations: Bool { items.contains { $0.transaction?.operations.isEmpty == false } }
    var transactionCount: Int { items.count { $0.transaction?.progress != nil } }
}
