import PostgresClient
import ReplicationCore

/// Small source transactions, each as one statement, in the source's order.
extension StepBuilder {
    /// What one source transaction comes to.
    private struct Fusion {
        var parts: [FusedStatement.Part] = []
        var plans: [RelationPlan] = []
        var parameters: [PostgresParameter] = []
        var sizeBytes = 0
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
                guard let fusion = fusion(of: span, in: chunk, &done) else { return nil }
                if !fusion.parts.isEmpty { fusions.append(fusion) }
            }
        }
        let names = fusions.compactMap {
            statements.name(for: $0.parts, plans: $0.plans, atOnce: limits.fusesAtOnce, batch: &batch)
        }
        guard !names.isEmpty, names.count == fusions.count else { return nil }
        for (name, fusion) in zip(names, fusions) { batch.addFused(name, fusion.parts, fusion.parameters) }
        done.fused = names.count
        return done
    }

    private func fusion(of span: TransactionSpan, in chunk: ChangeChunk, _ done: inout ApplyCounters) -> Fusion? {
        guard span.changes.count <= 2 * FusedStatement.tableLimit else { return nil }
        var fusion = Fusion()
        for index in span.changes {
            let change = chunk.changes[index]
            guard change.kind != .truncate else { return nil }
            guard let plan = plans.plan(change.relation) else {
                done.ignored += 1
                continue
            }
            if span.commitLSN < plan.copiedUpTo { continue }
            guard plan.isBulk, !plan.firesTriggers, !fusion.plans.contains(where: { $0.table == plan.table }) else { return nil }
            guard case .apply(let row) = RowChange.resolve(change, plan: plan, arena: chunk.arena) else {
                done.withheld += 1
                continue
            }
            fusion.parts.append(FusedStatement.Part(definition: change.relation, shape: row.shape))
            fusion.plans.append(plan)
            fusion.sizeBytes += row.cells.reduce(0) { $0 + Int(chunk.arena.cells[$1].length) }
            guard fusion.parts.count <= FusedStatement.tableLimit, fusion.sizeBytes < limits.heldRowBytes else { return nil }
            fusion.parameters += row.cells.map { chunk.arena.parameter($0) }
            done.changes += 1
        }
        return fusion
    }
}
