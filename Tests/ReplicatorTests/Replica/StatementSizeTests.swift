import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// What one statement's arrays may take.
@Suite struct StatementSizeTests {
    /// The first rows say little of the others, and a server takes no message of 1 GB.
    @Test func noStatementPassesItsBoundWhateverTheFirstRowsAre() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v text)")
        _ = try await pair.source.execute(
            "INSERT INTO t SELECT i, CASE WHEN i <= 16 THEN 'x' ELSE repeat('y', 10000) END FROM generate_series(1, 116) i")
        let result = try await pair.source.query(
            """
            SELECT data FROM pg_logical_slot_get_binary_changes('\(pair.slot)', NULL, NULL, 'proto_version', '2', 'publication_names', 'p', 'binary', 'true')
            """, binaryResult: true)
        var intake = LabIntake(limitBytes: 1 << 30, cutBytes: 1 << 30, earlyFrom: nil)
        for row in 0..<result.rowCount { _ = try intake.read(result.bytes(row: row, column: 0) ?? [], at: .zero) }
        let taken = intake.assembler.take()
        let chunk = try #require(taken)
        var plans = PlanCache(settings: pair.settings, isBinary: true, copiedUpTo: [:])
        #expect(try await plans.resolve(chunk.usedDefinitions, in: chunk.relations, on: pair.target) == nil)
        func statements(mostBytes: Int) -> Int {
            var limits = BulkLimits()
            (limits.copiedRows, limits.statementBytes, limits.mostBytes) = (.max, 1 << 30, mostBytes)
            var builder = StepBuilder(plans: plans, fuses: false, limits: limits)
            return builder.prepare([chunk], skipUpTo: .zero).work.reduce(0) { count, work in
                if case .statements(let batch) = work { count + batch.expectations.count } else { count }
            }
        }
        #expect(statements(mostBytes: 1 << 30) == 1)
        // 100 rows of 10 kB, nine of them in each.
        #expect(statements(mostBytes: 100_000) == 12)
    }
}
