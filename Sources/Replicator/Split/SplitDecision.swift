import PostgresClient
import ReplicationCore

/// What becomes of a group: the steps on the target, decided while all of its rows are held.
struct SplitDecision {
    private var pipelines: [SplitSteps] = []
    private var current = SplitSteps()
    private(set) var effects: GroupEffects
    /// Rows that were brought to hold their keys and have not become real, with the operation they were made of.
    private var brought: [RowKey: Brought]

    struct Brought: Sendable {
        var id: OperationID
        var definition: Int
    }

    init(effects: GroupEffects, brought: [RowKey: Brought]) {
        self.effects = effects
        self.brought = brought
    }

    /// Decides one operation after the other.
    mutating func decide(
        _ group: SplitGroup, _ resolver: SplitResolver, _ history: LocalHistory, _ targets: SplitTargets,
        _ names: inout SplitStatementNames
    ) {
        for item in group.items {
            guard let transaction = item.transaction else { continue }
            for operation in transaction.operations {
                guard let statements = targets[operation.relation] else { continue }
                let resolution = resolver.resolve(
                    operation, of: transaction, table: statements.target.table, against: history, effects: &effects)
                let change = FailedChange(operation, transaction, item.chunk, statements.target.table.name)
                let arena = item.chunk.chunk.arena
                for step in resolution.steps { perform(step, operation, arena, statements, change, &names) }
                for conflict in resolution.conflicts {
                    add(statements.record(conflict, operation, arena), rows: nil, change, &names)
                }
            }
        }
        // Their operations were dropped.
        for (key, row) in brought {
            if let statements = targets[row.definition] { add(statements.delete(key), rows: 1, nil, &names) }
        }
        brought.removeAll()
        if !current.isEmpty { pipelines.append(current) }
    }

    /// The decided steps, one round trip after the other.
    var steps: [SplitSteps] { pipelines }

    private mutating func perform(
        _ step: RowStep, _ operation: RowOperation, _ arena: ChangeArena, _ statements: SplitStatements,
        _ change: FailedChange, _ names: inout SplitStatementNames
    ) {
        switch step {
        case .insert(let key, _):
            if let row = brought.removeValue(forKey: key) {
                // It is there already, just as this operation wants it.
                if row.id == operation.id { return }
                add(statements.delete(key), rows: 1, change, &names)
            }
        case .move(_, let newKey, _):
            if brought.removeValue(forKey: newKey) != nil { add(statements.delete(newKey), rows: 1, change, &names) }
        case .update, .delete:
            break
        }
        add(statements.step(step, operation, arena), rows: 1, change, &names)
    }

    private mutating func add(
        _ statement: SplitStatement, rows: Int?, _ change: FailedChange?, _ names: inout SplitStatementNames
    ) {
        current.add(statement, &names, rows: rows, change: change)
        guard current.isFull else { return }
        pipelines.append(current)
        current = SplitSteps()
    }
}

extension FailedChange {
    init(_ operation: RowOperation, _ transaction: SplitTransaction, _ chunk: SplitChunk, _ table: QualifiedName) {
        let kind: Change.Kind =
            switch operation.kind {
            case .insert: .insert
            case .update, .move, .echo: .update
            case .delete: .delete
            }
        self.init(
            table: table, kind: kind, xid: chunk.chunk.transactions[transaction.span].xid, commitLSN: transaction.commitLSN,
            position: operation.id.position)
    }
}
