import Logging
import PostgresClient
import ReplicationCore

/// Brings parts that an earlier snapshot shows to a later one, so that the rest can be copied with the later one.
///
/// A row whose key no change names has neither moved nor changed, so it is in a finished part on both snapshots or on
/// neither. A row whose key some change names is taken out of the target, and comes again as the later snapshot shows
/// it: here when it stands in a finished part's blocks, else with the part that is still to come.
struct CopyRepair {
    let settings: DirectionSettings
    /// In a transaction that shows the later snapshot.
    let source: PostgresConnection
    /// Outside of it.
    let marker: PostgresConnection
    /// For the copied rows; neither foreign keys nor ordinary triggers fire in it.
    let target: PostgresConnection
    let targets: [QualifiedName: TableDescription]
    let snapshotLSN: LSN
    /// What is read here burdens the source as the copy does.
    let rate: CopyRate
    let logger: Logger

    /// - Parameters:
    ///   - kept: finished parts by table; those that cannot be kept are taken out, and their rows from the target.
    ///   - start: where the direction's slot begins.
    func run(
        _ kept: inout [QualifiedName: ChunkLedger.Kept], tables: [TableDescription],
        layouts: [QualifiedName: CopyPlanner.Layout], from start: LSN
    ) async throws {
        var questions: [QualifiedName: SlotChanges.Question] = [:]
        for (name, parts) in kept {
            guard let table = tables.first(where: { $0.name == name }) else { continue }
            guard let layout = layouts[name], layout.shape == parts.shape else {
                try await discard(name, &kept, because: "the table was rewritten or altered")
                continue
            }
            questions[name] = SlotChanges.Question(since: parts.snapshotLSN, key: key(of: table))
        }
        guard !questions.isEmpty else { return }
        let answers = try await SlotChanges.read(
            questions, until: snapshotLSN, from: start, settings: settings, marker: marker, rate: rate)
        for name in questions.keys.sorted() {
            guard let table = tables.first(where: { $0.name == name }), let parts = kept[name], let layout = layouts[name]
            else { continue }
            switch answers[name] ?? .keys([]) {
            case .beyondRepair: try await discard(name, &kept, because: "too much of it changed meanwhile")
            case .keys(let keys):
                try await inTransaction {
                    let ledger = ChunkLedger(connection: target, direction: settings.name)
                    let added = keys.isEmpty ? 0 : try await replace(keys, of: table, parts, layout)
                    try await ledger.advance(name, to: snapshotLSN, addedRows: added)
                }
                kept[name]?.snapshotLSN = snapshotLSN
                logger.info(
                    "keeping copied parts",
                    metadata: [
                        "table": "\(name)", "parts": "\(parts.ranges.values.reduce(0) { $0 + $1.count })",
                        "changedRows": "\(keys.count)",
                    ])
            }
        }
    }

    /// Empty when rows cannot be told apart by the same values on both sides.
    private func key(of table: TableDescription) -> [String] {
        let fits = table.identityColumns.allSatisfy { name in
            guard let column = table.column(name), let other = targets[table.name]?.column(name) else { return false }
            return settings.travels(table.name, name) && TypeCompatibility.isBinarySafe(source: column, target: other)
        }
        return fits ? table.identityColumns : []
    }

    private func discard(
        _ name: QualifiedName, _ kept: inout [QualifiedName: ChunkLedger.Kept], because reason: String
    ) async throws {
        logger.notice(
            "copying a table from its beginning again", metadata: ["table": "\(name)", "reason": "\(reason)"])
        try await inTransaction {
            // The rows are those that Lindero copied: the table was empty before.
            let rows = targets[name]?.only ?? name.sql
            _ = try await target.execute(
                """
                DO $lindero$ BEGIN TRUNCATE \(rows);
                EXCEPTION WHEN insufficient_privilege OR feature_not_supported THEN DELETE FROM \(rows); END $lindero$
                """)
            try await ChunkLedger(connection: target, direction: settings.name).forget(name)
        }
        kept[name] = nil
    }

    /// Takes the rows of these keys out, and puts those in that stand in finished parts now.
    ///
    /// - Returns: by how many rows the table grew.
    private func replace(
        _ keys: Set<VerifyKey>, of table: TableDescription, _ parts: ChunkLedger.Kept, _ layout: CopyPlanner.Layout
    ) async throws -> Int {
        guard let destination = targets[table.name] else { return 0 }
        let names = table.identityColumns
        let arrays = names.indices.map { index in SQLText.arrayLiteral(keys.map { $0.values[index] }) }
        let columns = CopyColumns(table, to: destination, settings: settings)
        let removed = try await target.query(
            "DELETE FROM \(destination.only) WHERE "
                + Self.condition(names, destination) { "$\($0 + 1)::text" }, arrays.map { .text($0) }
        ).affectedRows
        // COPY takes no parameters, and values do not belong into the text of a statement, which a server may log.
        for (index, array) in arrays.enumerated() {
            _ = try await source.query(
                "SELECT pg_catalog.set_config($1, $2, true) IS NULL", [.text("lindero.key\(index)"), .text(array)])
        }
        var added = 0
        for heap in layout.heaps {
            guard let ranges = parts.ranges[heap.oid] else { continue }
            let places = ranges.map(CopyColumns.condition).joined(separator: " OR ")
            let condition = Self.condition(names, table) { "pg_catalog.current_setting('lindero.key\($0)')" }
            try await source.beginCopyOut(
                "COPY (SELECT \(columns.list) FROM ONLY \(heap.name.sql) WHERE \(condition) AND (\(places))) TO STDOUT\(columns.format)")
            try await target.beginCopyIn(columns.target(of: table.name))
            while let rows = try await source.readCopy(minimumBytes: rate.pieceBytes) {
                try await rate.pay(rows.count)
                try await target.writeCopy(rows)
            }
            added += try await target.endCopyIn()
        }
        for index in names.indices {
            _ = try await source.query("SELECT pg_catalog.set_config($1, '', true)", [.text("lindero.key\(index)")])
        }
        return added - removed
    }

    private static func condition(
        _ names: [String], _ table: TableDescription, _ array: (Int) -> String
    ) -> String {
        let lists = names.enumerated().map { index, name in
            "pg_catalog.unnest(\(array(index))::\(table.column(name)?.type ?? "text")[])"
        }
        let columns = names.indices.map { "key\($0)" }.joined(separator: ", ")
        return "(\(SQLText.list(names))) IN (SELECT \(columns) FROM ROWS FROM (\(lists.joined(separator: ", "))) AS keys(\(columns)))"
    }

    private func inTransaction(_ body: () async throws -> Void) async throws {
        _ = try await target.execute("BEGIN")
        do {
            try await body()
            _ = try await target.execute("COMMIT")
        } catch {
            // The connection may stand in the middle of a COPY; the server rolls back what is open.
            await target.close()
            throw error
        }
    }
}
