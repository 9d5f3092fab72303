import PostgresClient
import ReplicationCore
import Testing
import TestSupport

@testable import Replicator

extension ReplicaPair {
    /// Compares both databases as `lindero verify` does.
    func verify(
        _ tables: [String] = [], chunkRows: Int = 100, jobs: Int = 1, rateLimitBytes: Int = 0, restart: Bool = false,
        onEvent: @Sendable (Verification.Event) -> Void = { _ in }
    ) async throws -> VerifyReport {
        var verify = VerifySettings()
        verify.chunkRows = chunkRows
        verify.jobs = jobs
        verify.rateLimitBytes = rateLimitBytes
        return try await Verification(settings: settings, verify: verify, longestSeconds: 3_600).run(
            tables.map { QualifiedName(schema: "public", name: $0) }, restart: restart, onEvent: onEvent)
    }

    /// Runs SQL on the target as the applier would: no trigger and no foreign key fires.
    func plant(_ sql: String) async throws {
        _ = try await target.execute("SET session_replication_role = replica; \(sql); RESET session_replication_role")
    }
}

extension VerifyReport {
    /// Each difference as `table key: kind columns`.
    var words: [String] {
        tables.flatMap { table in
            table.differences.map { difference in
                "\(table.table) \(difference.key.values.joined(separator: "|")): \(difference.kind.rawValue)"
                    + difference.columns.map { " " + $0 }.joined()
            }
        }.sorted()
    }
}
