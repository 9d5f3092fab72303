import PostgresClient
import ReplicationCore

/// Applies chunks to the target: data and progress in one transaction, whole source transactions in commit order.
///
/// Used by one task. After an error the target's transaction is rolled back and the applier is spent.
final class GroupApplier {
    private let connection: PostgresConnection
    private let settings: DirectionSettings
    private var plans: PlanCache
    private var statements = StatementCache()
    private var transaction: TargetTransaction
    /// The last source commit whose effect is durable on the target.
    private(set) var durableLSN: LSN
    private(set) var counters = ApplyCounters()

    init(
        connection: PostgresConnection, settings: DirectionSettings, plans: PlanCache, startLSN: LSN
    ) {
        self.connection = connection
        self.settings = settings
        self.plans = plans
        durableLSN = startLSN
        transaction = TargetTransaction(connection: connection, direction: settings.name)
    }

    /// Applies the chunks as one target transaction (or, when a chunk is open-ended, as a part of one).
    ///
    /// - Throws: `ApplyError` for what the data caused, `PostgresError` for what the connection did.
    func apply(_ chunks: [ChangeChunk]) async throws {
        for (position, chunk) in chunks.enumerated() {
            let definitions = usedDefinitions(of: chunk)
            if let misfit = try await plans.resolve(definitions, in: chunk.relations, on: connection) {
                if position > 0 { try await commit(Array(chunks[..<position])) }
                try await applyPrefix(of: chunk, before: misfit.definition)
                throw ApplyError.schemaDiffers(misfit.mismatch)
            }
            do {
                try await applyRows(of: chunk, transactions: chunk.transactions[...])
            } catch {
                await transaction.rollBack()
                throw error
            }
        }
        guard let last = chunks.last, !last.isOpenEnded else { return }
        try await commit(chunks)
    }

    private func commit(_ chunks: [ChangeChunk]) async throws {
        let endLSN = chunks.reduce(durableLSN) { max($0, $1.endLSN) }
        let commitTime = chunks.last { !$0.transactions.isEmpty }?.transactions.last?.commitTime
        let heartbeat = chunks.reversed().lazy.compactMap(\.heartbeat).first
        guard endLSN > durableLSN else { return }
        try await transaction.commit(endLSN: endLSN, commitTime: commitTime, heartbeat: heartbeat)
        durableLSN = endLSN
    }

    /// Commits the transactions that come before the first change of a table that no longer fits.
    private func applyPrefix(of chunk: ChangeChunk, before definition: Int) async throws {
        guard !transaction.hasPiece else { return await transaction.rollBack() }
        let fitting = chunk.transactions.prefix { span in
            !chunk.changes[span.changes].contains { chunk.definitions(of: $0).contains(definition) }
        }
        guard let last = fitting.last, last.isCommitted else { return await transaction.rollBack() }
        do {
            try await applyRows(of: chunk, transactions: fitting)
            try await transaction.commit(endLSN: last.endLSN, commitTime: last.commitTime, heartbeat: nil)
        } catch {
            await transaction.rollBack()
            throw error
        }
        durableLSN = last.endLSN
    }

    private func usedDefinitions(of chunk: ChangeChunk) -> [Int] {
        var seen: [Int] = []
        for change in chunk.changes {
            if change.kind != .truncate, change.relation == seen.last { continue }
            for definition in chunk.definitions(of: change) where !seen.contains(definition) {
                seen.append(definition)
            }
        }
        return seen
    }

    // MARK: exact order

    private func applyRows(of chunk: ChangeChunk, transactions: ArraySlice<TransactionSpan>) async throws {
        var batch = RowBatch()
        for span in transactions {
            // Sent again after a reconnect that came too early to know better.
            if span.isCommitted && span.endLSN <= durableLSN { continue }
            counters.transactions += span.isCommitted ? 1 : 0
            for index in span.changes {
                add(chunk.changes[index], in: span, chunk: chunk, to: &batch)
                if batch.isFull { try await flush(&batch) }
            }
        }
        try await flush(&batch)
    }

    private func add(_ change: Change, in span: TransactionSpan, chunk: ChangeChunk, to batch: inout RowBatch) {
        if change.kind == .truncate { return addTruncation(chunk.truncations[change.relation], span, chunk, &batch) }
        guard case .plan(let plan)? = plans[change.relation] else {
            counters.ignored += 1
            return
        }
        if span.commitLSN < plan.copiedUpTo { return }
        switch RowChange.resolve(change, plan: plan, arena: chunk.arena) {
        case .withheld:
            counters.withheld += 1
        case .apply(let row):
            let name = statements.name(for: row.shape, definition: change.relation, plan: plan, steps: &batch.steps)
            let failed = FailedChange(table: plan.table, kind: change.kind, xid: span.xid, commitLSN: span.commitLSN)
            batch.add(
                .execute(name: name, parameters: row.cells.map { chunk.arena.parameter($0) }, binaryResult: false),
                for: failed, mustAffectRow: change.kind != .insert)
            counters.changes += 1
        }
    }

    private func addTruncation(
        _ truncation: Truncation, _ span: TransactionSpan, _ chunk: ChangeChunk, _ batch: inout RowBatch
    ) {
        let tables = truncation.relations.compactMap { definition -> QualifiedName? in
            guard case .plan(let plan)? = plans[definition], span.commitLSN >= plan.copiedUpTo else { return nil }
            return plan.table
        }
        guard let first = tables.first else { return counters.ignored += 1 }
        let failed = FailedChange(table: first, kind: .truncate, xid: span.xid, commitLSN: span.commitLSN)
        let sql = RowStatement.truncate(tables, restartsIdentity: truncation.restartsIdentity)
        batch.add(.query(sql: sql, parameters: [], parameterTypes: []), for: failed, mustAffectRow: false)
        counters.changes += 1
    }

    private func flush(_ batch: inout RowBatch) async throws {
        guard !batch.steps.isEmpty else { return }
        let full = batch
        batch = RowBatch()
        let offset = transaction.isOpen ? 0 : 1
        do {
            let results = try await transaction.run(full.steps)
            for row in full.rows where row.mustAffectRow && results[row.step].affectedRows == 0 {
                counters.missingRows += 1
                if settings.replication.missingRow == .stop { throw ApplyError.missingRow(row.change) }
            }
        } catch let failure as PipelineError {
            guard !failure.error.isTransient,
                let row = full.rows.last(where: { $0.step <= failure.stepIndex - offset })
            else { throw failure.error }
            throw ApplyError.refused(row.change, failure.error)
        }
    }
}

/// Row statements of one pipeline and the changes they stand for.
private struct RowBatch {
    struct Row {
        var step: Int
        var change: FailedChange
        var mustAffectRow: Bool
    }
    var steps: [PipelineStep] = []
    var rows: [Row] = []
    private var sizeBytes = 0
    var isFull: Bool { steps.count >= 1_000 || sizeBytes >= 1 << 20 }

    mutating func add(_ step: PipelineStep, for change: FailedChange, mustAffectRow: Bool) {
        rows.append(Row(step: steps.count, change: change, mustAffectRow: mustAffectRow))
        sizeBytes += step.sizeBytes
        steps.append(step)
    }
}

/// What an applier has done since it began.
struct ApplyCounters: Sendable {
    var transactions = 0
    var changes = 0
    /// Changes that touched only columns that stay behind.
    var withheld = 0
    /// Changes of tables that are not part of the direction.
    var ignored = 0
    var missingRows = 0
}

extension ChangeChunk {
    /// The table definitions that a change refers to.
    func definitions(of change: Change) -> [Int] {
        change.kind == .truncate ? truncations[change.relation].relations : [change.relation]
    }
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

extension PipelineStep {
    fileprivate var sizeBytes: Int {
        guard case .execute(_, let parameters, _) = self else { return 64 }
        return parameters.reduce(64) { sum, parameter in
            switch parameter {
            case .null: sum
            case .text(let text): sum + text.utf8.count
            case .textBytes(let bytes), .binary(let bytes): sum + bytes.count
            }
        }
    }
}
