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
    let exactUpTo: LSN
    /// Changes that are known to be refused, and may be set aside.
    let quarantine: QuarantineOrders
    /// Names the change that a source transaction was refused for at its end.
    var late: LateRefusal
    /// What has arrived in the meantime.
    private let lookAhead: LookAhead
    var ahead: PreparedGroup?
    /// Why the first of those on their way was refused, until those behind it are.
    var lentFailure: (any Error)?
    /// Where the next group may begin while one is at work.
    private let second: (@Sendable () async -> PostgresConnection?)?
    private var patience = OverlapPatience()
    /// What was done for a transaction that may still be rolled back at the source.
    private var earlyCounters = ApplyCounters()

    /// - Parameter second: connects a second session, for groups that begin beside one another.
    init(
        connection: PostgresConnection, settings: DirectionSettings, state: DirectionState, plans: PlanCache,
        startLSN: LSN, exactUpTo: LSN, quarantine: QuarantineOrders = QuarantineOrders(),
        late: LateRefusal = LateRefusal(), prepared: PreparedTransactions = PreparedTransactions(origin: ""),
        limits: BulkLimits = BulkLimits(), second: (@Sendable () async -> PostgresConnection?)? = nil,
        lookAhead: LookAhead = .nothing
    ) {
        self.second = second
        self.settings = settings
        self.exactUpTo = exactUpTo
        self.quarantine = quarantine
        self.late = late
        self.lookAhead = lookAhead
        builder = StepBuilder(plans: plans, fuses: true, limits: limits)
        executor = GroupExecutor(
            connection: connection, settings: settings, state: state, startLSN: startLSN, prepared: prepared)
    }

    /// The last source commit whose effect the target shows.
    var appliedLSN: LSN { executor.appliedLSN }
    /// The last source commit whose effect a crash of the target cannot undo; only this may be acknowledged.
    var durableLSN: LSN { executor.durableLSN }
    /// Whether everything that is applied is durable, too.
    var isSettled: Bool { executor.isSettled }
    /// Whether the source was last at a position that is not on record yet, and could be.
    var hasUnrecorded: Bool { executor.hasUnrecorded }

    /// Whether a piece of a large source transaction waits for the rest of it.
    var hasPiece: Bool { executor.hasPiece }

    /// Whether that may still be rolled back at the source.
    var isEarly: Bool { executor.isEarly }

    /// Asks the target how far its log is on disk.
    func settle() async throws { try await executor.settle() }

    /// Records, once that is due, how far a source is that has fallen silent.
    func recordIdle() async throws { try await executor.recordIdle() }

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
        await abandonOverlap()
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
        if let failure = group.failure { return try await applyRefused(group.chunks, failure) }
        // A group that is prepared has its plans, and was made with them.
        if !builder.holds(group.statements), let first = group.chunks.first { builder.plans.forget(missingFrom: first.relations) }
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
        guard group.chunks.mayGoInBulk(exactUpTo: exactUpTo) else { return try await applyExactly(group.chunks) }
        let hadPiece = executor.hasPiece
        do {
            try await applyInBulk(group, looksAhead: looksAhead)
        } catch {
            // What was applied of a large transaction is gone from memory: only the stream can bring it again.
            if error is ApplyError, hadPiece { throw ApplyError.bulkFailed(upTo: group.firstCommitLSN) }
            try await applyRefused(group.chunks, error)
        }
    }

    /// Applies in exact order what the target has refused otherwise. Its transaction may still be open, and in no state to be asked
    /// anything.
    private func applyRefused(_ chunks: [ChangeChunk], _ failure: any Error) async throws {
        guard failure is ApplyError else { throw failure }
        await executor.rollBack()
        try await forgetStatements()
        builder.counters.fallbacks += 1
        // The reason may be that a table is no longer what it was.
        builder.plans.forgetAll()
        try await resolve(chunks, applying: applyExactly)
        try await applyExactly(chunks)
    }

    func forgetStatements() async throws {
        try await executor.forgetStatements()
        builder.forgetStatements()
    }

    // MARK: bulk

    private func applyInBulk(_ group: PreparedGroup, looksAhead: Bool) async throws {
        var prepared = group
        if group.overlap == nil, !builder.holds(group.statements) { prepared = prepare(group.chunks) }
        let next = AheadPlanning<(PreparedGroup, StepBuilder)>()
        if looksAhead, mayBeFollowed(prepared) {
            let takeFull = taking(beside: prepared)
            lookAhead.whenFull { next.begin(takeFull) }
        }
        do {
            if let overlap = prepared.overlap, try await !goOn(with: overlap, of: prepared) {
                await end(next)
                await abandonOverlap()
                // What the overlap would have prepared may be there or not.
                try await forgetStatements()
                prepared = prepare(group.chunks)
            }
            let takeNext = taking()
            try await executor.apply(prepared, whenSent: { if looksAhead { next.begin(takeNext) } })
            await end(next)
        } catch {
            await end(next)
            builder.statements.avoid(prepared.closedBatch?.fusedParts ?? [])
            await abandonOverlap()
            throw error
        }
        builder.counters.add(prepared.counters)
    }

    private func prepare(_ chunks: [ChangeChunk]) -> PreparedGroup {
        builder.prepare(chunks, skipUpTo: appliedLSN, beside: second == nil ? nil : .everything)
    }

    /// Nothing more is taken ahead; what has been, goes next.
    private func end(_ next: AheadPlanning<(PreparedGroup, StepBuilder)>) async {
        lookAhead.whenFull(nil)
        guard let (group, builder) = await next.end() else { return }
        (ahead, self.builder) = (group, builder)
        self.builder.session = .home
    }

    // MARK: overlap

    /// Whether the session at home has nothing open for the group that goes next.
    var isHomeFree: Bool { ahead?.overlap == nil || ahead?.statements?.session != .home }

    /// Whether the next group may begin while this one is at work.
    private func mayBeFollowed(_ group: PreparedGroup) -> Bool {
        second != nil && !executor.hasPiece && group.closedBatch == nil && !group.footprint.isEverything
            && group.chunks.mayOverlap(after: appliedLSN) && patience.isDue()
    }

    /// Goes on with a group that began while the one before was at work; false if that was in vain.
    private func goOn(with overlap: GroupOverlap, of group: PreparedGroup) async throws -> Bool {
        guard let session = group.statements?.session else { return false }
        let (transaction, isDone) = await overlap.claimed()
        // Without a commit of its own it would stay open.
        guard isDone, group.chunks.mayOverlap(after: appliedLSN) else {
            patience.handleFailure()
            var transaction = transaction
            await transaction.rollBack()
            executor.put(transaction, in: session)
            return false
        }
        try await executor.take(transaction, of: session)
        patience.handleSuccess()
        executor.counters.overlapped += 1
        return true
    }

    /// Takes and plans what comes next.
    ///
    /// - Parameter group: beside which it may begin; `nil` if it waits for the one at work.
    private func taking(beside group: PreparedGroup? = nil) -> AheadPlanning<(PreparedGroup, StepBuilder)>.Taking {
        let session = group?.statements?.session.other ?? .home
        return {
            [isCautious = patience.isCautious, lookAhead, builder, skipUpTo = appliedLSN, exactUpTo, second, direction = settings.name,
             known = executor.transaction(of: session)] in
            guard let chunks = lookAhead.take(group != nil) else { return nil }
            let isBulk = chunks.mayGoInBulk(exactUpTo: exactUpTo)
            return { @Sendable in
                var transaction = known
                let isFollower = group != nil && isBulk && chunks.mayOverlap(after: skipUpTo)
                if isFollower, transaction == nil, let connection = await second?() {
                    transaction = TargetTransaction(connection: connection, direction: direction)
                }
                if isFollower, let group, let transaction {
                    var other = builder
                    other.session = session
                    var footprint = group.footprint
                    footprint.isCautious = isCautious
                    var (next, after) = other.preparingAhead(chunks, skipUpTo: skipUpTo, isBulk: isBulk, beside: footprint)
                    if !next.free.isEmpty {
                        next.overlap = GroupOverlap(next.free, on: transaction)
                        return (next, after)
                    }
                }
                return builder.preparingAhead(
                    chunks, skipUpTo: skipUpTo, isBulk: isBulk, beside: second == nil ? nil : .everything)
            }
        }
    }

    /// Gives up what of the next group is under way. Its statements may be there or not.
    func abandonOverlap() async {
        guard let group = ahead, let overlap = group.overlap, let session = group.statements?.session else { return }
        executor.put(await overlap.takenBack(), in: session)
        ahead = PreparedGroup(chunks: group.chunks)
        builder.forgetStatements()
    }
}

extension [ChangeChunk] {
    /// Whether they are whole transactions that end behind a position, so that they commit as one.
    func mayOverlap(after lsn: LSN) -> Bool {
        allSatisfy { !$0.isOpenEnded && !$0.isEarly && !$0.retracts && !$0.isTwoPhase } && contains { $0.endLSN > lsn }
    }

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
            if used.count <= 16 {
                if used.contains(definition) { return }
            } else {
                if seen.isEmpty { seen = Set(used) }
                if !seen.insert(definition).inserted { return }
            }
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
