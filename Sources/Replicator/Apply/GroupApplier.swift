import PostgresClient
import ReplicationCore

/// Applies groups to the target: data and progress in one transaction, whole source transactions in commit order.
///
/// First in bulk; should that meet an error, the same changes again one by one, one source transaction at a time, so
/// that everything before the bad one is committed and the bad one is known. While the target works on a group, the
/// next one is planned and encoded. Used by one task, or by one that it waits for; after an error it is spent.
final class GroupApplier {
    let settings: DirectionSettings
    var builder: StepBuilder
    var executor: GroupExecutor
    /// Source transactions that committed up to here are applied in exact order.
    private let exactUpTo: LSN
    /// Changes that are known to be refused, and may be set aside.
    let quarantine: QuarantineOrders
    /// Names the change that a source transaction was refused for at its end.
    var late: LateRefusal
    /// What has arrived in the meantime, if anything.
    private let lookAhead: @Sendable () -> [ChangeChunk]?
    private var ahead: PreparedGroup?
    /// What was done for a transaction that may still be rolled back at the source.
    private var earlyCounters = ApplyCounters()

    init(
        connection: PostgresConnection, settings: DirectionSettings, state: DirectionState, plans: PlanCache,
        startLSN: LSN, exactUpTo: LSN, quarantine: QuarantineOrders = QuarantineOrders(),
        late: LateRefusal = LateRefusal(), prepared: PreparedTransactions = PreparedTransactions(origin: ""),
        limits: BulkLimits = BulkLimits(), lookAhead: @escaping @Sendable () -> [ChangeChunk]? = { nil }
    ) {
        self.settings = settings
        self.exactUpTo = exactUpTo
        self.quarantine = quarantine
        self.late = late
        self.lookAhead = lookAhead
        builder = StepBuilder(plans: plans, fuses: true, limits: limits)
        executor = GroupExecutor(
            connection: connection, direction: settings.name, missingRow: settings.replication.missingRow, state: state,
            startLSN: startLSN, prepared: prepared)
    }

    /// The last source commit whose effect the target shows.
    var appliedLSN: LSN { executor.appliedLSN }
    /// The last source commit whose effect a crash of the target cannot undo; only this may be acknowledged.
    var durableLSN: LSN { executor.durableLSN }
    /// Whether everything that is applied is durable, too.
    var isSettled: Bool { executor.isSettled }

    /// Whether a piece of a large source transaction waits for the rest of it.
    var hasPiece: Bool { executor.hasPiece }

    /// Whether that may still be rolled back at the source.
    var isEarly: Bool { executor.isEarly }

    /// Asks the target how far its log is on disk.
    func settle() async throws { try await executor.settle() }

    /// Makes everything durable that is applied; a piece of a transaction that has no end yet is taken back.
    func flush() async throws { try await executor.flush() }

    /// What was done since this was last asked. Of a transaction that may still be taken back it is told with its end.
    func takeCounters() -> ApplyCounters {
        let counters = drainCounters()
        if isEarly {
            earlyCounters.add(counters)
            return ApplyCounters()
        }
        return counters
    }

    private func drainCounters() -> ApplyCounters {
        var counters = builder.counters
        counters.add(executor.counters)
        builder.counters = ApplyCounters()
        executor.counters = ApplyCounters()
        return counters
    }

    var hasAhead: Bool { ahead != nil }

    /// The group that was made ready while the last one was applied; it goes next.
    func takeAhead() -> PreparedGroup? {
        defer { ahead = nil }
        return ahead
    }

    /// Applies chunks as one target transaction (or, when a chunk is open-ended, as a part of one).
    ///
    /// - Throws: `ApplyError` for what the data caused, `PostgresError` for what the connection did. The target's
    ///   transaction is rolled back then.
    func apply(_ chunks: [ChangeChunk]) async throws { try await apply(PreparedGroup(chunks: chunks)) }

    func apply(_ group: PreparedGroup) async throws {
        if group.chunks.first?.retracts == true { return await takeBack() }
        do {
            if group.chunks.first?.isEarly == true { try await applyEarly(group) } else { try await applyCommitted(group) }
        } catch {
            await takeBack()
            throw error
        }
    }

    private func applyCommitted(_ group: PreparedGroup) async throws {
        if isEarly { try await executor.endEarly() }
        try await resolveAndApply(group)
        builder.counters.add(earlyCounters)
        earlyCounters = ApplyCounters()
    }

    private func takeBack() async {
        if isEarly { _ = drainCounters() }
        earlyCounters = ApplyCounters()
        await executor.rollBack()
    }

    /// Applies a piece of a transaction that may still be rolled back at the source: nothing that it meets is a reason to
    /// stop, and nobody is to wait long for what it holds, nor it for others.
    private func applyEarly(_ group: PreparedGroup) async throws {
        do {
            try await executor.beginEarly()
            try await resolveAndApply(group)
        } catch let error as PostgresError where error.passesForApplier && error.sqlState?.rawValue != "55P03" {
            throw error
        } catch {
            throw ApplyError.tooEarly
        }
    }

    private func resolveAndApply(_ group: PreparedGroup) async throws {
        if let first = group.chunks.first, try await executor.finish(first) {
            // What the group would have prepared for those behind it has not been sent.
            if !group.work.isEmpty { try await forgetStatements() }
            return
        }
        // A group that is prepared has its plans, and was made with them.
        if !group.isCurrent(builder), let first = group.chunks.first { builder.plans.forget(missingFrom: first.relations) }
        // What does not fit is the end of it: nothing is made ready for those behind, whose statements would seem to be there.
        try await resolve(group.chunks) { try await applyFitting(PreparedGroup(chunks: $0), looksAhead: false) }
        try await applyFitting(group)
    }

    /// Makes the plans that are missing. Where a table does not fit, whatever comes before it is applied first.
    private func resolve(_ chunks: [ChangeChunk], applying apply: ([ChangeChunk]) async throws -> Void) async throws {
        for (position, chunk) in chunks.enumerated() {
            let misfit = try await builder.plans.resolve(
                chunk.usedDefinitions, in: chunk.relations, on: executor.connection)
            guard var misfit else { continue }
            if position > 0 {
                try await apply(Array(chunks[..<position]))
                // What failed in bulk there has had every plan forgotten, those of this chunk, too.
                let again = try await builder.plans.resolve(
                    chunk.usedDefinitions, in: chunk.relations, on: executor.connection)
                misfit = again ?? misfit
            }
            try await applyExactly(chunk, before: misfit.definition)
            throw ApplyError.schemaDiffers(misfit.mismatch)
        }
    }

    private func applyFitting(_ group: PreparedGroup, looksAhead: Bool = true) async throws {
        if group.chunks.mayGoInBulk(exactUpTo: exactUpTo) {
            // What has failed before had none, and may have left its transaction open.
            let hadPiece = group.failure == nil && executor.hasPiece
            do {
                if let failure = group.failure { throw failure }
                return try await applyInBulk(group, looksAhead: looksAhead)
            } catch is ApplyError {
                // What was applied of a large transaction is gone from memory: only the stream can bring it again.
                guard !hadPiece else { throw ApplyError.bulkFailed(upTo: group.firstCommitLSN) }
                await executor.rollBack()
                try await forgetStatements()
                builder.counters.fallbacks += 1
                // The reason may be that a table is no longer what it was.
                builder.plans.forgetAll()
                try await resolve(group.chunks, applying: applyExactly)
            }
        }
        try await applyExactly(group.chunks)
    }

    private func applyExactly(_ chunks: [ChangeChunk]) async throws {
        for chunk in chunks { try await applyExactly(chunk, before: nil) }
    }

    func forgetStatements() async throws {
        try await executor.forgetStatements()
        builder.statements.forget()
    }

    // MARK: bulk

    private func applyInBulk(_ group: PreparedGroup, looksAhead: Bool) async throws {
        let prepared = group.isCurrent(builder) ? group : builder.prepare(group.chunks, skipUpTo: appliedLSN)
        let next = AheadPlanning<(PreparedGroup, StepBuilder)> {
            [lookAhead, builder, skipUpTo = appliedLSN, exactUpTo] in
            guard looksAhead, let chunks = lookAhead() else { return nil }
            let isBulk = chunks.mayGoInBulk(exactUpTo: exactUpTo)
            return { @Sendable in builder.preparingAhead(chunks, skipUpTo: skipUpTo, isBulk: isBulk) }
        }
        let outcome = await executor.applying(prepared, whenSent: { next.begin() })
        if let (group, builder) = await next.outcome { (ahead, self.builder) = (group, builder) }
        if case .failure = outcome { builder.statements.avoid(prepared.closedBatch?.fusedParts ?? []) }
        try outcome.get()
        builder.counters.add(prepared.counters)
    }

    // MARK: lent

    /// Applies a small chunk on the calling thread, to which the connection is lent, or leaves it as what is ahead: what the target
    /// has to be asked for, and what it refuses, is not done here.
    ///
    /// - Parameter whileWaiting: called now and then while the target's answer does not come.
    /// - Returns: whether it is applied.
    func applyLent(_ chunk: ChangeChunk, patienceMilliseconds: Int, whileWaiting: () -> Void) -> Bool {
        guard !hasPiece, chunk.endLSN > appliedLSN, [chunk].mayGoInBulk(exactUpTo: exactUpTo),
            builder.plans.hasAll(chunk.usedDefinitions)
        else {
            ahead = PreparedGroup(chunks: [chunk])
            return false
        }
        let group = builder.prepare([chunk], skipUpTo: appliedLSN)
        ahead = group
        guard let batch = group.closedBatch else { return false }
        do {
            try executor.commitLent(
                chunk, with: batch, asksConstraints: group.firesTriggers, patienceMilliseconds: patienceMilliseconds,
                whileWaiting: whileWaiting)
        } catch {
            builder.statements.avoid(batch.fusedParts)
            ahead = group.failed(by: error)
            return false
        }
        ahead = nil
        builder.counters.add(group.counters)
        return true
    }

    // MARK: exact order

    /// Applies a chunk one source transaction at a time; with `misfit`, up to the first that uses that definition.
    private func applyExactly(_ chunk: ChangeChunk, before misfit: Int?) async throws {
        for span in chunk.transactions {
            // Sent again after a reconnect that came too early to know better.
            if span.commitLSN < appliedLSN, span.twoPhase == nil { continue }
            if let misfit, chunk.changes[span.changes].contains(where: { chunk.definitions(of: $0).contains(misfit) }) {
                return
            }
            if quarantine.holds(span.commitLSN) {
                try await applySettingAside(span, of: chunk)
            } else {
                try await applyInOrder(span, of: chunk)
            }
            // The last piece of a large one may hold its end alone.
            if span.commitLSN == late.commitLSN, span.isCommitted, span.changes.isEmpty {
                try await late.ask(after: nil, isLast: true, executor)
            }
            guard span.isCommitted else { return }
            try await commitExactly(span, chunk)
            if span.twoPhase != nil { return }
        }
        if misfit == nil, !chunk.isOpenEnded { try await executor.commit([chunk]) }
    }

    private func applyInOrder(_ span: TransactionSpan, of chunk: ChangeChunk) async throws {
        var batch = StepBatch()
        for index in span.changes {
            try builder.requireWhole(index, in: span, chunk: chunk)
            builder.add(index, in: span, chunk: chunk, to: &batch)
            if span.commitLSN == late.commitLSN {
                let change = batch.expectations.last?.change
                try await run(&batch)
                try await askLate(after: index, change, span)
            } else if batch.isFull {
                try await run(&batch)
            }
        }
        try await run(&batch)
    }

    /// Asks what waits for the end of a source transaction that was refused there, after one of its changes.
    func askLate(after index: Int, _ change: FailedChange?, _ span: TransactionSpan) async throws {
        let isLast = span.isCommitted && index == span.changes.upperBound - 1
        try await late.ask(after: change, isLast: isLast, executor)
    }

    private func commitExactly(_ span: TransactionSpan, _ chunk: ChangeChunk) async throws {
        do {
            if span.twoPhase != nil {
                try await executor.commit([chunk])
            } else {
                let isLast = span == chunk.transactions.last
                try await executor.commit(
                    endLSN: span.endLSN, commitTime: span.commitTime, heartbeat: isLast ? chunk.heartbeat : nil)
            }
        } catch ApplyError.refused(nil, let error) where error.isOfRow {
            throw ApplyError.refusedLate(commitLSN: span.commitLSN, error)
        }
        builder.counters.transactions += 1
    }

    private func run(_ batch: inout StepBatch) async throws {
        let full = batch
        batch = StepBatch()
        try await executor.run(full)
    }
}

extension [ChangeChunk] {
    /// Whether their order within a group is free.
    func mayGoInBulk(exactUpTo: LSN) -> Bool {
        let first = firstCommitLSN
        return (first > exactUpTo || first == .zero) && !contains(where: \.hasIncompleteInserts)
    }
}

extension ChangeChunk {
    /// The table definitions that a change refers to.
    func definitions(of change: Change) -> [Int] {
        change.kind == .truncate ? truncations[change.relation].relations : [change.relation]
    }

    /// Every definition that this chunk's changes use, in the order of first use.
    var usedDefinitions: [Int] {
        var seen: Set<Int> = []
        var last = -1
        var used: [Int] = []
        func note(_ definition: Int) {
            if definition == last { return }
            last = definition
            // A list is quicker to look through than a set, as long as it is short.
            if used.count <= 16 ? used.contains(definition) : seen.contains(definition) { return }
            seen.insert(definition)
            used.append(definition)
        }
        for change in changes {
            if change.kind == .truncate {
                for definition in truncations[change.relation].relations { note(definition) }
            } else {
                note(change.relation)
            }
        }
        return used
    }
}
