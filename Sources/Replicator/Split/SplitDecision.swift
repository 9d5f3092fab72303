import PostgresClient
import ReplicationCore

/// What becomes of a group: the steps on the target, decided while all of its rows are held.
struct SplitDecision {
    private var pipelines: [SplitSteps] = []
    private var current = SplitSteps()
    var effects: GroupEffects
    /// Rows that were brought to hold their keys and have not become real, with the operation they were made of.
    private var brought: [RowKey: Brought] = [:]
    /// Whose numbers the group's references are.
    private(set) var references: SplitReferences
    /// Rows that others may refer to, and that the source has ended.
    var ended = EndedRows()
    /// Where the numbers are asked for of rows that the group makes and ends again, by `EndedRow.Row.made`.
    private var asked: [Int: (pipeline: Int, step: Int)] = [:]
    private var madeNumbers: [Int: String] = [:]

    private struct Brought: Sendable {
        var id: OperationID
        var definition: Int
        /// That have values of the operation.
        var columns: Set<Int>
        /// Whether it has references.
        var refers: Bool
        /// Whether it can stay as it is: it is no row with another key, and each row that it refers to was there, and no
        /// other one under its key.
        var isExact: Bool
        /// Its operation was dropped.
        var isDropped = false
    }

    /// - Parameter effects: of the parts of the target's transaction that came before.
    init(references: SplitReferences, after effects: GroupEffects) {
        self.effects = effects.goingOn()
        self.references = references
    }

    /// The applier holds a row that the group refers to, or found none.
    mutating func note(_ key: RowKey, isPresent: Bool) { effects.note(key, isPresent: isPresent) }

    /// The applier holds a row that the group names, or found none.
    ///
    /// - Parameters:
    ///   - isBrought: whether it was not there, and was brought.
    ///   - number: what others know it by, if they do.
    mutating func note(
        _ lock: SplitLocks.Lock, isThere: Bool, isBrought: Bool, number: String?, _ targets: SplitTargets
    ) {
        effects.note(lock.key, isPresent: isThere && !isBrought)
        guard let target = targets[lock.definition]?.target else { return }
        if !isBrought {
            if target.number != nil { ended.note(lock.key, number: number) }
        } else if let naming = lock.bringing {
            let operation = naming.operation
            let isExact = operation.kind == .insert && (target.references.isEmpty || !references.mayMove)
                && missingReferences(of: operation, target, naming.chunk.chunk.arena, moment(in: naming.transaction)).isEmpty
            brought[lock.key] = Brought(
                id: operation.id, definition: lock.definition, columns: Set(operation.columns),
                refers: !target.references.isEmpty, isExact: isExact)
        }
    }

    /// What references of a transaction mean by now.
    func moment(in transaction: SplitTransaction) -> SplitReferences.Moment {
        references.moment(in: transaction.context, after: effects)
    }

    /// What the target itself has done to rows that are referred to, up to the moment when all are held.
    ///
    /// - Returns: whether it has made others of them than those that are held.
    mutating func follow(in history: LocalHistory) throws -> Bool {
        let news = try references.follow(in: history)
        if news.hasChanged {
            for key in brought.keys where brought[key]?.refers == true { brought[key]?.isExact = false }
        }
        return news.hasRows
    }

    /// Decides one operation after the other.
    mutating func decide(
        _ group: SplitGroup, _ resolver: SplitResolver, _ history: LocalHistory, _ targets: SplitTargets,
        _ names: inout SplitStatementNames
    ) throws {
        var late = references.isEmpty ? nil : LateReferences(group, targets)
        var commitLSN: LSN?
        for item in group.items {
            for transaction in item.transactions {
                // A transaction's last piece may have nothing that is to be decided.
                if transaction.commitLSN != commitLSN { try finish(late?.take() ?? [], resolver, history, &names) }
                commitLSN = transaction.commitLSN
                try decide(transaction, of: item.chunk, resolver, history, targets, &late, &names)
            }
        }
        try finish(late?.take() ?? [], resolver, history, &names)
        // Their operations were dropped.
        for (key, row) in brought {
            if let statements = targets[row.definition] { add(statements.delete(key), rows: 1, nil, &names) }
        }
        brought.removeAll()
        if !current.isEmpty { pipelines.append(current) }
    }

    private mutating func decide(
        _ transaction: SplitTransaction, of chunk: SplitChunk, _ resolver: SplitResolver, _ history: LocalHistory,
        _ targets: SplitTargets, _ late: inout LateReferences?, _ names: inout SplitStatementNames
    ) throws {
        let arena = chunk.chunk.arena
        for operation in transaction.operations {
            guard let statements = targets[operation.relation] else { continue }
            let moment = moment(in: transaction)
            let required = required(operation, statements.target, arena, moment)
            let resolution = try resolver.resolve(
                operation, of: transaction, table: statements.target.table, against: history, effects: &effects, required: required)
            let change = FailedChange(operation, transaction, chunk, statements.target.table.name)
            if let row = ended.note(operation, resolution, statements.target.table, in: transaction.context) {
                asked[row] = (pipelines.count, add(statements.lock(operation.key), rows: nil, change, &names))
            }
            for step in resolution.steps { perform(step, operation, arena, statements, moment, change, &names) }
            late?.note(
                resolution, of: operation, missing: required?.missing ?? [], isThere: effects.isPresent(operation.laterKey),
                in: transaction, of: chunk, statements)
            for conflict in resolution.conflicts {
                add(statements.record(conflict, operation, arena, moment), rows: nil, change, &names)
            }
            if !brought.isEmpty { noteDropped(operation) }
        }
    }

    /// The decided steps, one round trip after the other.
    var steps: [SplitSteps] { pipelines }

    /// Takes in what the steps with this place have found.
    mutating func note(_ results: [PostgresResult], ofPipeline pipeline: Int) {
        for (row, place) in asked where place.pipeline == pipeline && results[place.step].rowCount == 1 {
            madeNumbers[row] = results[place.step][row: 0, column: 0]
        }
    }

    /// The number of a row that the group has made (`EndedRow.Row.made`).
    func number(ofMade row: Int) -> String? { madeNumbers[row] }

    mutating func perform(
        _ step: RowStep, _ operation: RowOperation, _ arena: ChangeArena, _ statements: SplitStatements,
        _ moment: SplitReferences.Moment, _ change: FailedChange, _ names: inout SplitStatementNames
    ) {
        switch step {
        case .insert(let key, let writes):
            if let row = brought.removeValue(forKey: key) {
                // It is there already, just as this operation wants it.
                let isSame = row.id == operation.id
                if isSame, row.isExact, missingReferences(of: operation, statements.target, arena, moment).isEmpty { return }
                // Or it becomes so, and keeps its number: others may have come to refer to it.
                if row.columns.isSubset(of: writes.lazy.map(\.column)) {
                    let others = isSame ? writes.filter { statements.target.references[$0.column] != nil } : writes
                    if !others.isEmpty {
                        add(statements.step(.update(key, others), operation, arena, moment), rows: 1, change, &names)
                    }
                    return
                }
                add(statements.delete(key), rows: 1, change, &names)
            }
        case .move(_, let newKey, _):
            if brought.removeValue(forKey: newKey) != nil { add(statements.delete(newKey), rows: 1, change, &names) }
        case .delete, .update:
            break
        }
        add(statements.step(step, operation, arena, moment), rows: 1, change, &names)
        if case .insert(let key, let writes) = step, let own = statements.ownReferences(of: key, writes, operation, arena, moment) {
            add(own, rows: 1, change, &names)
        }
    }

    // MARK: references

    private mutating func noteDropped(_ operation: RowOperation) {
        let key = operation.laterKey
        if brought[key]?.id == operation.id { brought[key]?.isDropped = true }
    }

    /// Columns whose row, which they refer to, is not here.
    private func missingReferences(
        of operation: RowOperation, _ target: SplitTarget, _ arena: ChangeArena, _ moment: SplitReferences.Moment
    ) -> Set<Int> {
        var missing: Set<Int> = []
        for (column, reference) in target.references {
            guard let bytes = target.bytes(column, operation, arena) else { continue }
            if let key = moment.key(of: bytes, reference, in: operation), isHere(key) { continue }
            missing.insert(column)
        }
        return missing
    }

    func isHere(_ key: RowKey) -> Bool {
        if effects.isPresent(key) { return true }
        guard let row = brought[key] else { return false }
        return row.isExact && !row.isDropped
    }

    /// What is known of references that may not be empty; `nil` where there are none.
    func required(
        _ operation: RowOperation, _ target: SplitTarget, _ arena: ChangeArena, _ moment: SplitReferences.Moment
    ) -> RequiredReferences? {
        let required = target.references.filter { $0.value.isRequired }
        if required.isEmpty || operation.kind == .delete { return nil }
        let missing = missingReferences(of: operation, target, arena, moment).filter { required[$0] != nil }
        return RequiredReferences(missing: missing, of: operation, table: target.table, arena: arena)
    }

    @discardableResult
    mutating func add(
        _ statement: SplitStatement, rows: Int?, _ change: FailedChange?, _ names: inout SplitStatementNames
    ) -> Int {
        let place = current.add(statement, &names, rows: rows, change: change)
        guard current.isFull else { return place }
        pipelines.append(current)
        current = SplitSteps()
        return place
    }
}
