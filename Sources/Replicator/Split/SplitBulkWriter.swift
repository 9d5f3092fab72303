import PostgresClient
import ReplicationCore

/// Runs statements for many rows in a transaction that is open, and looks whether they reached as many as they should.
struct SplitBulkWriter {
    let connection: PostgresConnection
    /// Whether a change is passed whose row is not there.
    let passesMissing: Bool

    /// - Parameter whenSent: called, if all goes well, when the target has all of it and is still at work.
    /// - Throws: `ApplyError.missingRow`, `ApplyError.refused`, `PostgresError`.
    func run(_ work: [GroupWork], whenSent: @escaping @Sendable () -> Void) async throws {
        let last = work.lastIndex { !$0.isCheck }
        if last == nil { whenSent() }
        for (position, part) in work.enumerated() {
            switch part {
            case .statements(let batch): try await run(batch, whenSent: position == last ? whenSent : nil)
            case .copy(let copy): try await run(copy, whenSent: position == last ? whenSent : nil)
            case .check(let batch): try await run(batch)
            }
        }
    }

    /// - Returns: how many changes were passed.
    @discardableResult
    func run(_ batch: StepBatch, whenSent: (@Sendable () -> Void)? = nil) async throws -> Int {
        let results: [PostgresResult]
        do {
            results = try await connection.run(batch.stepsWithoutProgress, whenSent: whenSent)
        } catch let failure as PipelineError {
            throw ApplyError.refusal(failure.error, of: batch.change(at: failure.stepIndex))
        }
        let missed = batch.expectations.filter { $0.rows != nil && results[$0.step].affectedRows != $0.rows }
        // Of a bulk statement nobody knows which.
        if let first = missed.first(where: { $0.change == nil || !passesMissing }) { throw ApplyError.missingRow(first.change) }
        return missed.count
    }

    private func run(_ copy: RowCopy, whenSent: (@Sendable () -> Void)?) async throws {
        do {
            let count = try await connection.copy(copy, whenSent: whenSent)
            if count != copy.encoder.rowCount { throw ApplyError.missingRow(nil) }
        } catch let error as PostgresError {
            throw ApplyError.refusal(error, of: nil)
        }
    }
}
