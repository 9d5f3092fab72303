import PostgresClient
import ReplicationCore

/// How far a first copy is, as the databases tell it: what has been committed on the target, and what the source's statistics
/// expect. The worker itself knows more.
struct CopiedSoFar: Sendable, Equatable {
    var tables: Int
    var rows: Int
    /// `nil` until the source has been asked.
    var allTables: Int?
    /// By the source's statistics.
    var allRows: Int?

    /// `nil` where no copy has been noted.
    static func read(_ target: PostgresConnection, direction: String) async throws(PostgresError) -> CopiedSoFar? {
        guard try await target.hasLindero("table_copy", "table_copy_chunk") else { return nil }
        let row = try await target.query(
            """
            SELECT (SELECT count(*) FROM lindero.table_copy WHERE direction = $1),
              (SELECT coalesce(sum(rows), 0) FROM lindero.table_copy WHERE direction = $1)
              + (SELECT coalesce(sum(rows), 0) FROM lindero.table_copy_chunk WHERE direction = $1)
            """, [.text(direction)]
        ).rows.first
        guard let tables = row?[0].flatMap({ Int($0) }), let rows = row?[1].flatMap({ Int($0) }) else { return nil }
        return CopiedSoFar(tables: tables, rows: rows)
    }

    /// What a publication's tables hold, about.
    mutating func expect(_ publication: String, of source: PostgresConnection) async throws(PostgresError) {
        let row = try await source.query(
            """
            SELECT count(*), coalesce(sum(CASE WHEN c.relkind = 'p'
                THEN (SELECT sum(greatest(l.reltuples, 0)) FROM pg_catalog.pg_partition_tree(c.oid) t
                      JOIN pg_catalog.pg_class l ON l.oid = t.relid WHERE t.isleaf)
                ELSE greatest(c.reltuples, 0) END), 0)::bigint
            FROM pg_catalog.pg_publication_tables p JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname
              JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
            WHERE p.pubname = $1
            """, [.text(publication)]
        ).rows.first
        allTables = row?[0].flatMap { Int($0) }
        allRows = row?[1].flatMap { Int($0) }
    }

    var words: String {
        let count = PlainText.count(rows)
        let expected = allRows.flatMap { $0 > 0 && $0 >= rows ? " of about \(PlainText.count($0))" : nil } ?? ""
        let whole = allTables.flatMap { $0 > 0 ? "\(tables) of \($0)" : nil } ?? "\(tables)"
        return "copied \(count)\(expected) rows, \(whole) tables whole"
    }
}
