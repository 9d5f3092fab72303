import PostgresClient
import ReplicationCore

/// Columns that a direction did not carry, and that begin to travel: their older values never came, and the stream brings only
/// what is written from now on. So it is noted which columns stay behind and since when, by the copy and before each stream.
struct LeftColumns {
    let settings: DirectionSettings
    let target: PostgresConnection

    /// A column that stays behind, or did.
    private struct Column {
        var table: QualifiedName
        var name: String
        /// Whether the direction has streamed without it.
        var isBehind: Bool
    }

    /// Refuses columns that travel now and have missed something; alters nothing.
    func requireNone() async throws {
        // Both sides of a split write, and what a side owns comes from there.
        guard settings.backend == .replica else { return }
        let back = try await read().filter { $0.isBehind && settings.travels($0.table, $0.name) && settings.includes($0.table) }
        if !back.isEmpty { throw failure(back) }
    }

    /// Refuses what is back and has missed something, then notes what stays behind from now on and what no longer does.
    ///
    /// Only who holds the direction's origin may ask: nobody else streams while this is decided.
    func follow() async throws {
        guard settings.backend == .replica, let policy = settings.policy else { return }
        try await requireNone()
        let tables = policy.tables.keys.sorted()
        var staying = tables.flatMap { table in settings.stayingColumns(of: table).map { (table: table, name: $0) } }
        // One that is gone from the source and from the rules may still come in the stream.
        staying += try await read().filter { policy.tables[$0.table].map { [name = $0.name] in $0.columns[name] == nil } ?? false }
            .map { ($0.table, $0.name) }
        _ = try await target.query(
            """
            UPDATE lindero.table_copy t SET left_columns = fresh.columns
            FROM (SELECT c.schema_name, c.table_name, coalesce(pg_catalog.jsonb_object_agg(s.name, coalesce(c.left_columns ->> s.name,
                    (SELECT greatest(applied_lsn, start_lsn)::text FROM lindero.direction WHERE name = $1)))
                    FILTER (WHERE s.name IS NOT NULL), '{}') AS columns
                  FROM lindero.table_copy c
                  JOIN ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[])) AS k(schema, name)
                    ON (c.schema_name, c.table_name) = (k.schema, k.name)
                  LEFT JOIN ROWS FROM (pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[]))
                    AS s(schema, "table", name) ON (c.schema_name, c.table_name) = (s.schema, s."table")
                  WHERE c.direction = $1 GROUP BY c.schema_name, c.table_name) fresh
            WHERE t.direction = $1 AND (t.schema_name, t.table_name) = (fresh.schema_name, fresh.table_name)
              AND t.left_columns <> fresh.columns
            """,
            [
                settings.name, SQLText.arrayLiteral(tables.map(\.schema)), SQLText.arrayLiteral(tables.map(\.name)),
                SQLText.arrayLiteral(staying.map(\.table.schema)), SQLText.arrayLiteral(staying.map(\.table.name)),
                SQLText.arrayLiteral(staying.map(\.name)),
            ].map { .text($0) })
    }

    private func read() async throws -> [Column] {
        // The text of the row: `check` may look at a target that an older Lindero filled.
        try await target.query(
            """
            SELECT t.schema_name, t.table_name, l.key, (l.value::pg_catalog.pg_lsn < greatest(d.applied_lsn, d.start_lsn))::text
            FROM lindero.table_copy t JOIN lindero.direction d ON d.name = t.direction,
                 pg_catalog.jsonb_each_text(coalesce(pg_catalog.to_jsonb(t) -> 'left_columns', '{}')) l
            WHERE d.name = $1 ORDER BY 1, 2, 3
            """, [.text(settings.name)]
        ).rows.map { row in
            Column(
                table: QualifiedName(schema: row[0] ?? "", name: row[1] ?? ""), name: row[2] ?? "", isBehind: row[3] == "true")
        }
    }

    private func failure(_ back: [Column]) -> ReplicationFailure {
        let forget = back.map { column in
            "UPDATE lindero.table_copy SET left_columns = left_columns - \(SQLText.literal(column.name)) WHERE direction = "
                + "\(SQLText.literal(settings.name)) AND schema_name = \(SQLText.literal(column.table.schema)) AND table_name = "
                + "\(SQLText.literal(column.table.name));"
        }.joined(separator: " ")
        let tables = Set(back.map(\.table)).sorted().map { "\($0)" }.joined(separator: " ")
        return ReplicationFailure(
            .columnLeft,
            "\(settings.name) has run without " + back.map { "column \"\($0.name)\" of \($0.table)" }.joined(separator: ", ")
                + ", which lindero.yaml lets travel now: older values of it are missing on \(settings.targetName), or old.",
            nextStep: "Run on \(settings.targetName): \(forget) Then `lindero run`, and beside it `lindero verify \(tables) --repair`, "
                + "which brings them. Or keep it `private`.", isBlocker: true)
    }
}
