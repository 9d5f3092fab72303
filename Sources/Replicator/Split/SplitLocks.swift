import ReplicationCore

/// The rows that a group names, each once, in the order of the stream; rows that others may refer to come before those.
struct SplitLocks: Sendable {
    /// An operation that names a row. Few locks need one, and it is many times as large as they are.
    final class Naming: Sendable {
        let operation: RowOperation
        let transaction: SplitTransaction
        let chunk: SplitChunk

        init(_ operation: RowOperation, _ transaction: SplitTransaction, _ chunk: SplitChunk) {
            self.operation = operation
            self.transaction = transaction
            self.chunk = chunk
        }
    }

    struct Lock: Sendable {
        var key: RowKey
        var definition: Int
        /// The first operation that would make the row.
        var creating: Naming?
        /// Where the row may not be there for having to wait, and so be in nobody's way: the first one that names it.
        var waiting: Naming?
        /// What the row is brought by where it is not there.
        var bringing: Naming? { creating ?? waiting }

        /// The same, to be brought by an operation that does not make the row; `nil` where the row need not be held, or the
        /// stream does not tell what it is.
        func broughtWhole(_ targets: SplitTargets) -> Lock? {
            guard let waiting, let target = targets[definition]?.target,
                let whole = target.whole(waiting.operation, waiting.chunk.chunk.arena)
            else { return nil }
            var lock = self
            lock.waiting = Naming(whole, waiting.transaction, waiting.chunk)
            return lock
        }
    }

    private(set) var locks: [Lock] = []

    /// - Parameters:
    ///   - depth: how many tables lie between a definition's table and one that refers to none.
    ///   - mayWait: whether a definition's rows may have to wait for those that they refer to.
    init(_ group: SplitGroup, depth: (Int) -> Int, mayWait: (Int) -> Bool) {
        var places: [RowKey: Int] = [:]
        func place(_ key: RowKey, _ definition: Int) -> Int {
            if let known = places[key] { return known }
            places[key] = locks.count
            locks.append(Lock(key: key, definition: definition))
            return locks.count - 1
        }
        for item in group.items {
            for transaction in item.transactions {
                for operation in transaction.operations {
                    var created: RowKey?
                    switch operation.kind {
                    case .insert: created = operation.key
                    case .move(let newKey): created = newKey
                    case .update, .delete, .echo: break
                    }
                    let named = place(operation.key, operation.relation)
                    if locks[named].waiting == nil, mayWait(operation.relation) {
                        locks[named].waiting = Naming(operation, transaction, item.chunk)
                    }
                    guard let created else { continue }
                    let index = place(created, operation.relation)
                    if locks[index].creating == nil { locks[index].creating = Naming(operation, transaction, item.chunk) }
                }
            }
        }
        let depths = locks.map { depth($0.definition) }
        guard depths.contains(where: { $0 > 0 }) else { return }
        locks = zip(locks.indices, depths).sorted { ($0.1, $0.0) < ($1.1, $1.0) }.map { locks[$0.0] }
    }
}
