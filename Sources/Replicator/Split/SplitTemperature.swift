import ReplicationCore

/// Which of a group's operations need a decision (hot), and which can go in bulk (cold): all operations of a row are one
/// or the other.
struct SplitTemperature: Sendable {
    /// The hot operations, in order, in the transactions that they are from; transactions without any are not among them.
    private(set) var hot: SplitGroup
    /// The cold ones, and the changes that travel one way, by the chunk they came in.
    private(set) var cold: [ChangeChunk] = []
    /// Rows that are hot; of the others in `sorted` the target's history is asked again.
    private let hotKeys: Set<RowKey>
    private let sorted: SplitGroup?

    /// Everything that can be decided is decided; what is left travels one way.
    init(allHot group: SplitGroup) {
        hot = group
        hotKeys = []
        sorted = nil
        sort(group) { _ in true }
    }

    /// - Parameter target: the side that is written, whose history is looked at.
    init(_ group: SplitGroup, targets: SplitTargets, ledger: SplitLedger, target: Side) throws {
        hot = group
        let hotKeys = group.hasOperations ? try Self.hotKeys(group, targets, ledger, target) : []
        self.hotKeys = hotKeys
        sorted = group
        sort(group) { !hotKeys.isEmpty && hotKeys.contains($0) }
    }

    private mutating func sort(_ group: SplitGroup, isHot: (RowKey) -> Bool) {
        var items: [SplitItem] = []
        var current: (chunk: SplitChunk, plain: PlainChanges)?
        var known: (relation: Int, table: SplitTable)?
        for item in group.items where !item.transactions.isEmpty {
            if current?.chunk !== item.chunk {
                if let plain = current?.plain, !plain.isEmpty { cold.append(plain.chunk) }
                current = (item.chunk, PlainChanges(of: item.chunk.chunk))
            }
            var rest: [SplitTransaction] = []
            for transaction in item.transactions {
                current?.plain.begin(transaction, xid: item.chunk.chunk.transactions[transaction.span].xid)
                for index in transaction.plainChanges { current?.plain.add(changeAt: index, of: item.chunk.chunk) }
                var operations: [RowOperation] = []
                for operation in transaction.operations {
                    if known?.relation != operation.relation {
                        known = item.chunk.tables[operation.relation].map { (operation.relation, $0) }
                    }
                    guard let table = known?.table else { continue }
                    if isHot(operation.key) {
                        operations.append(operation)
                    } else {
                        current?.plain.add(operation, table: table)
                    }
                }
                if operations.isEmpty { continue }
                var hot = transaction
                (hot.operations, hot.plainChanges) = (operations, [])
                rest.append(hot)
            }
            if !rest.isEmpty || item.endsGroup { items.append(item.with(rest)) }
        }
        if let plain = current?.plain, !plain.isEmpty { cold.append(plain.chunk) }
        hot = SplitGroup(items)
    }

    private static func hotKeys(
        _ group: SplitGroup, _ targets: SplitTargets, _ ledger: SplitLedger, _ target: Side
    ) throws -> Set<RowKey> {
        var keys: Set<RowKey> = []
        var hasDeletes = false
        var known: (relation: Int, statements: SplitStatements)?
        for transaction in group.transactions {
            for operation in transaction.operations {
                if known?.relation != operation.relation {
                    known = targets[operation.relation].map { (operation.relation, $0) }
                }
                guard let statements = known?.statements else { continue }
                hasDeletes = hasDeletes || operation.kind == .delete
                if statements.allowsBulk(operation) { continue }
                keys.insert(operation.key)
                if case .move(let newKey) = operation.kind { keys.insert(newKey) }
            }
        }
        if hasDeletes { keys.formUnion(passingKeys(group)) }
        if ledger.withHistory(of: target, { history, _ in history.isEmpty }) { return keys }
        for transaction in group.transactions {
            // Where it is: a copy would be copied in full with the next write that is noted. And a transaction at a time:
            // the readers need it, too, and what is decided is asked again.
            try ledger.withHistory(of: target) { history, _ in
                for operation in transaction.operations where !keys.contains(operation.key) {
                    if try history.isUntouched(operation.key, since: transaction.context) { continue }
                    keys.insert(operation.key)
                }
            }
        }
        return keys
    }

    /// Rows that are made and deleted in the group. In bulk that would come to nothing, and nobody would see that the target
    /// has such a row too, which goes with them.
    private static func passingKeys(_ group: SplitGroup) -> Set<RowKey> {
        var deleted: Set<RowKey> = []
        var passing: Set<RowKey> = []
        for transaction in group.transactions.reversed() {
            for operation in transaction.operations.reversed() {
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
        guard let sorted, !history.isEmpty else { return true }
        for transaction in sorted.transactions {
            for operation in transaction.operations {
                if !hotKeys.isEmpty, hotKeys.contains(operation.key) { continue }
                guard try history.isUntouched(operation.key, since: transaction.context) else { return false }
            }
        }
        return true
    }
}
