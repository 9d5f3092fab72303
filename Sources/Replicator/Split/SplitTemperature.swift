import ReplicationCore

/// Which of a group's operations need a decision (hot), and which can go in bulk (cold): all operations of a row are one
/// or the other.
struct SplitTemperature: Sendable {
    /// The hot operations, in order, in the transactions that they are from.
    private(set) var hot: SplitGroup
    /// The cold ones, by the chunk they came in.
    private(set) var cold: [ChangeChunk] = []
    /// Rows of the cold ones, with what their writers had seen.
    private(set) var coldKeys: [(key: RowKey, context: CausalContext)] = []

    /// Without bulk statements: everything is decided one by one.
    init(allHot group: SplitGroup) { hot = group }

    /// - Parameter history: of the side that is written.
    init(_ group: SplitGroup, targets: SplitTargets, history: LocalHistory) {
        let hotKeys = Self.hotKeys(group, targets, history)
        var items: [SplitItem] = []
        var cold: [ChangeChunk] = []
        var current: (chunk: SplitChunk, plain: PlainChanges)?
        func close() {
            if let plain = current?.plain, !plain.isEmpty { cold.append(plain.chunk) }
            current = nil
        }
        coldKeys.reserveCapacity(group.operationCount)
        for item in group.items {
            guard let transaction = item.transaction else {
                items.append(item)
                continue
            }
            if current?.chunk !== item.chunk {
                close()
                current = (item.chunk, PlainChanges(of: item.chunk.chunk))
            }
            current?.plain.begin(transaction, xid: item.chunk.chunk.transactions[transaction.span].xid)
            var rest = transaction
            rest.operations.removeAll()
            for operation in transaction.operations {
                guard let statements = targets[operation.relation] else { continue }
                if !hotKeys.isEmpty, hotKeys.contains(operation.key) {
                    rest.operations.append(operation)
                } else {
                    current?.plain.add(operation, table: statements.target.table)
                    coldKeys.append((operation.key, transaction.context))
                }
            }
            var remaining = item
            remaining.content = .transaction(rest)
            items.append(remaining)
        }
        close()
        self.cold = cold
        hot = SplitGroup(items)
    }

    private static func hotKeys(_ group: SplitGroup, _ targets: SplitTargets, _ history: LocalHistory) -> Set<RowKey> {
        var keys: Set<RowKey> = []
        for item in group.items {
            guard let transaction = item.transaction else { continue }
            for operation in transaction.operations {
                guard let statements = targets[operation.relation] else { continue }
                if statements.allowsBulk(operation), history.isEmpty || history.isUntouched(operation.key, since: transaction.context) {
                    continue
                }
                keys.insert(operation.key)
                if case .move(let newKey) = operation.kind { keys.insert(newKey) }
            }
        }
        return keys
    }

    /// Whether the target's own writers have been at none of the cold rows.
    func isUntouched(_ history: LocalHistory) -> Bool {
        history.isEmpty || coldKeys.allSatisfy { history.isUntouched($0.key, since: $0.context) }
    }
}
