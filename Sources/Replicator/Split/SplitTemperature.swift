import ReplicationCore

/// Which of a group's operations need a decision (hot), and which can go in bulk (cold): all operations of a row are one
/// or the other.
struct SplitTemperature: Sendable {
    /// The hot operations, in order, in the transactions that they are from.
    private(set) var hot: SplitGroup
    /// The cold ones, and the changes that travel one way, by the chunk they came in.
    private(set) var cold: [ChangeChunk] = []
    /// Rows of the cold operations, with what their writers had seen.
    private(set) var coldKeys: [(key: RowKey, context: CausalContext)] = []

    /// Everything that can be decided is decided; what is left travels one way.
    init(allHot group: SplitGroup) {
        hot = group
        sort(group) { _ in true }
    }

    /// - Parameter history: of the side that is written.
    init(_ group: SplitGroup, targets: SplitTargets, history: LocalHistory) {
        hot = group
        let hotKeys = group.hasOperations ? Self.hotKeys(group, targets, history) : []
        sort(group) { hotKeys.contains($0) }
    }

    private mutating func sort(_ group: SplitGroup, isHot: (RowKey) -> Bool) {
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
            for index in transaction.plainChanges { current?.plain.add(changeAt: index, of: item.chunk.chunk) }
            var rest = transaction
            rest.operations.removeAll()
            for operation in transaction.operations {
                guard let table = item.chunk.tables[operation.relation] else { continue }
                if isHot(operation.key) {
                    rest.operations.append(operation)
                } else {
                    current?.plain.add(operation, table: table)
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

    private static func hotKeys(_ group: SplitGroup, _ targets: SplitTargets, _ history: LocalHistory) -> Set<RowKey> {
        var keys = passingKeys(group)
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

    /// Rows that are made and deleted in the group. In bulk that would come to nothing, and nobody would see that the target
    /// has such a row too, which goes with them.
    private static func passingKeys(_ group: SplitGroup) -> Set<RowKey> {
        var deleted: Set<RowKey> = []
        var passing: Set<RowKey> = []
        for item in group.items.reversed() {
            for operation in item.transaction?.operations.reversed() ?? [] {
                switch operation.kind {
                case .delete: deleted.insert(operation.key)
                case .insert where !deleted.isEmpty && deleted.contains(operation.key): passing.insert(operation.key)
                case .insert, .update, .move, .echo: break
                }
            }
        }
        return passing
    }

    /// Whether the target's own writers have been at none of the cold rows.
    func isUntouched(_ history: LocalHistory) -> Bool {
        history.isEmpty || coldKeys.allSatisfy { history.isUntouched($0.key, since: $0.context) }
    }
}
