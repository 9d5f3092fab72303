import PostgresClient
import ReplicationCore

/// Compares the enums of both sides by the names of their types: a stream tells nothing of their labels.
enum EnumLabels {
    /// An enum that lacks labels, and one of the columns that need it.
    struct Lack: Sendable {
        var missing: MissingLabels
        var table: QualifiedName
        var column: String
    }

    /// - Parameters:
    ///   - tables: of the source.
    ///   - travels: whether a column of the source is written to the target.
    /// - Returns: each enum once, by name; those that the target does not have at all are others' business.
    static func missing(
        _ tables: [TableDescription], source: PostgresConnection, target: PostgresConnection, travels: (QualifiedName, String) -> Bool
    ) async throws(PostgresError) -> [Lack] {
        let asked = tables.flatMap { table in
            table.columns.filter {
                $0.typeOID >= TypeCompatibility.firstUserOID && !$0.isGenerated && travels(table.name, $0.name)
            }.map { (table: table, column: $0.name) }
        }
        if asked.isEmpty { return [] }
        let rows = try await source.query(
            needed,
            [
                .text(SQLText.arrayLiteral(asked.map { String($0.table.oid) })), .text(SQLText.arrayLiteral(asked.map(\.column))),
            ]
        ).rows
        if rows.isEmpty { return [] }
        let types = rows.map { QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? "") }
        let there = try await labels(of: types, target)
        return zip(rows, types).compactMap { row, type in
            guard let known = there[type], let place = row[3].flatMap({ Int($0) }).map({ asked[$0 - 1] }),
                let missing = MissingLabels(type: type, source: SQLText.elements(ofArray: row[2] ?? "{}"), target: known)
            else { return nil }
            return Lack(missing: missing, table: place.table.name, column: place.column)
        }
    }

    /// The labels of enums in their order; types that are not there, or no enums, are absent from the answer.
    static func labels(
        of types: [QualifiedName], _ connection: PostgresConnection
    ) async throws(PostgresError) -> [QualifiedName: [String]] {
        var labels: [QualifiedName: [String]] = [:]
        for row in try await connection.query(
            """
            SELECT n.nspname, t.typname, \(array(of: "t.oid"))
            FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
            WHERE t.typtype = 'e' AND (n.nspname, t.typname) IN (
              SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])))
            """, [.text(SQLText.arrayLiteral(types.map(\.schema))), .text(SQLText.arrayLiteral(types.map(\.name)))]
        ).rows {
            labels[QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")] = SQLText.elements(ofArray: row[2] ?? "{}")
        }
        return labels
    }

    private static func array(of type: String) -> String {
        "ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l WHERE l.enumtypid = \(type) ORDER BY l.enumsortorder)::text"
    }

    /// `$1`, `$2`: tables and columns. Every enum in their types, through arrays, domains, composites and ranges, with the first of
    /// the columns, from 1.
    private static let needed = """
        WITH RECURSIVE need(place, type) AS (
            SELECT asked.place, a.atttypid
            FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::text[])) WITH ORDINALITY AS asked(t, c, place)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = asked.t AND a.attname = asked.c
            UNION
            SELECT need.place, part.type FROM need JOIN pg_catalog.pg_type t ON t.oid = need.type \(CatalogSQL.parts))
        SELECT n.nspname, t.typname, \(array(of: "t.oid")), min(need.place)::text
        FROM need JOIN pg_catalog.pg_type t ON t.oid = need.type AND t.typtype = 'e'
             JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        GROUP BY t.oid, n.nspname, t.typname ORDER BY n.nspname, t.typname
        """
}
