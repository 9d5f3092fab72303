import PostgresClient
import ReplicationCore

/// What a source transaction refers to before it makes it, as it may without a foreign key or under a deferred one.
///
/// In its own place such a reference finds no row, or the one that had the key before, and whose end `on_delete` follows; and what
/// may not refer to nothing has to wait there. So it is looked at once more when all of the transaction has been carried out.
struct LateReferences {
    /// Columns of a row that an operation gave references to, or a row that it could not make.
    struct Entry {
        enum Kind {
            /// They were written, and mean what they mean at the end.
            case written
            /// They were left as they were, since the row that they mean was not there.
            case left
            /// Nor was the row that holds them.
            case row
        }

        let kind: Kind
        /// That the row has by now.
        var key: RowKey
        /// Indexes into `SplitTable.columns`.
        var columns: [Int]
        let operation: RowOperation
        let transaction: SplitTransaction
        let chunk: SplitChunk
        let statements: SplitStatements

        /// The operation as of the end of its transaction.
        var last: RowOperation {
            var last = operation
            last.id.position = .max
            return last
        }
    }

    /// By the transaction's commit, the last operation that gave a number to a row.
    private var makings: [LSN: [ReferenceMeanings.Number: OperationID]] = [:]
    /// Of the transaction that is being decided about, in the order of its operations.
    private(set) var entries: [Entry] = []

    /// - Parameter group: every operation that is decided about; a transaction that refers to rows has all of its pieces there.
    init(_ group: SplitGroup, _ targets: SplitTargets) {
        for item in group.items {
            let arena = item.chunk.chunk.arena
            for transaction in item.transactions {
                for operation in transaction.operations {
                    guard let table = targets[operation.relation]?.target.table, table.isReferenced,
                        let bytes = table.begunNumber(by: operation, arena: arena)
                    else { continue }
                    makings[transaction.commitLSN, default: [:]][Self.number(bytes, in: table.id)] = operation.id
                }
            }
        }
    }

    /// What refers to a row may be wider than its key.
    private static func number(_ bytes: [UInt8], in table: Int) -> ReferenceMeanings.Number {
        ReferenceMeanings.Number(table: table, bytes: LocalHistory.form(ofNumber: bytes))
    }

    /// Takes note of what was decided about an operation.
    ///
    /// - Parameters:
    ///   - missing: columns of it that may not be empty, and whose row is not there.
    ///   - isThere: whether its row is there now.
    mutating func note(
        _ resolution: Resolution, of operation: RowOperation, missing: Set<Int>, isThere: Bool, in transaction: SplitTransaction,
        of chunk: SplitChunk, _ statements: SplitStatements
    ) {
        guard let makings = makings[transaction.commitLSN] else { return }
        follow(operation, resolution.steps)
        if operation.kind == .delete || operation.kind == .echo { return }
        let target = statements.target
        let late = target.references.filter { column, reference in
            guard let bytes = target.bytes(column, operation, chunk.chunk.arena),
                let making = makings[Self.number(bytes, in: reference.tableID)]
            else { return false }
            return making > operation.id
        }
        if late.isEmpty { return }
        func add(_ kind: Entry.Kind, _ columns: [Int]) {
            if columns.isEmpty { return }
            entries.append(
                Entry(
                    kind: kind, key: operation.laterKey, columns: columns, operation: operation, transaction: transaction, chunk: chunk,
                    statements: statements))
        }
        let waiting = missing.filter { late[$0] != nil }.sorted()
        if isThere {
            add(.written, Self.written(resolution.steps, to: operation.laterKey).filter { late[$0] != nil })
            for column in waiting where operation.columns.contains(column) { add(.left, [column]) }
        } else if resolution.conflicts.isEmpty {
            add(.row, waiting)
        }
    }

    private static func written(_ steps: [RowStep], to key: RowKey) -> [Int] {
        steps.flatMap { step in
            switch step {
            case .insert(key, let writes), .update(key, let writes), .move(_, to: key, let writes): writes.map(\.column)
            case .insert, .update, .move, .delete: [Int]()
            }
        }
    }

    /// A row may get another key, or other values, be made by a later operation, or go.
    private mutating func follow(_ operation: RowOperation, _ steps: [RowStep]) {
        if entries.isEmpty { return }
        let key = operation.key
        switch operation.kind {
        case .delete: entries.removeAll { $0.key == key }
        case .move:
            // With all of its values: a row that has waited does so by this operation now.
            entries.removeAll { $0.key == key && $0.kind == .row }
            for index in entries.indices where entries[index].key == key { entries[index].key = operation.laterKey }
        case .insert, .update, .echo: break
        }
        for case .insert(let made, _) in steps { entries.removeAll { $0.key == made && $0.kind == .row } }
        for index in entries.indices where entries[index].key == operation.laterKey && entries[index].kind != .row {
            entries[index].columns.removeAll(where: operation.columns.contains)
        }
        entries.removeAll(where: \.columns.isEmpty)
    }

    /// The entries, which are to be carried out: the transaction has been.
    mutating func take() -> [Entry] {
        defer { entries.removeAll() }
        return entries
    }
}
