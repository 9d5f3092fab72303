import PostgresClient
import ReplicationCore

/// What a source transaction refers to before it makes it, as it may without a foreign key or under a deferred one.
///
/// In its own place such a reference finds no row, or the one that had the key before, and whose end `on_delete` follows. So it is
/// written once more when all of the transaction has been carried out.
struct LateReferences {
    struct Write {
        var key: RowKey
        var writes: [ColumnWrite]
        let operation: RowOperation
        let statements: SplitStatements
        let change: FailedChange
    }

    private struct Making {
        var place: Int
        var key: RowKey
    }

    private var makings: [ReferenceMeanings.Number: Making] = [:]
    /// In the order of their operations.
    private(set) var writes: [Write] = []

    init(_ transaction: SplitTransaction, _ arena: ChangeArena, _ targets: SplitTargets) {
        for (place, operation) in transaction.operations.enumerated() {
            guard let table = targets[operation.relation]?.target.table, table.isReferenced,
                let bytes = table.begunNumber(by: operation, arena: arena)
            else { continue }
            makings[ReferenceMeanings.Number(table: table.id, bytes: bytes)] = Making(place: place, key: operation.laterKey)
        }
    }

    /// Takes note of what was decided about the operation at a place of the transaction.
    mutating func note(
        _ steps: [RowStep], of operation: RowOperation, at place: Int, _ arena: ChangeArena, _ statements: SplitStatements,
        _ moment: SplitReferences.Moment, _ change: FailedChange
    ) {
        if makings.isEmpty { return }
        for step in steps {
            follow(step)
            let (key, written) =
                switch step {
                case .insert(let key, let writes), .update(let key, let writes), .move(_, to: let key, let writes): (key, writes)
                case .delete(let key): (key, [])
                }
            let late = written.filter { write in
                guard let reference = statements.target.references[write.column],
                    let bytes = statements.target.bytes(write.column, operation, arena),
                    let making = makings[ReferenceMeanings.Number(table: reference.tableID, bytes: bytes)], making.place > place
                else { return false }
                // Till then the number may have been another row's.
                return moment.key(of: bytes, reference, in: operation) == making.key
            }
            if late.isEmpty { continue }
            writes.append(Write(key: key, writes: late, operation: operation, statements: statements, change: change))
        }
    }

    /// A row that waits may get another key, or other values, or go.
    private mutating func follow(_ step: RowStep) {
        switch step {
        case .insert: break
        case .delete(let key): writes.removeAll { $0.key == key }
        case .update(let key, let newer): forget(newer, of: key)
        case .move(let key, let newKey, let newer):
            for index in writes.indices where writes[index].key == key { writes[index].key = newKey }
            forget(newer, of: newKey)
        }
    }

    private mutating func forget(_ newer: [ColumnWrite], of key: RowKey) {
        for index in writes.indices where writes[index].key == key {
            writes[index].writes.removeAll { write in newer.contains { $0.column == write.column } }
        }
        writes.removeAll { $0.writes.isEmpty }
    }
}
