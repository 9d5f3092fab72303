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

    /// - Parameter target: the side that is written, whose history is looked at.
    init(_ group: SplitGroup, targets: SplitTargets, ledger: SplitLedger, target: Side) throws {
        hot = group
        let hotKeys = group.hasOperations ? try Self.hotKeys(group, targets, ledger, target) : []
        sort(group) { !hotKeys.isEmpty && hotKeys.contains($0) }
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

    private static func hotKeys(
        _ group: SplitGroup, _ targets: SplitTargets, _ ledger: SplitLedger, _ target: Side
    ) throws -> Set<RowKey> {
        var keys = passingKeys(group)
        var asked: [(key: RowKey, context: CausalContext)] = []
        for item in group.items {
            guard let transaction = item.transaction else { continue }
            for operation in transaction.operations {
                guard let statements = targets[operation.relation] else { continue }
                if statements.allowsBulk(operation) {
                    asked.append((operation.key, transaction.context))
                    continue
                }
                keys.insert(operation.key)
                if case .move(let newKey) = operation.kind { keys.insert(newKey) }
            }
        }
        // Where it is: a copy would be copied in full with the next write that is noted.
        try ledger.withHistory(of: target) { history, _ in
            if history.isEmpty { return }
            for (key, context) in asked where try !history.isUntouched(key, since: context) { keys.insert(key) }
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
    func isUntouched(_ history: LocalHistory) throws -> Bool {
        try history.isEmpty || coldKeys.allSatisfy { try history.isUntouched($0.key, since: $0.context) }
    }
}
