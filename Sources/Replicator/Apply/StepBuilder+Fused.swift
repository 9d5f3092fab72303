import PostgresClient
import ReplicationCore

/// Small source transactions, each as one statement, in the source's order.
extension StepBuilder {
    /// What one source transaction comes to.
    private struct Fusion {
        var parts: [FusedStatement.Part] = []
        var parameters = PackedParameters(count: 0, bytes: 0)
        var counters = ApplyCounters()
        /// The statement, where one of this form is known.
        var name: String?
        /// What else it takes to know it the next time.
        var plans: [RelationPlan] = []
        var cells: [[Int]] = []
        var copiedUpTo = LSN.zero
    }

    /// Adds a statement for each source transaction, if each changes one row in each of a few tables.
    ///
    /// - Returns: what the statements stand for; `nil` when the group has to go another way. Nothing but preparations is
    ///   added then.
    mutating func fuse(_ chunks: [ChangeChunk], skipUpTo: LSN, into batch: inout StepBatch) -> ApplyCounters? {
        guard fuses, let last = chunks.last, !last.isOpenEnded, last.twoPhase == nil,
            chunks.reduce(0, { $0 + $1.changes.count }) <= limits.guardedChanges,
            chunks.reduce(0, { $0 + $1.transactions.count }) <= FusedStatement.transactionLimit
        else { return nil }
        var done = ApplyCounters()
        var fusions: [Fusion] = []
        for chunk in chunks {
            for span in chunk.transactions {
                if span.isCommitted { done.transactions += 1 }
                if span.commitLSN < skipUpTo { continue }
                guard var fusion = known(span, in: chunk) ?? fusion(of: span, in: chunk) else { return nil }
                done.add(fusion.counters)
                if fusion.parts.isEmpty { continue }
                if fusion.name == nil { name(&fusion, of: chunk.changes[span.changes], &batch) }
                fusions.append(fusion)
            }
        }
        guard !fusions.isEmpty, fusions.allSatisfy({ $0.name != nil }) else { return nil }
        for fusion in fusions { batch.addFused(fusion.name ?? "", fusion.parts, fusion.parameters) }
        done.fused = fusions.count
        return done
    }

    private mutating func known(_ span: TransactionSpan, in chunk: ChangeChunk) -> Fusion? {
        let changes = chunk.changes[span.changes]
        guard let form = statements.form(of: changes), span.commitLSN >= form.copiedUpTo,
            let parameters = form.parameters(of: changes, chunk.arena, limitBytes: limits.heldRowBytes)
        else { return nil }
        return Fusion(parts: form.parts, parameters: parameters, counters: form.counters, name: form.name)
    }

    private func fusion(of span: TransactionSpan, in chunk: ChangeChunk) -> Fusion? {
        guard span.changes.count <= 2 * FusedStatement.tableLimit else { return nil }
        var fusion = Fusion()
        var sizeBytes = 0
        for index in span.changes {
            let change = chunk.changes[index]
            fusion.cells.append([])
            guard change.kind != .truncate else { return nil }
            guard let plan = plans.plan(change.relation) else {
                fusion.counters.ignored += 1
                continue
            }
            fusion.copiedUpTo = max(fusion.copiedUpTo, plan.copiedUpTo)
            if span.commitLSN < plan.copiedUpTo { continue }
            guard plan.isBulk, !plan.firesTriggers, !fusion.plans.contains(where: { $0.table == plan.table }) else { return nil }
            guard case .apply(let row) = RowChange.resolve(change, plan: plan, arena: chunk.arena) else {
                fusion.counters.withheld += 1
                continue
            }
            fusion.parts.append(FusedStatement.Part(definition: change.relation, shape: row.shape))
            fusion.plans.append(plan)
            fusion.cells[fusion.cells.count - 1] = row.cells
            sizeBytes += row.cells.reduce(0) { $0 + Int(chunk.arena.cells[$1].length) }
            guard fusion.parts.count <= FusedStatement.tableLimit, sizeBytes < limits.heldRowBytes else { return nil }
            fusion.counters.changes += 1
        }
        for cell in fusion.cells.joined() { fusion.parameters.append(chunk.arena, cell) }
        return fusion
    }

    /// Finds its statement, or has it prepared; not where it is the first of its kind, or was refused.
    private mutating func name(_ fusion: inout Fusion, of changes: ArraySlice<Change>, _ batch: inout StepBatch) {
        fusion.name = statements.name(for: fusion.parts, plans: fusion.plans, atOnce: limits.fusesAtOnce, batch: &batch)
        // What a copy has brought already stays away from this one alone.
        guard let name = fusion.name, fusion.parts.count + fusion.counters.ignored + fusion.counters.withheld == changes.count,
            let form = FusedForm(
                changes, cells: fusion.cells, parts: fusion.parts, name: name, counters: fusion.counters, copiedUpTo: fusion.copiedUpTo)
        else { return }
        statements.keep(form)
    }
}

extension PackedParameters {
    mutating func append(_ arena: ChangeArena, _ index: Int) {
        let cell = arena.cells[index]
        switch cell.kind {
        case .null, .unchanged: appendNull()
        case .text, .binary:
            append(arena.bytes[cell.offset..<cell.offset + Int(cell.length)], isBinary: cell.kind == .binary)
        }
    }
}
