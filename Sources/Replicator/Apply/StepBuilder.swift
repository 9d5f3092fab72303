import PostgresClient
import ReplicationCore

/// Turns changes and plans into the steps of a pipeline.
struct StepBuilder {
    var plans: PlanCache
    var statements = StatementCache()
    var counters = ApplyCounters()

    init(plans: PlanCache) { self.plans = plans }

    /// Plans and encodes a group whose definitions all have plans.
    ///
    /// - Parameter skipUpTo: transactions that ended at or before it are on the target already.
    mutating func prepare(_ chunks: [ChangeChunk], skipUpTo: LSN) -> PreparedGroup {
        let before = counters
        defer { counters = before }
        let plan = GroupPlanner.plan(chunks, skipUpTo: skipUpTo) { [plans] in plans.plan($0) }
        var batches: [StepBatch] = []
        var batch = StepBatch()
        for step in plan.steps {
            switch step {
            case .bulk(let statement):
                add(statement, of: plan, chunks: chunks, to: &batch)
            case .row(let chunk, let change, let span):
                add(change, in: chunks[chunk].transactions[span], chunk: chunks[chunk], to: &batch)
            }
            if batch.isFull {
                batches.append(batch)
                batch = StepBatch()
            }
        }
        batches.append(batch)
        var done = ApplyCounters()
        done.changes = plan.changeCount
        done.ignored = plan.ignoredCount
        done.withheld = plan.withheldCount
        done.transactions = chunks.reduce(0) { $0 + $1.transactions.count(where: \.isCommitted) }
        return PreparedGroup(
            chunks: chunks, batches: batches, counters: done, statementsGeneration: statements.generation)
    }

    /// Adds one change in exact form.
    ///
    /// - Parameter index: of the change in the chunk.
    mutating func add(_ index: Int, in span: TransactionSpan, chunk: ChangeChunk, to batch: inout StepBatch) {
        let change = chunk.changes[index]
        let position = span.position(of: index)
        if change.kind == .truncate {
            return addTruncation(chunk.truncations[change.relation], span, position, &batch)
        }
        guard let plan = plans.plan(change.relation) else { return counters.ignored += 1 }
        if span.commitLSN < plan.copiedUpTo { return }
        switch RowChange.resolve(change, plan: plan, arena: chunk.arena) {
        case .withheld:
            counters.withheld += 1
        case .apply(let row):
            let name = statements.name(for: row.shape, definition: change.relation, plan: plan, batch: &batch)
            var sizeBytes = 64
            let parameters = row.cells.map { cell in
                sizeBytes += Int(chunk.arena.cells[cell].length)
                return chunk.arena.parameter(cell)
            }
            batch.add(
                .execute(name: name, parameters: parameters, binaryResult: false), sizeBytes: sizeBytes,
                rows: change.kind == .insert ? nil : 1,
                change: FailedChange(table: plan.table, kind: change.kind, span: span, position: position))
            counters.changes += 1
        }
    }

    /// - Throws: `ApplyError.incompleteRow` for an insert that lacks a value of a column that travels.
    func requireWhole(_ index: Int, in span: TransactionSpan, chunk: ChangeChunk) throws(ApplyError) {
        let change = chunk.changes[index]
        guard change.kind == .insert, change.new.hasUnchanged, let plan = plans.plan(change.relation),
            span.commitLSN >= plan.copiedUpTo,
            plan.columns.contains(where: { chunk.arena.cells[change.new.firstCell + $0.sourceIndex].kind == .unchanged })
        else { return }
        throw .incompleteRow(
            FailedChange(table: plan.table, kind: .insert, span: span, position: span.position(of: index)))
    }

    /// Adds one statement for many rows.
    mutating func add(_ statement: BulkStatement, of group: GroupPlan, chunks: [ChangeChunk], to batch: inout StepBatch) {
        guard let plan = plans.plan(statement.shape.definition) else { return }
        let name = statements.name(for: statement.shape, plan: plan, batch: &batch)
        let columns = statement.shape.written + (statement.shape.kind == .insert ? [] : plan.keyColumns)
        var sizeBytes = 64
        let parameters = columns.map { index -> PostgresParameter in
            let array = ArrayEncoder.encode(
                column: plan.columns[index], rows: statement.rows, plan: group, chunks: chunks)
            sizeBytes += array.count
            return .binary(array)
        }
        batch.add(
            .execute(name: name, parameters: parameters, binaryResult: false), sizeBytes: sizeBytes,
            rows: statement.shape.kind == .insert ? nil : statement.rows.count, change: nil)
    }

    private mutating func addTruncation(
        _ truncation: Truncation, _ span: TransactionSpan, _ position: Int, _ batch: inout StepBatch
    ) {
        let reached = truncation.relations.compactMap { definition -> RelationPlan? in
            guard let plan = plans.plan(definition), span.commitLSN >= plan.copiedUpTo else { return nil }
            return plan
        }
        guard let first = reached.first?.table else { return counters.ignored += 1 }
        let sql = RowStatement.truncate(reached.map(\.onlyTable), restartsIdentity: truncation.restartsIdentity)
        batch.add(
            .query(sql: sql, parameters: [], parameterTypes: []), sizeBytes: sql.utf8.count, rows: nil,
            change: FailedChange(table: first, kind: .truncate, span: span, position: position))
        counters.changes += 1
    }
}

extension FailedChange {
    init(table: QualifiedName, kind: Change.Kind, span: TransactionSpan, position: Int) {
        self.init(table: table, kind: kind, xid: span.xid, commitLSN: span.commitLSN, position: position)
    }
}

extension TransactionSpan {
    /// A change's place in its source transaction, however that was cut.
    func position(of index: Int) -> Int { precedingCount + index - changes.lowerBound }
}

extension ChangeArena {
    /// A cell as a statement's parameter.
    func parameter(_ index: Int) -> PostgresParameter {
        let cell = cells[index]
        let range = cell.offset..<(cell.offset + Int(cell.length))
        switch cell.kind {
        case .null, .unchanged: return .null
        case .text: return .textBytes(Array(bytes[range]))
        case .binary: return .binary(Array(bytes[range]))
        }
    }
}
