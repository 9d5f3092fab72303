import PostgresClient
import ReplicationCore

/// Reads the ways around guarded tables' access lists.
struct GuardBypassReader {
    let connection: PostgresConnection
    /// The guarded tables and their partitions.
    let tables: [QualifiedName]
    /// The roles of all sides.
    let roles: [String]

    func read() async throws(PostgresError) -> GuardBypass {
        guard !roles.isEmpty else { return GuardBypass() }
        return GuardBypass(views: try await views(), defaults: try await defaults())
    }

    private var parameters: [PostgresParameter] {
        [
            .text(SQLText.arrayLiteral(tables.map(\.schema))), .text(SQLText.arrayLiteral(tables.map(\.name))),
            .text(SQLText.arrayLiteral(roles)),
        ]
    }

    /// Views that write with their owner's rights, which column grants of the table don't reach.
    private func views() async throws(PostgresError) -> [GuardBypass.WritableView] {
        let sql = """
            SELECT DISTINCT vn.nspname, v.relname, n.nspname, c.relname, r.rolname
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 JOIN pg_catalog.pg_depend d ON d.refobjid = c.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
                 JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
                 JOIN pg_catalog.pg_class v ON v.oid = w.ev_class AND v.relkind = 'v'
                 JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace
                 JOIN pg_catalog.pg_roles r ON r.rolname = ANY ($3::text[]) AND NOT r.rolsuper
            WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))
              AND pg_catalog.pg_relation_is_updatable(v.oid, true) <> 0
              AND NOT coalesce('security_invoker=true' = ANY (v.reloptions) OR 'security_invoker=on' = ANY (v.reloptions), false)
              AND (pg_catalog.has_any_column_privilege(r.oid, v.oid, 'INSERT, UPDATE')
                   OR pg_catalog.has_table_privilege(r.oid, v.oid, 'DELETE'))
            ORDER BY 1, 2, 3, 4, 5
            """
        return try await connection.query(sql, parameters).rows.map { row in
            GuardBypass.WritableView(
                view: GuardReader.name(row[0], row[1]), table: GuardReader.name(row[2], row[3]), role: row[4] ?? "")
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
