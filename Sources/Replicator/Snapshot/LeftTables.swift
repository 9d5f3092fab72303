import PostgresClient
import ReplicationCore

/// Tables that a direction copied and that have left its configuration. Their changes pass by, and progress goes on without
/// them: so it is noted where each left, before anything streams. One that comes back is whole only if nothing has streamed
/// since; else it would look whole and lack all that was written meanwhile.
struct LeftTables {
    let settings: DirectionSettings
    let target: PostgresConnection

    /// Refuses tables that are back and have missed something; alters nothing.
    func requireNone() async throws {
        // The text of the row: `check` may look at a target that an older Lindero filled.
        let rows = try await target.query(
            """
            SELECT t.schema_name, t.table_name, pg_catalog.to_jsonb(t) ->> 'left_at_lsn'
            FROM lindero.table_copy t JOIN lindero.direction d ON d.name = t.direction
            WHERE d.name = $1
              AND (pg_catalog.to_jsonb(t) ->> 'left_at_lsn')::pg_catalog.pg_lsn < greatest(d.applied_lsn, d.start_lsn)
            ORDER BY 1, 2
            """, [.text(settings.name)]
        ).rows
        let back = rows.map { (name: QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? ""), since: $0[2] ?? "") }
            .filter { settings.includes($0.name) }
        if !back.isEmpty { throw try await failure(back) }
    }

    /// Refuses what is back and has missed something, then notes what streams from now on and what no longer does.
    ///
    /// Only who holds the direction's origin may ask: nobody else streams while this is decided.
    func follow() async throws {
        try await requireNone()
        let rows = try await target.query(
            "SELECT schema_name, table_name, left_at_lsn::text FROM lindero.table_copy WHERE direction = $1", [.text(settings.name)]
        ).rows
        for row in rows {
            let name = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            guard settings.includes(name) != (row[2] == nil) else { continue }
            _ = try await target.query(
                """
                UPDATE lindero.table_copy t SET left_at_lsn = CASE WHEN t.left_at_lsn IS NULL
                  THEN (SELECT greatest(d.applied_lsn, d.start_lsn) FROM lindero.direction d WHERE d.name = t.direction) END
                WHERE direction = $1 AND schema_name = $2 AND table_name = $3
                """, [.text(settings.name), .text(name.schema), .text(name.name)])
        }
    }

    private func failure(_ back: [(name: QualifiedName, since: String)]) async throws -> ReplicationFailure {
        var emptying: [String] = []
        for (name, _) in back { emptying.append(try await emptyingSQL(name)) }
        let rows = back.map { "(\(SQLText.literal($0.name.schema)), \(SQLText.literal($0.name.name)))" }.joined(separator: ", ")
        let place = "WHERE direction = \(SQLText.literal(settings.name)) AND (schema_name, table_name) IN (\(rows));"
        return ReplicationFailure(
            .tableLeft,
            "\(settings.name) has streamed without " + back.map { "\($0.name) since \($0.since)" }.joined(separator: ", ")
                + ", which had left `tables:` and is back: what \(settings.sourceName) wrote there meanwhile is missing on "
                + "\(settings.targetName).",
            nextStep: "To copy anew: run on \(settings.targetName): \(emptying.joined(separator: " ")) DELETE FROM lindero.table_copy "
                + "\(place) Then `lindero run`. If the rows are the source's all the same, run there instead: UPDATE "
                + "lindero.table_copy SET left_at_lsn = NULL \(place) Or leave them out of `tables:`.", isBlocker: true)
    }

    /// PostgreSQL truncates no table that another one refers to.
    func emptyingSQL(_ table: QualifiedName) async throws -> String {
        let isReferred = try await target.query(
            """
            SELECT 1 FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid <> confrelid
              AND confrelid = pg_catalog.to_regclass($1)
            """, [.text(table.sql)]
        ).rowCount > 0
        guard isReferred else { return "TRUNCATE \(table.sql);" }
        return "SET session_replication_role = replica; DELETE FROM \(table.sql); RESET session_replication_role;"
    }
}
