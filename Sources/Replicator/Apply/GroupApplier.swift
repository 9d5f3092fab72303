import PostgresClient
import ReplicationCore

/// Applies chunks to the target: data and progress in one transaction, whole source transactions in commit order.
///
/// First in bulk; should that meet an error, the same changes again one by one, one source transaction at a time, so
/// that everything before the bad one is committed and the bad one is known. Used by one task; after an error it is spent.
final class GroupApplier {
    /// How long a position without data may stay unrecorded. Heartbeats normally record it sooner.
    static let idleRecordMilliseconds: Int64 = 10_000

    private let connection: PostgresConnection
    private let settings: DirectionSettings
    private let state: DirectionState
    private var builder: StepBuilder
    private var transaction: TargetTransaction
    /// Source transactions that committed up to here are applied in exact order.
    private let exactUpTo: LSN
    private var recordedAtMilliseconds = Monotonic.milliseconds()
    /// The last source commit whose effect is durable on the target.
    private(set) var durableLSN: LSN

    init(
        connection: PostgresConnection, settings: DirectionSettings, state: DirectionState, plans: PlanCache,
        startLSN: LSN, exactUpTo: LSN
    ) {
        self.state = state
        self.connection = connection
        self.settings = settings
        self.exactUpTo = exactUpTo
        builder = StepBuilder(plans: plans)
        durableLSN = startLSN
        transaction = TargetTransaction(connection: connection, direction: settings.name)
    }

    /// What was done since this was last asked.
    func takeCounters() -> ApplyCounters {
        defer { builder.counters = ApplyCounters() }
        return builder.counters
    }

    /// Applies the chunks as one target transaction (or, when a chunk is open-ended, as a part of one).
    ///
    /// - Throws: `ApplyError` for what the data caused, `PostgresError` for what the connection did. The target's
    ///   transaction is rolled back then.
    func apply(_ chunks: [ChangeChunk]) async throws {
        do {
            for (position, chunk) in chunks.enumerated() {
                let used = chunk.usedDefinitions
                if let misfit = try await builder.plans.resolve(used, in: chunk.relations, on: connection) {
                    if position > 0 { try await applyFitting(Array(chunks[..<position])) }
                    try await applyExactly(chunk, before: misfit.definition)
                    throw ApplyError.schemaDiffers(misfit.mismatch)
                }
            }
            try await applyFitting(chunks)
        } catch {
            await transaction.rollBack()
            throw error
        }
    }

    private func applyFitting(_ chunks: [ChangeChunk]) async throws {
        let firstCommit = chunks.lazy.compactMap { $0.transactions.first?.commitLSN }.first ?? .zero
        if firstCommit > exactUpTo || firstCommit == .zero {
            let hadPiece = transaction.isOpen
            do {
                return try await applyInBulk(chunks)
            } catch let failure as BulkFailure {
                // What was applied of a large transaction is gone from memory: only the stream can bring it again.
                guard !hadPiece else { throw ApplyError.bulkFailed(upTo: firstCommit) }
                await transaction.rollBack()
                try await builder.statements.forget(on: connection)
                builder.counters.fallbacks += 1
                _ = failure
            }
        }
        for chunk in chunks { try await applyExactly(chunk, before: nil) }
    }

    // MARK: bulk

    private struct BulkFailure: Error {}

    private func applyInBulk(_ chunks: [ChangeChunk]) async throws {
        let counters = builder.counters
        let plan = GroupPlanner.plan(chunks, skipUpTo: durableLSN) { [builder] in builder.plan($0) }
        var batch = StepBatch()
        do {
            for step in plan.steps {
                switch step {
                case .bulk(let statement):
                    builder.add(statement, of: plan, chunks: chunks, to: &batch)
                case .row(let chunk, let change, let span):
                    builder.add(
                        chunks[chunk].changes[change], in: chunks[chunk].transactions[span], chunk: chunks[chunk],
                        to: &batch)
                }
                if batch.isFull { try await flush(&batch) }
            }
            try await flush(&batch)
        } catch is ApplyError {
            builder.counters = counters
            throw BulkFailure()
        }
        builder.counters = counters
        builder.counters.changes += plan.changeCount
        builder.counters.ignored += plan.ignoredCount
        builder.counters.withheld += plan.withheldCount
        builder.counters.transactions += chunks.reduce(0) { $0 + $1.transactions.count(where: \.isCommitted) }
        if let last = chunks.last, !last.isOpenEnded { try await commit(chunks) }
    }

    private func commit(_ chunks: [ChangeChunk]) async throws {
        let endLSN = chunks.reduce(durableLSN) { max($0, $1.endLSN) }
        let commitTime = chunks.last { !$0.transactions.isEmpty }?.transactions.last?.commitTime
        let heartbeat = chunks.reversed().lazy.compactMap(\.heartbeat).first
        try await commit(endLSN: endLSN, commitTime: commitTime, heartbeat: heartbeat)
    }

    private func commit(endLSN: LSN, commitTime: PostgresTime?, heartbeat: Heartbeat?) async throws {
        guard endLSN > durableLSN else { return }
        let now = Monotonic.milliseconds()
        // Nothing to write: the position alone is worth a transaction now and then, not each time.
        let isIdle = !transaction.isOpen && heartbeat == nil
        guard !isIdle || now - recordedAtMilliseconds >= Self.idleRecordMilliseconds else { return }
        try await transaction.commit(
            endLSN: endLSN, commitTime: commitTime, heartbeat: heartbeat, figures: state.figures)
        recordedAtMilliseconds = now
        durableLSN = endLSN
    }

    // MARK: exact order

    /// Applies a chunk one source transaction at a time; with `misfit`, up to the first that uses that definition.
    private func applyExactly(_ chunk: ChangeChunk, before misfit: Int?) async throws {
        for span in chunk.transactions {
            // Sent again after a reconnect that came too early to know better.
            if span.isCommitted && span.endLSN <= durableLSN { continue }
            if let misfit, chunk.changes[span.changes].contains(where: { chunk.definitions(of: $0).contains(misfit) }) {
                return
            }
            var batch = StepBatch()
            for index in span.changes {
                builder.add(chunk.changes[index], in: span, chunk: chunk, to: &batch)
                if batch.isFull { try await flush(&batch) }
            }
            try await flush(&batch)
            guard span.isCommitted else { return }
            let isLast = span == chunk.transactions.last
            try await commit(
                endLSN: span.endLSN, commitTime: span.commitTime, heartbeat: isLast ? chunk.heartbeat : nil)
            builder.counters.transactions += 1
        }
        if misfit == nil, !chunk.isOpenEnded { try await commit([chunk]) }
    }

    private func flush(_ batch: inout StepBatch) async throws {
        guard !batch.isEmpty else { return }
        let full = batch
        batch = StepBatch()
        let results: [PostgresResult]
        do {
            results = try await transaction.run(full.steps)
        } catch let failure as PipelineError {
            guard case .server = failure.error, !failure.error.isTransient else { throw failure.error }
            throw ApplyError.refused(full.change(at: failure.stepIndex), failure.error)
        }
        for expected in full.expectations {
            guard let rows = expected.rows, results[expected.step].affectedRows != rows else { continue }
            guard let change = expected.change else { throw ApplyError.missingRow(nil) }
            builder.counters.missingRows += 1
            if settings.replication.missingRow == .stop { throw ApplyError.missingRow(change) }
        }
    }
}

extension ChangeChunk {
    /// The table definitions that a change refers to.
    func definitions(of change: Change) -> [Int] {
        change.kind == .truncate ? truncations[change.relation].relations : [change.relation]
    }

    /// Every definition that this chunk's changes use, in the order of first use.
    var usedDefinitions: [Int] {
        var seen: [Int] = []
        var last = -1
        for change in changes {
            if change.kind != .truncate, change.relation == last { continue }
            for definition in definitions(of: change) where !seen.contains(definition) { seen.append(definition) }
            last = change.kind == .truncate ? -1 : change.relation
        }
        return seen
    }
}
