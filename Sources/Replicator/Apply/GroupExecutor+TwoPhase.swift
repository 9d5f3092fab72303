import PostgresClient
import ReplicationCore

/// Steps of transactions that are prepared at the source. Each is done by the server at once and for good; the progress
/// follows in a transaction of its own, for its row may not stay locked by what is prepared. Killed in between, the step
/// comes again: a Prepare is known by its name, an end by the origin, which the server moves together with it.
extension GroupExecutor {
    /// Does what a chunk is for, unless it brings changes that are not on the target yet.
    ///
    /// - Returns: false when its changes are to be applied.
    mutating func finish(_ chunk: ChangeChunk) async throws -> Bool {
        guard let span = chunk.twoPhase else { return false }
        switch span.twoPhase {
        case nil: return false
        case .prepare(let endLSN):
            let isDone = prepared.contains(xid: span.xid, prepareLSN: endLSN)
                || prepared.rolledBack.contains(PreparedTransactions.Prepare(xid: span.xid, lsn: span.commitLSN))
            guard isDone else { return false }
            if !chunk.isOpenEnded { try await record(chunk, span) }
        case .commit, .rollback:
            try await end(span)
            try await record(chunk, span)
        }
        return true
    }

    /// Prepares what the transaction holds, and the rest of it.
    mutating func prepare(_ chunk: ChangeChunk, _ span: TransactionSpan, with batch: StepBatch) async throws {
        let name = prepared.newName(xid: span.xid, prepareLSN: span.endLSN)
        do {
            try await transaction.prepare(as: name, endLSN: span.endLSN, time: span.commitTime, after: batch.stepsWithoutProgress)
        } catch let failure as PipelineError {
            throw ApplyError.refusal(failure.error, of: batch.change(at: failure.stepIndex))
        }
        prepared.note(name, of: span.xid)
        try await record(chunk, span)
    }

    private mutating func end(_ span: TransactionSpan) async throws {
        guard let name = prepared.name(of: span.xid) else {
            // A rollback also comes of what was never sent.
            if span.twoPhase == .rollback { return }
            let progress = try await ProgressOrigin.sessionProgress(connection)
            guard progress >= span.endLSN else { throw ApplyError.preparedGone(xid: span.xid, commitLSN: span.commitLSN) }
            return
        }
        do {
            try await TargetTransaction.end(
                name, commits: span.twoPhase == .commit, endLSN: span.endLSN, time: span.commitTime, on: connection)
        } catch {
            guard error.isUndefinedObject else { throw error }
            throw ApplyError.preparedGone(xid: span.xid, commitLSN: span.commitLSN)
        }
        prepared.forget(span.xid)
    }

    private mutating func record(_ chunk: ChangeChunk, _ span: TransactionSpan) async throws {
        try await commit(
            endLSN: span.endLSN, commitTime: span.commitTime, heartbeat: chunk.heartbeat, isAlwaysRecorded: true)
    }
}
