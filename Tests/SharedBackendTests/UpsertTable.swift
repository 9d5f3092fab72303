import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

@testable import SharedBackend

/// A fresh database with one table `t`, of which side `a` owns every column, and upserts into it.
struct UpsertTable {
    let url: String
    let connection: PostgresConnection
    let table: TableDescription
    let ownership: TableOwnership
    /// In whose name the upsert connects; the superuser unless a test says otherwise.
    var role = "postgres"

    init(_ schema: String, match: [String] = ["id"], mayInsert: Bool = true) async throws {
        url = try await PostgresCluster.shared("source").createDatabase(prefix: "ut")
        var plain = ConnectionOptions(url)
        plain.usesPinnedSettings = false
        connection = try await PostgresConnection.connect(plain)
        _ = try await connection.execute(schema)
        // Read as the program does, with an empty search_path, so that types come qualified.
        let reader = try await PostgresConnection.connect(ConnectionOptions(url))
        let found = try await CatalogReader.tables(reader, matching: [QualifiedName(schema: "public", name: "t")])
        await reader.close()
        table = try #require(found.first)
        var columns: [String: TableOwnership.ColumnOwner] = [:]
        for column in table.columns where !column.isGenerated { columns[column.name] = .owned(by: "a") }
        ownership = TableOwnership(
            table: table.name, match: match, insertOwners: mayInsert ? ["a"] : [], deleteOwners: [], privateColumns: [],
            columns: columns)
    }

    struct Outcome {
        var summary = UpsertSummary()
        var refusals: [String] = []
        var failure: (any Error)?

        /// inserted, updated, unchanged, refused.
        var counts: [Int] { [summary.inserted, summary.updated, summary.unchanged, summary.refused] }
    }

    func upsert(
        _ bytes: [UInt8], format: UpsertFormat = .ndjson, chunk: Int = 1 << 16, options: UpsertOptions = UpsertOptions()
    ) async throws -> Outcome {
        let source = UpsertTests.ByteSource(bytes, chunk: chunk)
        let refusals = UpsertTests.Collected()
        let connection = ConnectionOptions(url.replacing("//postgres@", with: "//\(role)@"))
        let upsert = try ColumnUpsert(
            connection: connection, table: table, ownership: ownership, side: "a", options: options)
        let summary = try await upsert.run(
            format: format, read: { await source.next() }, onRefusal: { await refusals.add($0.description) })
        return Outcome(summary: summary, refusals: await refusals.lines)
    }

    func upsert(
        _ text: String, format: UpsertFormat = .ndjson, chunk: Int = 1 << 16, options: UpsertOptions = UpsertOptions()
    ) async throws -> Outcome {
        try await upsert(Array(text.utf8), format: format, chunk: chunk, options: options)
    }

    func rows(_ sql: String) async throws -> [[String?]] {
        let result = try await connection.execute(sql)
        return (0..<result.rowCount).map { row in result.columns.indices.map { result[row: row, column: $0] } }
    }
}

extension UpsertTable {
    /// A session that holds the locks of a statement in an open transaction.
    func lock(_ statements: String...) async throws -> PostgresConnection {
        let session = try await PostgresConnection.connect(ConnectionOptions(url))
        _ = try await session.execute((["SET search_path = public", "BEGIN"] + statements).joined(separator: "; "))
        return session
    }

    /// Sessions of this database that wait for a lock.
    func blocked() async throws -> [[String?]] {
        try await rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'")
    }

    func waitUntilBlocked() async throws {
        try await waitUntil("the upsert waits for a lock") { try await !blocked().isEmpty }
    }
}
