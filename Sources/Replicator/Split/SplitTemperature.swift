import ReplicationCore

/// Which of a group's operations need a decision (hot), and which can go in bulk (cold): all operations of a row are one
/// or the other.
struct SplitTemperature {
    /// The hot operations, in order; their transactions, and what these may record, are kept.
    private(set) var hot: SplitGroup
    /// The cold ones, by the chunk they came in.
    private(set) var cold: [ChangeChunk] = []
    /// Rows of the cold ones, with what their writers had seen.
    private(set) var coldKeys: [(key: RowKey, context: CausalContext)] = []

    /// - Parameters:
    ///   - allHot: after bulk statements met something.
    ///   - isTouched: whether the target's own history bears on a row.
    init(
        _ group: SplitGroup, targets: SplitTargets, allHot: Bool, isTouched: (RowKey, CausalContext) -> Bool
    ) {
        guard !allHot else {
            hot = group
            return
        }
        var hotKeys: Set<RowKey> = []
        for item in group.items {
            guard let transaction = item.transaction else { continue }
            for operation in transaction.operations {
                guard let target = targets[operation.relation]?.target else { continue }
                let isPlain = target.allowsBulk(operation) && !isTouched(operation.key, transaction.context)
                if isPlain { continue }
                hotKeys.insert(operation.key)
                if case .move(let newKey) = operation.kind { hotKeys.insert(newKey) }
            }
        }
        var items: [SplitItem] = []
        var current: (chunk: SplitChunk, plain: PlainChanges)?
        for item in group.items {
            guard let transaction = item.transaction else {
                items.append(item)
                continue
            }
            if current?.chunk !== item.chunk {
                if let plain = current?.plain, !plain.isEmpty { cold.append(plain.chunk) }
                current = (item.chunk, PlainChanges(of: item.chunk.chunk))
            }
            current?.plain.begin(transaction, xid: item.chunk.chunk.transactions[transaction.span].xid)
            var rest = transaction
            rest.operations.removeAll()
            for operation in transaction.operations {
                guard let target = targets[operation.relation]?.target else { continue }
                if hotKeys.contains(operation.key) {
                    rest.operations.append(operation)
                } else {
                    current?.plain.add(operation, table: target.table)
                    coldKeys.append((operation.key, transaction.context))
                }
            }
            var remaining = item
            remaining.content = .transaction(rest)
            items.append(remaining)
        }
        if let plain = current?.plain, !plain.isEmpty { cold.append(plain.chunk) }
        hot = SplitGroup(items)
    }
}

extension SplitTarget {
    /// Whether an operation may go in a statement for many rows.
    func allowsBulk(_ operation: RowOperation) -> Bool {
        if operation.kind == .insert, !fills.isEmpty { return false }
        return PlainChanges.canHold(operation, table: table)
    }
}
