import PostgresClient
import ReplicationCore

/// Takes hold of the rows that a group names, so that nobody else writes them until the group's transaction ends.
extension SplitGroupApplier {
    /// Keys that nobody held until the rows were there: what their own writers did to them since the decision would have
    /// been part of it. Only rows that came and went need be asked for; the others are in the new ones' way.
    func requireNothingSince(_ lsn: LSN, _ locks: SplitLocks) async throws {
        try await barrier.pass()
        let isUntouched = try ledger.withHistory(of: side.opposite) { history, _ in
            try locks.locks.allSatisfy { try $0.bringing == nil || history.isUntouched($0.key, since: CausalContext(lsn: lsn)) }
        }
        guard isUntouched else { throw SplitTouched() }
    }

    /// Begins, unless that was done, and takes hold of every row that the group names.
    func hold(
        _ locks: SplitLocks, _ note: SplitNote?, _ references: SplitReferences, _ effects: GroupEffects
    ) async throws -> SplitDecision {
        let locks = locks.locks
        var decision = SplitDecision(references: references, after: effects)
        try await holdReferenced(references, except: Set(locks.map(\.key)), &decision)
        var rest = locks.map { (lock: $0, naming: bringsRows ? $0.creating : nil) }[...]
        var isFirst = note != nil
        while isFirst || !rest.isEmpty {
            var steps = SplitSteps()
            if isFirst, let note { begin(note, &steps) }
            isFirst = false
            var asked: [(lock: SplitLocks.Lock, bring: Int?, look: Int)] = []
            while let (lock, naming) = rest.first, !steps.isFull {
                rest = rest.dropFirst()
                guard let statements = targets[lock.definition] else { continue }
                let bring = naming.map { naming in
                    steps.add(
                        statements.bring(
                            lock.key, naming.operation, naming.chunk.chunk.arena,
                            references.moment(in: naming.transaction.context, after: decision.effects)), &names,
                        change: FailedChange(naming.operation, naming.transaction, naming.chunk, statements.target.table.name))
                }
                asked.append((lock, bring, steps.add(statements.lock(lock.key), &names)))
            }
            let results: [PostgresResult]
            do {
                results = try await run(steps)
            } catch ApplyError.refused(_, let cause) where cause.sqlState?.rawValue.hasPrefix("23") == true {
                throw SplitChanged.cannotBring
            }
            for (lock, bring, look) in asked {
                let isBrought = bring.map { results[$0].affectedRows == 1 } ?? false
                let isThere = results[look].rowCount == 1
                // What kept it from being brought has gone before it could be locked.
                if bring != nil, !isBrought, !isThere { throw SplitChanged.row }
                if bring == nil, !isThere, bringsRows, let lock = lock.broughtWhole(targets) {
                    rest.append((lock, lock.waiting))
                    continue
                }
                decision.note(
                    lock, isThere: isThere, isBrought: isBrought, number: isThere ? results[look][row: 0, column: 0] : nil, targets)
            }
        }
        return decision
    }

    /// Keeps the rows that are referred to where they are; those that the group itself names are held anyway.
    private func holdReferenced(
        _ references: SplitReferences, except held: Set<RowKey>, _ decision: inout SplitDecision
    ) async throws {
        var rest = Array(references.rows.filter { !held.contains($0.key) })[...]
        while !rest.isEmpty {
            var steps = SplitSteps()
            var asked: [(key: RowKey, look: Int)] = []
            while let (key, reference) = rest.first, !steps.isFull {
                rest = rest.dropFirst()
                asked.append((key, steps.add(reference.hold(key, isBinary: targets.isBinary), &names)))
            }
            let results = try await run(steps)
            for (key, look) in asked { decision.note(key, isPresent: results[look].rowCount == 1) }
        }
    }
}
