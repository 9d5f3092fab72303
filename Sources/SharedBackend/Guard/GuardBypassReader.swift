import PostgresClient
import ReplicationCore

/// Reads what guarded tables' access lists don't show.
struct GuardBypassReader {
    let connection: PostgresConnection
    /// The guarded tables and their partitions.
    let tables: [QualifiedName]
    /// The roles of all sides.
    let roles: [String]

    func read() async throws(PostgresError) -> GuardBypass {
        guard !roles.isEmpty else { return GuardBypass() }
        return GuardBypass(
            views: try await views(), functions: try await functions(), sequences: try await sequences(),
            defaults: try await defaults(), actions: try await actions(), heirs: try await heirs(), schemaOwners: try await schemaOwners())
    }

    var parameters: [PostgresParameter] {
        [
            .text(SQLText.arrayLiteral(tables.map(\.schema))), .text(SQLText.arrayLiteral(tables.map(\.name))),
            .text(SQLText.arrayLiteral(roles)),
        ]
    }

    /// The guarded tables.
    static let guarded = """
        SELECT c.oid, n.nspname, c.relname, c.relowner FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))
        """
    static let sideRoles = """
        SELECT oid, rolname FROM pg_catalog.pg_roles WHERE rolname = ANY ($3::text[]) AND NOT rolsuper
        """

    /// Views, and tables with rules, that write with their owner's rights, which column grants of the table don't
    /// reach: also by way of others, as long as each of them writes with its owner's rights.
    private func views() async throws(PostgresError) -> [GuardBypass.WritableView] {
        let sql = """
            WITH RECURSIVE guarded AS (\(Self.guarded)), side AS (\(Self.sideRoles)), way(target, relation) AS (
                SELECT oid, oid FROM guarded
                UNION
                SELECT way.target, v.oid
                FROM way JOIN pg_catalog.pg_depend d ON d.refobjid = way.relation
                          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                          AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                     JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
                     JOIN pg_catalog.pg_class v ON v.oid = w.ev_class AND v.oid <> way.relation AND v.relkind IN ('v', 'r', 'p')
                WHERE pg_catalog.pg_relation_is_updatable(v.oid, true) <> 0
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_options_to_table(v.reloptions)
                                  WHERE option_name = 'security_invoker' AND option_value::boolean))
            SELECT DISTINCT n.nspname, v.relname, g.nspname, g.relname, side.rolname
            FROM way JOIN guarded g ON g.oid = way.target JOIN pg_catalog.pg_class v ON v.oid = way.relation
                 JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace CROSS JOIN side
            WHERE way.target <> way.relation
              AND (pg_catalog.has_any_column_privilege(side.oid, v.oid, 'INSERT, UPDATE')
                   OR pg_catalog.has_table_privilege(side.oid, v.oid, 'DELETE'))
            ORDER BY 1, 2, 3, 4, 5
            """
        return try await connection.query(sql, parameters).rows.map { row in
            GuardBypass.WritableView(
                view: GuardReader.name(row[0], row[1]), table: GuardReader.name(row[2], row[3]), role: row[4] ?? "")
        }
    }

    /// SECURITY DEFINER functions; those of extensions are theirs.
    private func functions() async throws(PostgresError) -> [GuardBypass.DefinerFunction] {
        let sql = """
            WITH guarded AS (\(Self.guarded)), side AS (\(Self.sideRoles)),
            definer AS (
                SELECT p.oid, p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype AS is_trigger, p.pronamespace, n.nspname,
                       p.proname, p.proowner
                FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'lindero')
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e'
                                  AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass)
                  AND EXISTS (SELECT FROM guarded g
                              WHERE pg_catalog.has_any_column_privilege(p.proowner, g.oid, 'INSERT, UPDATE')
                                 OR pg_catalog.has_table_privilege(p.proowner, g.oid, 'DELETE, TRUNCATE')))
            SELECT pg_catalog.format('%I.%I(%s)', d.nspname, d.proname, pg_catalog.pg_get_function_identity_arguments(d.oid)),
                   pg_catalog.pg_get_userbyid(d.proowner), side.rolname, d.is_trigger
            FROM definer d JOIN side ON side.oid <> d.proowner
            WHERE CASE WHEN d.is_trigger THEN EXISTS (
                      SELECT FROM pg_catalog.pg_trigger t WHERE t.tgfoid = d.oid AND NOT t.tgisinternal
                       AND (pg_catalog.has_any_column_privilege(side.oid, t.tgrelid, 'INSERT, UPDATE')
                            OR pg_catalog.has_table_privilege(side.oid, t.tgrelid, 'DELETE, TRUNCATE')))
                  ELSE pg_catalog.has_function_privilege(side.oid, d.oid, 'EXECUTE')
                       AND pg_catalog.has_schema_privilege(side.oid, d.pronamespace, 'USAGE') END
            ORDER BY 3, 1
            """
        return try await connection.query(sql, parameters).rows.map { row in
            GuardBypass.DefinerFunction(
                function: row[0] ?? "", owner: row[1] ?? "", role: row[2] ?? "", isTrigger: row[3] == "t")
        }
    }

    /// Sequences in defaults; those of identity columns ask for no right.
    private func sequences() async throws(PostgresError) -> [GuardBypass.ClosedSequence] {
        let sql = """
            WITH guarded AS (\(Self.guarded)), side AS (\(Self.sideRoles))
            SELECT DISTINCT g.nspname, g.relname, n.nspname, s.relname, side.rolname
            FROM guarded g JOIN pg_catalog.pg_attrdef a ON a.adrelid = g.oid
                 JOIN pg_catalog.pg_depend d ON d.objid = a.oid AND d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
                      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                 JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
                 JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace CROSS JOIN side
            WHERE NOT pg_catalog.has_sequence_privilege(side.oid, s.oid, 'USAGE, UPDATE')
            ORDER BY 1, 2, 3, 4, 5
            """
        return try await connection.query(sql, parameters).rows.map { row in
            GuardBypass.ClosedSequence(
                table: GuardReader.name(row[0], row[1]), sequence: GuardReader.name(row[2], row[3]), role: row[4] ?? "")
        }
    }

    /// What `ALTER DEFAULT PRIVILEGES` gives to everybody, to the roles, and to what they are members of.
    private func defaults() async throws(PostgresError) -> [GuardBypass.DefaultGrant] {
        let sql = """
            SELECT pg_catalog.pg_get_userbyid(d.defaclrole), n.nspname,
                   CASE WHEN g.grantee <> 0 THEN pg_catalog.pg_get_userbyid(g.grantee) END,
                   pg_catalog.string_agg(g.privilege_type, ',' ORDER BY g.privilege_type)
            FROM pg_catalog.pg_default_acl d LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
                 CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) g
            WHERE d.defaclobjtype = 'r' AND g.grantee <> d.defaclrole AND g.privilege_type = ANY ($2::text[])
              AND (g.grantee = 0 OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = ANY ($1::text[])
                   AND NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, g.grantee, 'MEMBER')))
            GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            """
        let parameters: [PostgresParameter] = [
            .text(SQLText.arrayLiteral(roles)), .text(SQLText.arrayLiteral(AccessGrant.writePrivileges.sorted())),
        ]
        return try await connection.query(sql, parameters).rows.map { row in
            GuardBypass.DefaultGrant(
                owner: row[0] ?? "", schema: row[1], grantee: row[2].map(Grantee.role) ?? .everyone,
                privileges: (row[3] ?? "").split(separator: ",").map(String.init))
        }
    }
}
