import PostgresClient
import ReplicationCore

/// Applies groups of one direction: hold the rows, let the target's own history catch up, decide, write, commit.
///
/// See `SplitResolver` for why in this order. Used by one task; after an error it is spent.
final class SplitGroupApplier {
    /// What two writers do to each other passes by trying again; what stays is told.
    private static let attempts = 5

    let connection: PostgresConnection
    /// Asked whose numbers the references are.
    let source: PostgresConnection
    private var sourceNames = SplitStatementNames()
    private var sourceBarrier: SplitBarrier
    /// Whether the group that is being applied will not be begun again.
    private var isLastTry = false
    /// The side that is read.
    let side: Side
    let settings: DirectionSettings
    var barrier: SplitBarrier
    let ledger: SplitLedger
    private let resolver: SplitResolver
    private let state: DirectionState
    var targets: SplitTargets
    /// Of what goes in bulk.
    private var builder: StepBuilder
    var names = SplitStatementNames()
    private var bulk: SplitBulkWriter {
        SplitBulkWriter(connection: connection, passesMissing: settings.replication.missingRow == .count)
    }
    var counters = ApplyCounters()
    var hasStatements = false
    private var ahead: PreparedSplit?
    /// Whether rows that are to be made are brought first. Some cannot be: another unique value of theirs is free only once
    /// an earlier operation is done, or the stream lacks a value that a changed key takes along.
    var bringsRows = true
    /// Definitions whose changes have gone row by row in the target's transaction: it ends with a look whether their tables
    /// are still those that the statements were made for.
    var rowByRow: Set<Int> = []

    init(
        connection: PostgresConnection, source: PostgresConnection, side: Side, settings: DirectionSettings, barrier: SplitBarrier, ledger: SplitLedger,
        state: DirectionState, binaryTypes: [UInt32: ColumnDescription]?
    ) {
        self.connection = connection
        self.source = source
        sourceBarrier = SplitBarrier(connection: source, side: side, reading: side, ledger: ledger)
        self.side = side
        self.settings = settings
        self.barrier = barrier
        self.ledger = ledger
        self.state = state
        resolver = SplitResolver(local: settings.targetName, remote: settings.sourceName)
        targets = SplitTargets(settings: settings, binaryTypes: binaryTypes)
        let plans = PlanCache(settings: settings, isBinary: binaryTypes != nil, userTypes: binaryTypes ?? [:], copiedUpTo: [:])
        builder = StepBuilder(plans: plans, fuses: false)
    }

    /// What was done since this was last asked.
    func takeCounters() -> ApplyCounters {
        defer { counters = ApplyCounters() }
        return counters
    }

    /// The group that was made ready while the last one was applied; it goes next.
    var groupAhead: SplitGroup? { ahead?.group }

    /// Applies a group as one transaction of the target.
    ///
    /// - Parameter lookAhead: the next group, if one waits already; the caller gets it as `groupAhead`.
    /// - Throws: `ApplyError`, `SchemaMismatch`, `PostgresError`; the transaction is rolled back then.
    func apply(_ group: SplitGroup, lookAhead: @escaping @Sendable () -> SplitGroup?) async throws {
        let ready = ahead
        ahead = nil
        guard let note = group.appliedNote, let progress = group.progress else { return }
        guard progress.appliedLSN >= ledger.positions(from: side).applied else {
            throw PostgresError.protocolViolation("progress of \(settings.name) would go back to \(progress.appliedLSN)")
        }
        // Before anything that names them is made ready.
        if names.isFull { try await forgetStatements() }
        try await targets.resolve(group, on: connection, from: source)
        rowByRow.removeAll()
        try await insist(on: group, isPart: false) { [self] isFirst, allHot in
            let effects = try await write(
                group, ready: isFirst ? ready : nil, allHot: allHot, note: note, after: GroupEffects(), lookAhead: lookAhead)
            try await commit(group, progress, effects)
        }
        finish(group, progress, note)
        counters.changes += group.changeCount
    }

    /// Writes until it goes, or there is no hope that it will.
    ///
    /// - Parameters:
    ///   - isPart: whether the target's transaction has begun before, and goes on.
    ///   - write: is told whether it is the first time, and whether everything is to be decided one by one.
    func insist(
        on group: SplitGroup, isPart: Bool, _ write: (_ isFirst: Bool, _ allHot: Bool) async throws -> Void
    ) async throws {
        bringsRows = true
        let missingRows = counters.missingRows
        var allHot = group.changeCount == 0
        // What was done before a part is worth more tries.
        let attempts = isPart ? 4 * Self.attempts : Self.attempts
        for attempt in 1...attempts {
            isLastTry = attempt == attempts
            do {
                return try await write(attempt == 1, allHot)
            } catch {
                try await (isPart ? rollBackPart() : rollBack())
                counters.missingRows = missingRows
                guard !isLastTry, Self.isWorthAnotherTry(error) else { throw error }
                try await forgetStatements()
                if isPart { try await prepareStatements() }
                if error is SplitAltered { try await remakeTargets(group) }
                // One by one it is known which operation it was, and often there is nothing wrong with it. Rows that are
                // held first can't be touched, however busy the target's own writers are.
                if !(error is SplitTouched || error is SplitAltered) || attempt > 1 { allHot = true }
                if case SplitChanged.cannotBring = error { bringsRows = false }
                counters.fallbacks += 1
            }
        }
    }

    /// A table of the target was altered: what was made for it as it was is made anew.
    private func remakeTargets(_ group: SplitGroup) async throws {
        let related = targets.related(to: rowByRow)
        rowByRow.removeAll()
        targets.forgetAll()
        try await settings.targetTables.require(related, on: connection)
        try await targets.resolve(group, on: connection, from: source)
    }

    func rollBack() async throws {
        do {
            try await connection.rollback()
        } catch {
            // What the transaction has done may still be in it.
            await connection.close()
            throw PostgresError.closed("a transaction could not be rolled back: \(error)")
        }
    }

    /// Deadlocks pass; a row or a unique key that came or went between two looks is seen by the next.
    private static func isWorthAnotherTry(_ error: any Error) -> Bool {
        switch error {
        case is SplitTouched, is SplitAltered, is SplitChanged, ApplyError.missingRow, ApplyError.refused(nil, _): true
        case ApplyError.refused(_, let cause): ["40P01", "40001", "23505"].contains(cause.sqlState?.rawValue)
        case let error as PostgresError: ["40P01", "40001"].contains(error.sqlState?.rawValue)
        default: false
        }
    }

    // MARK: in bulk

    /// Writes what comes of a group; to commit it is up to whoever began.
    ///
    /// - Parameters:
    ///   - note: what the target's transaction begins with; `nil` when it has begun.
    ///   - effects: of what came before in it.
    func write(
        _ group: SplitGroup, ready: PreparedSplit?, allHot: Bool, note: SplitNote?, after effects: GroupEffects,
        lookAhead: @escaping @Sendable () -> SplitGroup?
    ) async throws -> GroupEffects {
        var hasComeNearer = false
        if note != nil, group.hasOperations { hasComeNearer = try await barrier.approach() }
        if allHot { return try await writeOneByOne(group, note, effects) }
        let prepared: PreparedSplit
        if let ready, try isCurrent(ready, asksHistory: hasComeNearer) {
            prepared = ready
        } else {
            prepared = try await prepare(group)
        }
        return try await decide(group, prepared.parts, note, effects) { [self] in
            if ahead != nil { return try await bulk.run(prepared.work, whenSent: {}) }
            let next = AheadPlanning<(PreparedSplit, StepBuilder)>()
            let takeNext: AheadPlanning<(PreparedSplit, StepBuilder)>.Taking = {
                [targets, ledger, target = side.opposite, builder, lookAhead] in
                guard let group = lookAhead() else { return nil }
                return { @Sendable in
                    PreparedSplit.make(group, targets: targets, ledger: ledger, target: target, builder: builder)
                }
            }
            let outcome: Result<Void, any Error>
            do {
                outcome = .success(try await bulk.run(prepared.work, whenSent: { next.begin(takeNext) }))
            } catch {
                outcome = .failure(error)
            }
            if let (made, builder) = await next.end() { (ahead, self.builder) = (made, builder) }
            try outcome.get()
        }
    }

    /// - Parameter asksHistory: whether much may have been read of the target's own writes since it was made.
    private func isCurrent(_ prepared: PreparedSplit, asksHistory: Bool) throws -> Bool {
        guard prepared.isPrepared, prepared.statementsGeneration == builder.statements.generation else { return false }
        return try !asksHistory || ledger.withHistory(of: side.opposite) { history, _ in try prepared.parts.isUntouched(history) }
    }

    private func prepare(_ group: SplitGroup) async throws -> PreparedSplit {
        let parts = try SplitTemperature(group, targets: targets, ledger: ledger, target: side.opposite)
        try await resolvePlans(parts.cold)
        let work = builder.prepare(parts.cold, skipUpTo: .zero).work
        return PreparedSplit(group: group, parts: parts, work: work, statementsGeneration: builder.statements.generation)
    }

    private func resolvePlans(_ chunks: [ChangeChunk]) async throws {
        for chunk in chunks {
            let misfit = try await builder.plans.resolve(chunk.usedDefinitions, in: chunk.relations, on: connection)
            if let misfit { throw misfit.mismatch }
        }
    }

    /// Decides about every operation, and applies what travels one way in its own order.
    private func writeOneByOne(
        _ group: SplitGroup, _ note: SplitNote?, _ effects: GroupEffects
    ) async throws -> GroupEffects {
        let parts = SplitTemperature(allHot: group)
        try await resolvePlans(parts.cold)
        return try await decide(group, parts, note, effects) { [self] in
            for chunk in parts.cold {
                var batch = StepBatch()
                for span in chunk.transactions {
                    for index in span.changes {
                        try builder.requireWhole(index, in: span, chunk: chunk)
                        builder.add(index, in: span, chunk: chunk, to: &batch)
                        if batch.isFull {
                            counters.missingRows += try await bulk.run(batch)
                            batch = StepBatch()
                        }
                    }
                }
                if !batch.isEmpty { counters.missingRows += try await bulk.run(batch) }
            }
        }
    }

    // MARK: deciding

    /// - Parameter bulk: writes what needs no decision, if the target has not written it too; that is known after the
    ///   barrier.
    private func decide(
        _ group: SplitGroup, _ parts: SplitTemperature, _ note: SplitNote?, _ effects: GroupEffects, bulk: () async throws -> Void
    ) async throws -> GroupEffects {
        let references = try await references(of: parts.hot)
        for transaction in parts.hot.transactions { for operation in transaction.operations { rowByRow.insert(operation.relation) } }
        let targets = targets
        let locks = SplitLocks(parts.hot, depth: { targets.depth(of: $0) }, mayWait: { targets.mayWait($0) })
        var decision: SplitDecision
        if references.isEmpty {
            decision = try await hold(locks, note, references, effects)
            try await bulk()
        } else {
            // Rows that others refer to must be there before those are brought.
            if let note { try await begin(note) }
            try await bulk()
            decision = try await hold(locks, nil, references, effects)
        }
        if group.hasOperations {
            try await barrier.pass()
            let knownLSN = try ledger.withHistory(of: side.opposite) { history, readLSN in
                guard try parts.isUntouched(history) else { throw SplitTouched() }
                // In the end it goes on: what refers to rows that are not held is told again, should they go meanwhile.
                if try decision.follow(in: history), !isLastTry { throw SplitTouched() }
                try decision.decide(parts.hot, resolver, history, targets, &names)
                return readLSN
            }
            for (place, steps) in decision.steps.enumerated() { decision.note(try await run(steps), ofPipeline: place) }
            try await settle(decision, knownLSN)
            if !bringsRows { try await requireNothingSince(knownLSN, locks) }
        }
        return decision.effects
    }

    /// The group's transaction has committed.
    func finish(_ group: SplitGroup, _ progress: SplitProgress, _ note: SplitNote) {
        ledger.noteCommit(progress, note: note, from: side)
        counters.transactions += group.transactionCount
    }

    /// Asks the source whose numbers the group's references are, its history what keys those rows had, and the target's what
    /// has become of those keys.
    private func references(of group: SplitGroup) async throws -> SplitReferences {
        var references = try await SplitReferences.read(group, targets, on: source, names: &sourceNames)
        if references.areNone { return references }
        // Then whatever made the answer differ from what the group knows is in the history.
        try await sourceBarrier.pass(holdsRows: false)
        try ledger.withHistories { histories in
            try references.goBack(in: histories(side))
            _ = try references.follow(in: histories(side.opposite))
        }
        return references
    }

    func begin(_ note: SplitNote) async throws {
        var steps = SplitSteps()
        begin(note, &steps)
        try await run(steps)
        hasStatements = true
    }

    func begin(_ note: SplitNote, _ steps: inout SplitSteps) {
        steps.add(.query(sql: "BEGIN", parameters: [], parameterTypes: []))
        if !hasStatements { for step in Self.preparation { steps.add(step) } }
        steps.add(Self.message(settings.policy?.isInTransition == true ? [note, .whole] : [note]))
    }

    // MARK: writing

    @discardableResult
    func run(_ steps: SplitSteps) async throws -> [PostgresResult] {
        let results: [PostgresResult]
        do {
            results = try await connection.run(steps.steps)
        } catch let failure as PipelineError {
            throw ApplyError.refusal(failure.error, of: steps.change(at: failure.stepIndex))
        }
        for expected in steps.expectations {
            guard let rows = expected.rows, results[expected.step].affectedRows != rows else { continue }
            throw SplitChanged.row
        }
        return results
    }

    func commit(_ group: SplitGroup, _ progress: SplitProgress, _ effects: GroupEffects) async throws {
        var steps: [PipelineStep] = []
        if !effects.notes.isEmpty { steps.append(Self.message(effects.notes)) }
        // What waits for the commit is asked for now: an error there would come too late to find the change behind it.
        steps.append(.execute(name: "lindero_constraints", parameters: [], binaryResult: false))
        if let heartbeat = group.heartbeat {
            steps.append(
                TargetTransaction.seen(
                    direction: settings.name, heartbeat: heartbeat, endLSN: progress.appliedLSN, figures: state.figures))
        }
        let shapes = targets.shapes(of: rowByRow)
        let shapeStep = shapes.isEmpty ? nil : steps.count
        if !shapes.isEmpty {
            steps.append(.execute(name: "lindero_shapes", parameters: TargetShape.parameters(shapes), binaryResult: false))
        }
        let relatedNames = settings.targetTables.parameters(targets.related(to: rowByRow))
        let namesStep = relatedNames == nil ? nil : steps.count
        if let relatedNames { steps.append(.execute(name: "lindero_names", parameters: relatedNames, binaryResult: false)) }
        let progressStep = steps.count
        let time = group.commitTime ?? group.heartbeat?.sentAt
        steps.append(
            .execute(
                name: "lindero_progress",
                parameters: SplitProgressStore.parameters(settings.name, progress, commitTime: time), binaryResult: false))
        steps.append(.query(sql: "COMMIT", parameters: [], parameterTypes: []))
        do {
            _ = try await connection.run(steps)
        } catch let failure as PipelineError {
            if [shapeStep, namesStep].contains(failure.stepIndex), failure.error.sqlState?.rawValue == "22012" { throw SplitAltered() }
            if failure.stepIndex == progressStep, failure.error.sqlState?.rawValue == "22012" { throw ProgressError.noRow }
            throw ApplyError.refusal(failure.error, of: nil)
        }
        hasStatements = true
    }

    /// After a failed pipeline nothing that it prepared is certain.
    func forgetStatements() async throws {
        _ = try await connection.execute("DEALLOCATE ALL")
        names.forget()
        builder.statements.forget()
        builder.plans.forgetAll()
        hasStatements = false
    }

    /// What every transaction ends with, on a session that has forgotten it.
    func prepareStatements() async throws {
        var steps = SplitSteps()
        for step in Self.preparation { steps.add(step) }
        try await run(steps)
        hasStatements = true
    }

    static func message(_ notes: [SplitNote]) -> PipelineStep {
        .execute(name: "lindero_note", parameters: [.binary(SplitNote.encode(notes))], binaryResult: false)
    }

    private static let preparation: [PipelineStep] = [
        .prepare(
            name: "lindero_note",
            sql: "SELECT pg_catalog.pg_logical_emit_message(true, '\(SplitNote.messagePrefix)', $1)",
            parameterTypes: [OID.bytea]),
        .prepare(name: "lindero_progress", sql: SplitProgressStore.writeSQL, parameterTypes: SplitProgressStore.writeTypes),
        .prepare(name: "lindero_shapes", sql: TargetShape.check.text, parameterTypes: TargetShape.check.parameterTypes),
        .prepare(name: "lindero_names", sql: TableOIDs.check.text, parameterTypes: TableOIDs.check.parameterTypes),
        .prepare(name: "lindero_constraints", sql: "SET CONSTRAINTS ALL IMMEDIATE", parameterTypes: []),
    ]
}

/// A table of the target is no longer the one that the statements were made for.
struct SplitAltered: Error, CustomStringConvertible {
    var description: String { "a table of the target was altered meanwhile" }
}
