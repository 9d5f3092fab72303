import ReplicationCore

/// The rows that a group names, each once, in the order of the stream.
struct SplitLocks: Sendable {
    struct Lock: Sendable {
        var key: RowKey
        var definition: Int
        /// The first operation that would make the row.
        var creating: (operation: RowOperation, transaction: SplitTransaction, chunk: SplitChunk)?
    }

    private(set) var locks: [Lock] = []

    init(_ group: SplitGroup) {
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
    }
}
