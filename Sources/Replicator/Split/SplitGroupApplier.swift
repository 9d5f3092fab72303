import PostgresClient
import ReplicationCore

/// Applies groups of one direction: hold the rows, let the target's own history catch up, decide, write, commit.
///
/// See `SplitResolver` for why in this order. Used by one task; after an error it is spent.
final class SplitGroupApplier {
    /// What two writers do to each other passes by trying again; what stays is told.
    private static let attempts = 5

    private let connection: PostgresConnection
    /// The side that is read.
    private let side: Side
    private let settings: DirectionSettings
    private let barrier: SplitBarrier
    private let ledger: SplitLedger
    private let resolver: SplitResolver
    private let state: DirectionState
    private var targets: SplitTargets
    private var names = SplitStatementNames()
    private var counters = ApplyCounters()
    private var hasStatements = false

    init(
        connection: PostgresConnection, side: Side, settings: DirectionSettings, barrier: SplitBarrier, ledger: SplitLedger,
        state: DirectionState, isBinary: Bool
    ) {
        self.connection = connection
        self.side = side
        self.settings = settings
        self.barrier = barrier
        self.ledger = ledger
        self.state = state
        resolver = SplitResolver(local: settings.targetName, remote: settings.sourceName)
        targets = SplitTargets(settings: settings, isBinary: isBinary)
    }

    /// What was done since this was last asked.
    func takeCounters() -> ApplyCounters {
        defer { counters = ApplyCounters() }
        return counters
    }

    /// Applies a group as one transaction of the target.
    ///
    /// - Throws: `ApplyError`, `SchemaMismatch`, `PostgresError`; the transaction is rolled back then.
    func apply(_ group: SplitGroup) async throws {
        try await targets.resolve(group, on: connection)
        for attempt in 1...Self.attempts {
            do {
                return try await attemptToApply(group)
            } catch {
                try? await connection.rollback()
                guard attempt < Self.attempts, Self.isWorthAnotherTry(error) else { throw error }
                try await forgetStatements()
                counters.fallbacks += 1
            }
        }
    }

    /// Deadlocks pass; a row or a unique key that came or went between two looks is seen by the next.
    private static func isWorthAnotherTry(_ error: any Error) -> Bool {
        switch error {
        case SplitChanged.row: true
        case ApplyError.refused(_, let cause): ["40P01", "40001", "23505"].contains(cause.sqlState?.rawValue)
        case let error as PostgresError: ["40P01", "40001"].contains(error.sqlState?.rawValue)
        default: false
        }
    }

    private func attemptToApply(_ group: SplitGroup) async throws {
        guard let note = group.appliedNote, let progress = group.progress else { return }
        if names.isFull { try await forgetStatements() }
        var decision = try await hold(SplitLocks(group), note)
        if group.operationCount > 0 {
            try await barrier.pass()
            ledger.withHistory(of: side.opposite) { decision.decide(group, resolver, $0, targets, &names) }
            for steps in decision.steps { try await run(steps) }
        }
        try await commit(group, progress, decision.effects)
        ledger.noteCommit(progress, note: note, from: side)
        counters.add(decision.counters)
    }

    // MARK: holding rows

    /// Begins, and takes hold of every row that the group names.
    private func hold(_ locks: SplitLocks, _ note: SplitNote) async throws -> SplitDecision {
        var effects = GroupEffects()
        var brought: [RowKey: SplitDecision.Brought] = [:]
        var rest = locks.locks[...]
        var isFirst = true
        while isFirst || !rest.isEmpty {
            var steps = SplitSteps()
            if isFirst { begin(note, &steps) }
            isFirst = false
            var asked: [(lock: SplitLocks.Lock, bring: Int?, look: Int)] = []
            while let lock = rest.first, !steps.isFull {
                rest = rest.dropFirst()
                guard let statements = targets[lock.definition] else { continue }
                let bring = lock.creating.map { creating in
                    steps.add(
                        statements.bring(lock.key, creating.operation, creating.chunk.chunk.arena), &names,
                        change: FailedChange(
                            creating.operation, creating.transaction, creating.chunk, statements.target.table.name))
                }
                asked.append((lock, bring, steps.add(statements.lock(lock.key), &names)))
            }
            let results = try await run(steps)
            for (lock, bring, look) in asked {
                let isBrought = bring.map { results[$0].affectedRows == 1 } ?? false
                let isThere = results[look].rowCount == 1
                // What kept it from being brought has gone before it could be locked.
                if bring != nil, !isBrought, !isThere { throw SplitChanged.row }
                effects.note(lock.key, isPresent: isThere && !isBrought)
                if isBrought, let creating = lock.creating {
                    brought[lock.key] = SplitDecision.Brought(id: creating.operation.id, definition: lock.definition)
                }
            }
        }
        return SplitDecision(effects: effects, brought: brought)
    }

    private func begin(_ note: SplitNote, _ steps: inout SplitSteps) {
        steps.add(.query(sql: "BEGIN", parameters: [], parameterTypes: []))
        if !hasStatements { for step in Self.preparation { steps.add(step) } }
        steps.add(Self.message([note]))
    }

    // MARK: writing

    @discardableResult
    private func run(_ steps: SplitSteps) async throws -> [PostgresResult] {
        let results: [PostgresResult]
        do {
            results = try await connection.run(steps.steps)
        } catch let failure as PipelineError {
            guard case .server = failure.error, !failure.error.isTransient else { throw failure.error }
            throw ApplyError.refused(steps.change(at: failure.stepIndex), failure.error)
        }
        for expected in steps.expectations {
            guard let rows = expected.rows, results[expected.step].affectedRows != rows else { continue }
            throw SplitChanged.row
        }
        return results
    }

    private func commit(_ group: SplitGroup, _ progress: SplitProgress, _ effects: GroupEffects) async throws {
        var steps: [PipelineStep] = []
        if !effects.notes.isEmpty { steps.append(Self.message(effects.notes)) }
        // What waits for the commit is asked for now: an error there would come too late to find the change behind it.
        steps.append(.execute(name: "lindero_constraints", parameters: [], binaryResult: false))
        if let heartbeat = group.heartbeat {
            steps.append(
                TargetTransaction.seen(
                    direction: settings.name, heartbeat: heartbeat, endLSN: progress.appliedLSN, figures: state.figures))
        }
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
            if failure.stepIndex == progressStep, failure.error.sqlState?.rawValue == "22012" { throw ProgressError.noRow }
            guard case .server = failure.error, !failure.error.isTransient else { throw failure.error }
            throw ApplyError.refused(nil, failure.error)
        }
        hasStatements = true
    }

    /// After a failed pipeline nothing that it prepared is certain.
    private func forgetStatements() async throws {
        _ = try await connection.execute("DEALLOCATE ALL")
        names.forget()
        hasStatements = false
    }

    private static func message(_ notes: [SplitNote]) -> PipelineStep {
        .execute(name: "lindero_note", parameters: [.binary(SplitNote.encode(notes))], binaryResult: false)
    }

    private static let preparation: [PipelineStep] = [
        .prepare(
            name: "lindero_note",
            sql: "SELECT pg_catalog.pg_logical_emit_message(true, '\(SplitNote.messagePrefix)', $1)",
            parameterTypes: [OID.bytea]),
        .prepare(name: "lindero_progress", sql: SplitProgressStore.writeSQL, parameterTypes: SplitProgressStore.writeTypes),
        .prepare(name: "lindero_constraints", sql: "SET CONSTRAINTS ALL IMMEDIATE", parameterTypes: []),
    ]
}

/// The target was not as it was seen a moment ago.
enum SplitChanged: Error { case row }
