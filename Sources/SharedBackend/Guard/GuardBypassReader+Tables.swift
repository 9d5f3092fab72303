import PostgresClient
import ReplicationCore

/// Ways around a guard that lead through other tables, and through the schema.
extension GuardBypassReader {
    /// Foreign keys whose actions write with the rights of the referring table's owner. A partition's is its root's.
    func actions() async throws(PostgresError) -> [GuardBypass.ReferentialAction] {
        let sql = """
            WITH guarded AS (\(Self.guarded))
            SELECT c.conname, g.nspname, g.relname, n.nspname, r.relname, c.confdeltype::text, c.confupdtype::text, own.names, theirs.names,
                   (SELECT pg_catalog.array_agg(a.attname)::text FROM pg_catalog.pg_attribute a
                    WHERE a.attrelid = c.conrelid AND a.attnum IN (
                        SELECT e::int2 FROM pg_catalog.jsonb_array_elements_text(nullif(pg_catalog.to_jsonb(c) -> 'confdelsetcols', 'null')) e))
            FROM pg_catalog.pg_constraint c JOIN guarded g ON g.oid = c.conrelid
                 JOIN pg_catalog.pg_class r ON r.oid = c.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
                 CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(a.attname)::text AS names FROM pg_catalog.pg_attribute a
                                     WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)) own
                 CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(a.attname)::text AS names FROM pg_catalog.pg_attribute a
                                     WHERE a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey)) theirs
            WHERE c.contype = 'f' AND c.conparentid = 0 AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd'))
            ORDER BY 2, 3, 1
            """
        return try await connection.query(sql, Array(parameters.prefix(2))).rows.map { row in
            let columns = SQLText.elements(ofArray: row[7] ?? "{}")
            return GuardBypass.ReferentialAction(
                constraint: row[0] ?? "", table: GuardReader.name(row[1], row[2]), referenced: GuardReader.name(row[3], row[4]),
                onDelete: GuardBypass.ReferentialAction.Kind(rawValue: row[5] ?? ""), onUpdate: GuardBypass.ReferentialAction.Kind(rawValue: row[6] ?? ""),
                columns: columns, referencedColumns: SQLText.elements(ofArray: row[8] ?? "{}"),
                columnsSetOnDelete: row[9].map { SQLText.elements(ofArray: $0) } ?? columns)
        }
    }

    /// Tables that inherit from guarded ones, without being their partitions or guarded themselves, and that a role may write: their
    /// rows are the guarded tables' rows too.
    func heirs() async throws(PostgresError) -> [GuardBypass.Heir] {
        let sql = """
            WITH RECURSIVE guarded AS (\(Self.guarded)), side AS (\(Self.sideRoles)), heir(oid, target) AS (
                SELECT i.inhrelid, g.oid FROM guarded g JOIN pg_catalog.pg_inherits i ON i.inhparent = g.oid
                UNION SELECT i.inhrelid, heir.target FROM heir JOIN pg_catalog.pg_inherits i ON i.inhparent = heir.oid)
            SELECT DISTINCT n.nspname, c.relname, g.nspname, g.relname, side.rolname
            FROM heir JOIN guarded g ON g.oid = heir.target JOIN pg_catalog.pg_class c ON c.oid = heir.oid AND NOT c.relispartition
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace CROSS JOIN side
            WHERE heir.oid NOT IN (SELECT oid FROM guarded)
              AND (pg_catalog.has_any_column_privilege(side.oid, c.oid, 'INSERT, UPDATE')
                   OR pg_catalog.has_table_privilege(side.oid, c.oid, 'DELETE, TRUNCATE'))
            ORDER BY 1, 2, 3, 4, 5
            """
        return try await connection.query(sql, parameters).rows.map { row in
            GuardBypass.Heir(table: GuardReader.name(row[0], row[1]), parent: GuardReader.name(row[2], row[3]), role: row[4] ?? "")
        }
    }

    /// Roles that own a guarded table's schema, or may act as its owner: they may drop what is in it.
    func schemaOwners() async throws(PostgresError) -> [GuardBypass.SchemaOwner] {
        let sql = """
            WITH guarded AS (\(Self.guarded)), side AS (\(Self.sideRoles))
            SELECT DISTINCT n.nspname, side.rolname, pg_catalog.pg_get_userbyid(n.nspowner)
            FROM guarded g JOIN pg_catalog.pg_namespace n ON n.nspname = g.nspname CROSS JOIN side
            WHERE pg_catalog.pg_has_role(side.oid, n.nspowner, 'MEMBER') AND NOT pg_catalog.pg_has_role(side.oid, g.relowner, 'MEMBER')
            ORDER BY 1, 2
            """
        return try await connection.query(sql, parameters).rows.map { row in
            GuardBypass.SchemaOwner(schema: row[0] ?? "", role: row[1] ?? "", owner: row[2] ?? "")
        }
    }
}
