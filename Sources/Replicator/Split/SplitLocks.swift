import ReplicationCore

/// The rows that a group names, each once, in the order of the stream; rows that others may refer to come before those.
struct SplitLocks: Sendable {
    struct Lock: Sendable {
        var key: RowKey
        var definition: Int
        /// The first operation that would make the row.
        var creating: (operation: RowOperation, transaction: SplitTransaction, chunk: SplitChunk)?
    }

    private(set) var locks: [Lock] = []

    /// - Parameter depth: how many tables lie between a definition's table and one that refers to none.
    init(_ group: SplitGroup, depth: (Int) -> Int) {
        var places: [RowKey: Int] = [:]
        func place(_ key: RowKey, _ definition: Int) -> Int {
            if let known = places[key] { return known }
            places[key] = locks.count
            locks.append(Lock(key: key, definition: definition))
            return locks.count - 1
        }
        for item in group.items {
            guard let transaction = item.transaction else { continue }
            for operation in transaction.operations {
                var created: RowKey?
                switch operation.kind {
                case .insert: created = operation.key
                case .move(let newKey): created = newKey
                case .update, .delete, .echo: break
                }
                _ = place(operation.key, operation.relation)
                guard let created else { continue }
                let index = place(created, operation.relation)
                if locks[index].creating == nil { locks[index].creating = (operation, transaction, item.chunk) }
            }
        }
        let depths = locks.map { depth($0.definition) }
        guard depths.contains(where: { $0 > 0 }) else { return }
        locks = zip(locks.indices, depths).sorted { ($0.1, $0.0) < ($1.1, $1.0) }.map { locks[$0.0] }
    }
}
