import PostgresClient
import ReplicationCore

/// Copies tables as one exported snapshot shows them; each table commits together with the record that it is done.
struct SnapshotCopier: Sendable {
    let settings: DirectionSettings
    /// Name of the exported snapshot; its exporter must stay connected until `run` returns.
    let snapshot: String
    let snapshotLSN: LSN
    let queue: CopyQueue
    /// The target's tables, by name.
    let targets: [QualifiedName: TableDescription]

    func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<max(1, settings.replication.copyJobs) { group.addTask { try await job() } }
            try await group.waitForAll()
        }
    }

    private func job() async throws {
        var targetOptions = settings.target
        targetOptions.settings += [(name: "session_replication_role", value: "replica")]
        let options = targetOptions
        try await PostgresConnection.with(settings.source) { source in
            _ = try await source.execute(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT \(SQLText.literal(snapshot))")
            try await PostgresConnection.with(options) { target in
                while let table = queue.next() {
                    try Task.checkCancellation()
                    try await copy(table, from: source, to: target)
                }
            }
            _ = try await source.execute("COMMIT")
        }
    }

    private func copy(_ table: TableDescription, from source: PostgresConnection, to target: PostgresConnection) async throws {
        guard let destination = targets[table.name] else {
            throw SchemaMismatch(table: table.name, problems: [.missingTable])
        }
        let columns = table.columns.filter { column in
            !column.isGenerated && settings.travels(table.name, column.name)
                && destination.column(column.name)?.isGenerated == false
        }
        let isBinary = columns.allSatisfy { column in
            destination.column(column.name).map { TypeCompatibility.isBinarySafe(source: column, target: $0) } ?? false
        }
        let list = SQLText.list(columns.map(\.name))
        let format = isBinary ? " (FORMAT binary)" : ""
        // A partitioned root holds no rows itself; a query through it reads its partitions.
        let rows = columns.isEmpty || table.kind == .partitioned ? "(SELECT \(list) FROM \(table.name.sql))" : "\(table.name.sql) (\(list))"
        _ = try await target.execute("BEGIN")
        do {
            try await source.beginCopyOut("COPY \(rows) TO STDOUT\(format)")
            try await target.beginCopyIn("COPY \(table.name.sql)\(columns.isEmpty ? "" : " (\(list))") FROM STDIN\(format)")
            let bytes = try await pump(from: source, to: target)
            let count = try await target.endCopyIn()
            try await record(table.name, rows: count, bytes: bytes, on: target)
            _ = try await target.execute("COMMIT")
            queue.finishTable(rows: count)
        } catch {
            // The connections end with the job; the server rolls back what is open.
            await target.close()
            throw error
        }
    }

    /// Reads the next chunk while the last is written.
    private func pump(from source: PostgresConnection, to target: PostgresConnection) async throws -> Int {
        var total = 0
        var next = try await source.readCopy(minimumBytes: 512 << 10)
        while let chunk = next {
            async let following = source.readCopy(minimumBytes: 512 << 10)
            try await target.writeCopy(chunk)
            total += chunk.count
            queue.add(bytes: chunk.count)
            next = try await following
        }
        return total
    }

    private func record(_ table: QualifiedName, rows: Int, bytes: Int, on target: PostgresConnection) async throws {
        _ = try await target.query(
            """
            INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes)
            VALUES ($1, $2, $3, $4::pg_catalog.pg_lsn, $5::bigint, $6::bigint)
            """,
            [
                .text(settings.name), .text(table.schema), .text(table.name), .text(snapshotLSN.description),
                .text("\(rows)"), .text("\(bytes)"),
            ])
    }
}
