import PostgresClient
import ReplicationCore

/// Small source transactions, each as one statement, in the source's order.
extension StepBuilder {
    /// What one source transaction comes to.
    private struct Fusion {
        var parts: [FusedStatement.Part] = []
        var parameters = PackedParameters(count: 0, bytes: 0)
        var counters = ApplyCounters()
        /// The statement, where the form was known.
        var name: String?
        /// Else the plans of its tables, and what the next of its form is known by.
        var plans: [RelationPlan] = []
        var cells: [[Int]] = []
        var copiedUpTo = LSN.zero
    }

    /// Adds a statement for each source transaction, if each changes one row in each of a few tables.
    ///
    /// - Returns: what the statements stand for; `nil` when the group has to go another way. Nothing but preparations is
    ///   added then.
    mutating func fuse(_ chunks: [ChangeChunk], skipUpTo: LSN, into batch: inout StepBatch) -> ApplyCounters? {
        guard fuses, let last = chunks.indices.last, !chunks[last].isOpenEnded, !chunks[last].isTwoPhase,
            chunks.reduce(0, { $0 + $1.changes.count }) <= limits.guardedChanges,
            chunks.reduce(0, { $0 + $1.transactions.count }) <= FusedStatement.transactionLimit
        else { return nil }
        var done = ApplyCounters()
        var fusions: [(fusion: Fusion, changes: ArraySlice<Change>)] = []
        // By index: all of a chunk is much to copy beside what is done with it.
        for chunk in chunks.indices {
            for span in chunks[chunk].transactions {
                if span.isCommitted { done.transactions += 1 }
                if span.commitLSN < skipUpTo { continue }
                let changes = chunks[chunk].changes[span.changes]
                guard let fusion = known(changes, chunks[chunk].arena, commitLSN: span.commitLSN) ?? fusion(of: span, in: chunks[chunk])
                else { return nil }
                done.add(fusion.counters)
                if !fusion.parts.isEmpty { fusions.append((fusion, changes)) }
            }
        }
        let names = fusions.compactMap { $0.fusion.name ?? name(of: $0.fusion, $0.changes, &batch) }
        guard !names.isEmpty, names.count == fusions.count else { return nil }
        for (name, (fusion, _)) in zip(names, fusions) { batch.addFused(name, fusion.parts, fusion.parameters) }
        done.fused = names.count
        return done
    }

    private mutating func known(_ changes: ArraySlice<Change>, _ arena: ChangeArena, commitLSN: LSN) -> Fusion? {
        guard let form = statements.form(of: changes), commitLSN >= form.copiedUpTo else { return nil }
        let parameters = form.parameters(of: changes, arena)
        guard parameters.sizeBytes < limits.heldRowBytes else { return nil }
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
            sizeBytes += chunk.arena.valueBytes(row.cells)
            guard fusion.parts.count <= FusedStatement.tableLimit, sizeBytes < limits.heldRowBytes else { return nil }
            fusion.counters.changes += 1
        }
        chunk.arena.withValues { cells, bytes in
            for cell in fusion.cells.joined() { fusion.parameters.append(cells[cell], bytes) }
        }
        return fusion
    }

    /// Its statement, which is prepared if need be; `nil` where it is the first of its kind, or was refused.
    private mutating func name(of fusion: Fusion, _ changes: ArraySlice<Change>, _ batch: inout StepBatch) -> String? {
        let name = statements.name(for: fusion.parts, plans: fusion.plans, atOnce: limits.fusesAtOnce, batch: &batch)
        // What a copy has brought already stays away from this one alone.
        let isWhole = fusion.parts.count + fusion.counters.ignored + fusion.counters.withheld == changes.count
        if let name, isWhole, statements.form(of: changes) == nil,
            let form = FusedForm(
                changes, cells: fusion.cells, parts: fusion.parts, name: name, counters: fusion.counters, copiedUpTo: fusion.copiedUpTo)
        {
            statements.keep(form)
        }
        return name
    }
}
