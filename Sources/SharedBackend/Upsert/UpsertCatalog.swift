import PostgresClient
import ReplicationCore

/// What only the upsert asks the catalog about its table.
struct UpsertCatalog: Sendable {
    /// The operator by which a key's index compares each column; it need not be in the `search_path`.
    private(set) var equality: [String: String] = [:]
    /// Of key columns whose collation takes different texts for equal.
    private(set) var collation: [String: String] = [:]
    /// A trigger sees new rows before their constraints do, and may fill any column.
    private(set) var fillsNewRows = false
    /// Columns whose domain has a default.
    private(set) var defaults: Set<String> = []

    /// - Parameter connection: any; every name here is qualified.
    static func read(_ table: TableDescription, on connection: PostgresConnection) async throws -> UpsertCatalog {
        var catalog = UpsertCatalog()
        let oid = PostgresParameter.text(String(table.oid))
        for row in try await connection.query(keys, [oid]).rows {
            guard let column = row["column"] else { continue }
            catalog.equality[column] = row["operator"]
            catalog.collation[column] = row["collation"]
        }
        let facts = try await connection.query(others, [oid]).rows.first
        catalog.fillsNewRows = facts?["fills"] == "t"
        catalog.defaults = Set(SQLText.elements(ofArray: facts?["defaults"] ?? "{}"))
        return catalog
    }

    /// Whether two spellings may be one key: of every type but text.
    func hasSpellings(_ key: [ColumnDescription]) -> Bool {
        key.contains { ![25, 1043].contains($0.typeOID) || $0.type.hasSuffix(")") || collation[$0.name] != nil }
    }

    /// Columns of unique indexes: strategy 3 of a B-tree is equality.
    private static let keys = """
        SELECT DISTINCT ON (a.attnum) a.attname AS column,
               pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname) AS operator,
               CASE WHEN NOT l.collisdeterministic THEN pg_catalog.format('%I.%I', ln.nspname, l.collname) END AS collation
        FROM pg_catalog.pg_index i
             CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]),
                                           pg_catalog.unnest(i.indclass::pg_catalog.oid[])) AS k(number, class)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             JOIN pg_catalog.pg_opclass c ON c.oid = k.class
             JOIN pg_catalog.pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype
                  AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3
             JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
             JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
             LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
             LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
        WHERE i.indrelid = $1::pg_catalog.oid AND i.indisunique AND i.indisvalid
        ORDER BY a.attnum, i.indisprimary DESC, i.indexrelid
        """

    /// Bits of `tgtype`: 1 for each row, 2 before, 4 insert.
    private static let others = """
        SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger t
                       WHERE t.tgtype::pg_catalog.int4 & 7 = 7 AND t.tgenabled IN ('O', 'A') AND (t.tgrelid = $1::pg_catalog.oid
                         OR t.tgrelid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) p)))
                 AS fills,
               (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text)
                FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND t.typdefault IS NOT NULL)::pg_catalog.text AS defaults
        """
}
