import PostgresClient
import ReplicationCore

/// The publication of shared mode's change feed.
///
/// PostgreSQL refuses an application's UPDATE and DELETE on a published table whose old rows it cannot identify.
/// Following changes must never break a writer, so such tables stay out, and are named.
struct FeedPublication {
    /// A table that cannot be followed, and why.
    struct Skipped: Sendable, Equatable {
        var table: QualifiedName
        var reason: String
        /// SQL or words that would let it in.
        var fix: String
    }

    let name: String
    let source: PostgresConnection

    /// Makes the publication, or brings it up to date, with those of `tables` that can be published.
    ///
    /// - Returns: the others.
    func ensure(_ tables: [QualifiedName]) async throws -> [Skipped] {
        let (wanted, skipped) = try await sort(tables)
        let identifier = SQLText.identifier(name)
        let list = wanted.map(\.sql).joined(separator: ", ")
        guard try await exists() else {
            _ = try await source.execute(
                "CREATE PUBLICATION \(identifier)\(wanted.isEmpty ? "" : " FOR TABLE \(list)") "
                    + "WITH (publish_via_partition_root = true)")
            return skipped
        }
        let published = try await published()
        if published == Set(wanted) { return skipped }
        if wanted.isEmpty {
            let old = published.sorted().map(\.sql).joined(separator: ", ")
            _ = try await source.execute("ALTER PUBLICATION \(identifier) DROP TABLE \(old)")
        } else {
            _ = try await source.execute("ALTER PUBLICATION \(identifier) SET TABLE \(list)")
        }
        return skipped
    }

    private func exists() async throws -> Bool {
        try await source.query("SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = $1", [.text(name)]).rowCount > 0
    }

    private func published() async throws -> Set<QualifiedName> {
        let result = try await source.query(
            """
            SELECT n.nspname, c.relname FROM pg_catalog.pg_publication p
            JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1
            """, [.text(name)])
        return Set(result.rows.map { QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? "") })
    }

    private func sort(_ tables: [QualifiedName]) async throws -> (wanted: [QualifiedName], skipped: [Skipped]) {
        if tables.isEmpty { return ([], []) }
        let result = try await source.query(
            Self.obstacles,
            [.text(SQLText.arrayLiteral(tables.map(\.schema))), .text(SQLText.arrayLiteral(tables.map(\.name)))])
        var wanted: [QualifiedName] = []
        var skipped: [Skipped] = []
        for row in result.rows {
            let table = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            switch row[2] {
            case nil: wanted.append(table)
            case "unlogged":
                skipped.append(Skipped(
                    table: table, reason: "its changes are not in the WAL", fix: "ALTER TABLE \(table.sql) SET LOGGED"))
            case "owner":
                skipped.append(Skipped(
                    table: table, reason: "only its owner may publish it",
                    fix: "run the worker as a member of \(row[3] ?? "its owner")"))
            default:
                skipped.append(Skipped(
                    table: table, reason: "published, PostgreSQL would refuse its UPDATE and DELETE",
                    fix: "give it a primary key, or ALTER TABLE \(table.sql) REPLICA IDENTITY FULL"))
            }
        }
        return (wanted.sorted(), skipped)
    }

    /// What keeps each table out; NULL for nothing. Of a partitioned table every partition has to qualify.
    private static let obstacles = """
        SELECT n.nspname, c.relname,
          CASE WHEN NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') THEN 'owner' ELSE part.obstacle END,
          pg_catalog.pg_get_userbyid(c.relowner)
        FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS asked(schema, name)
        JOIN pg_catalog.pg_namespace n ON n.nspname = asked.schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name AND c.relkind IN ('r', 'p')
        CROSS JOIN LATERAL (
          SELECT max(CASE WHEN leaf.relpersistence <> 'p' THEN 'unlogged' WHEN NOT EXISTS (
              SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = leaf.oid AND i.indisvalid
                AND CASE leaf.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)
              AND leaf.relreplident <> 'f' THEN 'identity' END) AS obstacle
          FROM pg_catalog.pg_class leaf
          WHERE leaf.relkind = 'r' AND (leaf.oid = c.oid OR c.relkind = 'p'
            AND leaf.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)))) AS part
        """
}
