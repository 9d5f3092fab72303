import PostgresClient
import ReplicationCore

/// What a table of the target was when it was planned for.
///
/// A plan is made once, and the table may be altered meanwhile. A COPY tells the server no types: a bigint's bytes are read as
/// a numeric without an error. And a trigger that fires is to see every change. So whatever goes in bulk asks, as its last
/// step, whether its tables are what they were: from then to the commit its own locks hold off whoever would alter them.
struct TargetShape: Sendable, Hashable {
    let oid: UInt32
    /// Its name, the columns with their types, and how much fires for replicated rows.
    let text: String
    /// Whether triggers or rules of it fire for replicated rows, and so must see every change as the source made it; the
    /// server's own triggers for a constraint among them, where somebody had them fire always.
    let fires: Bool

    static func read(
        _ connection: PostgresConnection, _ names: [QualifiedName]
    ) async throws(PostgresError) -> [QualifiedName: TargetShape] {
        let result = try await connection.query(
            """
            SELECT n.nspname, c.relname, c.oid::text, \(shape(of: "c.oid")), (\(firing(of: "c.oid")) > 0)::text
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE (n.nspname, c.relname) IN (
              SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])))
            """,
            [
                .text(SQLText.arrayLiteral(names.map(\.schema))),
                .text(SQLText.arrayLiteral(names.map(\.name))),
            ])
        var shapes: [QualifiedName: TargetShape] = [:]
        for row in result.rows {
            guard let oid = row[2].flatMap({ UInt32($0) }), let text = row[3] else { continue }
            shapes[QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")] = TargetShape(
                oid: oid, text: text, fires: row[4] == "true")
        }
        return shapes
    }

    /// A statement that fails (22012) unless every table still has its shape; with `parameters`.
    static let check: (text: String, parameterTypes: [UInt32]) = (
        """
        SELECT 1 / (pg_catalog.count(*) OPERATOR(pg_catalog.=) 0)::int
        FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS e(oid, shape) WHERE e.shape IS DISTINCT FROM \(shape(of: "e.oid"))
        """, [OID.oidArray, OID.textArray]
    )

    static func parameters(_ shapes: [TargetShape]) -> [PostgresParameter] {
        [
            .text("{" + shapes.map { "\($0.oid)" }.joined(separator: ",") + "}"),
            .text(SQLText.arrayLiteral(shapes.map(\.text))),
        ]
    }

    private static func shape(of oid: String) -> String {
        """
        pg_catalog.concat(\(oid)::pg_catalog.regclass, '; ',
          (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attname, a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
           FROM pg_catalog.pg_attribute a WHERE a.attrelid = \(oid) AND a.attnum > 0 AND NOT a.attisdropped), '; ', \(firing(of: oid)))
        """
    }

    /// `FROM` and `WHERE` of the triggers that fire for replicated rows, of tables whose OIDs these lists and queries give.
    static func firingTriggers(of tables: [String]) -> String {
        "FROM pg_catalog.pg_trigger t WHERE t.tgenabled IN ('R', 'A') AND ("
            + tables.map { "t.tgrelid IN (\($0))" }.joined(separator: " OR ") + ")"
    }

    private static func firing(of oid: String) -> String {
        """
        ((SELECT pg_catalog.count(*) \(firingTriggers(of: [oid, "SELECT p.relid FROM pg_catalog.pg_partition_tree(\(oid)) p"])))
         + (SELECT pg_catalog.count(*) FROM pg_catalog.pg_rewrite r WHERE r.ev_class = \(oid) AND r.ev_enabled IN ('R', 'A')))
        """
    }
}
