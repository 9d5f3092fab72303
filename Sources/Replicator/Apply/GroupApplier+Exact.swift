import PostgresClient
import ReplicationCore

/// Exact order: one source transaction at a time, each change as the source made it.
extension GroupApplier {
    func applyExactly(_ chunks: [ChangeChunk]) async throws {
        for chunk in chunks { try await applyExactly(chunk, before: nil) }
    }

    /// Applies a chunk one source transaction at a time; with `misfit`, up to the first that uses that definition.
    func applyExactly(_ chunk: ChangeChunk, before misfit: Int?) async throws {
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
