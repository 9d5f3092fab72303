import PostgresClient
import ReplicationCore

/// Copies tables as one exported snapshot shows them; each part commits together with the record that it is done.
struct SnapshotCopier: Sendable {
    let settings: DirectionSettings
    /// Name of the exported snapshot; its exporter must stay connected until `run` returns.
    let snapshot: String
    let snapshotLSN: LSN
    /// The target's tables, by name.
    let targets: [QualifiedName: TableDescription]
    let rate: CopyRate
    let sessions = CopyYield.Sessions()

    func run(_ queue: CopyQueue) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<min(queue.count, max(1, settings.replication.copy.jobs)) {
                group.addTask { try await job(queue) }
            }
            try await group.waitForAll()
        }
    }

    /// A session of the source whose transaction shows the snapshot.
    func withSource(_ body: (PostgresConnection) async throws -> Void) async throws {
        try await PostgresConnection.with(settings.source) { source in
            _ = try await source.execute(
                """
                SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0;
                BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT \(SQLText.literal(snapshot))
                """)
            let process = try await source.query("SELECT pg_catalog.pg_backend_pid()::text").firstValue ?? ""
            sessions.add(process)
            defer { sessions.remove(process) }
            try await body(source)
            _ = try await source.execute("COMMIT")
        }
    }

    /// A session of the target that writes copied rows.
    func withTarget(_ body: (PostgresConnection) async throws -> Void) async throws {
        var options = settings.target
        options.settings += [(name: "session_replication_role", value: "replica")]
        try await PostgresConnection.with(options) { target in
            try await CopyGate(settings: settings).join(target)
            try await body(target)
        }
    }

    private func job(_ queue: CopyQueue) async throws {
        try await withSource { source in
            try await withTarget { target in
                while let item = queue.next() {
                    try Task.checkCancellation()
                    try await copy(item, queue, from: source, to: target)
                }
            }
        }
    }

    private func copy(
        _ item: CopyQueue.Item, _ queue: CopyQueue, from source: PostgresConnection, to target: PostgresConnection
    ) async throws {
        let part = item.part
        guard let destination = targets[part.table.name] else {
            throw SchemaMismatch(table: part.table.name, problems: [.missingTable])
        }
        let columns = CopyColumns(part.table, to: destination, settings: settings)
        let ledger = ChunkLedger(connection: target, direction: settings.name)
        let staying = settings.stayingColumns(of: part.table.name)
        do {
            _ = try await target.execute("BEGIN")
            try await source.beginCopyOut(columns.source(of: part))
            try await target.beginCopyIn(columns.target(of: part.table.name))
            let bytes = try await pump(from: source, to: target) { queue.add(bytes: $0, of: item) }
            let rows = try await target.endCopyIn()
            if part.stretch == nil { try await requireUnmoved(part.table, source) }
            try await ledger.note(part, staying: staying, snapshotLSN: snapshotLSN, rows: rows, bytes: bytes)
            _ = try await target.execute("COMMIT")
            guard queue.finish(item, rows: rows) else { return }
            if part.stretch != nil { try await ledger.finish(part.table, staying: staying) }
            queue.finishTable()
        } catch {
            // The connections end with the job; the server rolls back what is open.
            await target.close()
            throw error
        }
    }

    /// A table that was rewritten since the snapshot looks empty to it, and no change in the stream tells that. The copy has
    /// locked it, so what is seen now was so before the first row was read.
    private func requireUnmoved(_ table: TableDescription, _ source: PostgresConnection) async throws {
        let moved = try await source.query(
            """
            WITH RECURSIVE tree AS (
              SELECT $1::pg_catalog.oid AS oid
              UNION ALL SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_class p ON p.oid = tree.oid AND p.relkind = 'p'
                JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid)
            SELECT 1 FROM tree JOIN pg_catalog.pg_class c USING (oid)
            WHERE c.relkind = 'r' AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode
            """, [.text("\(table.oid)")])
        if moved.rowCount > 0 { throw CopyPlanner.rewritten(table.name) }
    }

    /// Reads the next piece while the last is written.
    private func pump(
        from source: PostgresConnection, to target: PostgresConnection, report: (Int) -> Void
    ) async throws -> Int {
        var total = 0
        let pieceBytes = rate.pieceBytes
        var next = try await source.readCopy(minimumBytes: pieceBytes)
        while let piece = next {
            try await rate.pay(piece.count)
            async let following = source.readCopy(minimumBytes: pieceBytes)
            try await target.writeCopy(piece)
            total += piece.count
            report(piece.count)
            next = try await following
        }
        return total
    }
}
