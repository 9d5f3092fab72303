import ReplicationCore

/// The rows that a group names, each once, in the order of the stream; rows that others may refer to come before those.
struct SplitLocks: Sendable {
    typealias Naming = (operation: RowOperation, transaction: SplitTransaction, chunk: SplitChunk)

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
            guard let (operation, _, chunk) = waiting, let target = targets[definition]?.target,
                let whole = target.whole(operation, chunk.chunk.arena)
            else { return nil }
            var lock = self
            lock.waiting?.operation = whole
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
                        locks[named].waiting = (operation, transaction, item.chunk)
                    }
                    guard let created else { continue }
                    let index = place(created, operation.relation)
                    if locks[index].creating == nil { locks[index].creating = (operation, transaction, item.chunk) }
                }
            }
        }
        let depths = locks.map { depth($0.definition) }
        guard depths.contains(where: { $0 > 0 }) else { return }
        locks = zip(locks.indices, depths).sorted { ($0.1, $0.0) < ($1.1, $1.0) }.map { locks[$0.0] }
    }
}
