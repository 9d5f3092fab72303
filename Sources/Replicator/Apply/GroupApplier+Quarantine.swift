import PostgresClient
import ReplicationCore

/// A source transaction of which the target has refused a change before: whatever else of it is refused is set aside in the
/// same pass, and all of it commits together.
///
/// Its changes go in runs, each behind a savepoint. A change that is refused takes its run back; what came before it goes
/// again, with the change in the quarantine, and the next runs begin small and double. So no more is done twice than has
/// gone well since the last refusal, and a pass is linear in the transaction's changes.
extension GroupApplier {
    private static let savepoint = "lindero_run"
    private static let keptSavepoint = "lindero_kept"
    private static let longestRun = 1_024

    func applySettingAside(_ span: TransactionSpan, of chunk: ChangeChunk) async throws {
        var (next, length) = (span.changes.lowerBound, 1)
        var refused: [Int: QuarantineOrders.Reason] = [:]
        /// What came before a refusal, and the refused one: it must not become longer, or it would not be known to succeed.
        var again: Int?
        var hasSavepoint = false
        while next < span.changes.upperBound {
            let counted = (builder.counters, executor.counters)
            do {
                let end = min(next + (span.commitLSN == late.commitLSN ? 1 : again ?? length), span.changes.upperBound)
                next = try await applyRun(next..<end, span, chunk, &refused, releasing: hasSavepoint)
                hasSavepoint = true
                length = again == nil ? min(2 * length, Self.longestRun) : 1
                again = nil
            } catch {
                guard let (change, reason) = QuarantineOrders.order(for: error, settings), let index = span.index(of: change),
                    // One of an earlier run is what the transaction's end is refused for: only another pass can leave it out.
                    index >= next, refused.updateValue(reason, forKey: index) == nil
                else { throw error }
                quarantine.tell(change, reason)
                _ = try await executor.connection.execute("ROLLBACK TO SAVEPOINT \(Self.savepoint)")
                hasSavepoint = true
                // What it would have prepared behind the refused one was not sent.
                try await forgetStatements()
                (builder.counters, executor.counters) = counted
                again = index - next + 1
            }
        }
        if hasSavepoint { _ = try await executor.connection.execute("RELEASE SAVEPOINT \(Self.savepoint)") }
    }

    /// - Parameter releasing: whether the run before has left its savepoint.
    /// - Returns: where the next run begins: a batch may be full before, and what is set aside is the last of its run, behind a
    ///   savepoint of its own. So it has a transaction number between those of the rows before and behind it, by which
    ///   `QuarantineAge` tells them apart: numbers of commands it cannot compare where an update of a row was taken back.
    private func applyRun(
        _ run: Range<Int>, _ span: TransactionSpan, _ chunk: ChangeChunk, _ refused: inout [Int: QuarantineOrders.Reason],
        releasing: Bool
    ) async throws -> Int {
        var batch = StepBatch()
        if releasing { batch.add("RELEASE SAVEPOINT \(Self.savepoint)") }
        batch.add("SAVEPOINT \(Self.savepoint)")
        var next = run.lowerBound
        while next < run.upperBound, !batch.isFull {
            let reason = try quarantine[span, next] ?? refused[next] ?? incompleteness(of: next, span, chunk, &refused)
            next += 1
            guard let reason else {
                builder.add(next - 1, in: span, chunk: chunk, to: &batch)
                continue
            }
            batch.add("SAVEPOINT \(Self.keptSavepoint)")
            builder.setAside(next - 1, in: span, chunk: chunk, direction: settings.name, because: reason, to: &batch)
            batch.add("RELEASE SAVEPOINT \(Self.keptSavepoint)")
            break
        }
        let change = batch.expectations.last?.change
        try await executor.run(batch)
        if span.commitLSN == late.commitLSN { try await askLate(after: next - 1, change, span) }
        return next
    }

    /// Why a change cannot even be tried.
    private func incompleteness(
        of index: Int, _ span: TransactionSpan, _ chunk: ChangeChunk, _ refused: inout [Int: QuarantineOrders.Reason]
    ) throws -> QuarantineOrders.Reason? {
        do {
            try builder.requireWhole(index, in: span, chunk: chunk)
            return nil
        } catch {
            guard let (change, reason) = QuarantineOrders.order(for: error, settings) else { throw error }
            quarantine.tell(change, reason)
            refused[index] = reason
            return reason
        }
    }
}

extension TransactionSpan {
    /// Where a change of it stands in its chunk; `nil` for one of another piece.
    fileprivate func index(of change: FailedChange) -> Int? {
        let index = changes.lowerBound + change.position - precedingCount
        return change.commitLSN == commitLSN && changes.contains(index) ? index : nil
    }
}
