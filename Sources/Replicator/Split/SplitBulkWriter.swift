import PostgresClient
import ReplicationCore

/// Runs statements for many rows in a transaction that is open, and looks whether they reached as many as they should.
struct SplitBulkWriter {
    let connection: PostgresConnection

    /// - Throws: `ApplyError.missingRow`, `ApplyError.refused`, `PostgresError`.
    func run(_ work: [GroupWork]) async throws {
        for part in work {
            switch part {
            case .statements(let batch): try await run(batch)
            case .copy(let copy): try await run(copy)
            }
        }
    }

    func run(_ batch: StepBatch) async throws {
        let results: [PostgresResult]
        do {
            results = try await connection.run(batch.steps)
        } catch let failure as PipelineError {
            throw ApplyError.refusal(failure.error, of: batch.change(at: failure.stepIndex))
        }
        let missed = batch.expectations.first { $0.rows != nil && results[$0.step].affectedRows != $0.rows }
        if let missed { throw ApplyError.missingRow(missed.change) }
    }

    func run(_ copy: RowCopy) async throws {
        var encoder = copy.encoder
        do {
            let count = try await connection.copyIn(copy.sql) { encoder.write(to: &$0, pieceBytes: $1) }
            if count != copy.encoder.rowCount { throw ApplyError.missingRow(nil) }
        } catch let error as PostgresError {
            throw ApplyError.refusal(error, of: nil)
        }
    }
}
