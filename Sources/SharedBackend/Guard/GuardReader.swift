import PostgresClient
import ReplicationCore

/// Reads what a `GuardPlanner` needs from the catalog and from Lindero's own record.
struct GuardReader {
    let connection: PostgresConnection

    /// - Parameter names: the tables under ownership; their partitions and recorded tables are added.
    func snapshot(of names: [QualifiedName], sides: [GuardSide]) async throws(PostgresError) -> GuardSnapshot {
        let isReadable = try await record() == .current
        let triggers = try await triggers()
        let records = isReadable ? try await GuardRecordReader(connection: connection).records() : [:]
        let roots = try await partitions(of: names)
        let wanted = Set(names).union(roots.keys).union(records.keys).union(triggers.map(\.table))
        let tables = try await access(wanted.sorted())
        let serverVersion = await connection.serverVersion
        return GuardSnapshot(
            currentRole: try await connection.query("SELECT current_user").rows.first?[0] ?? "",
            mayUse: try await roles(with: "USAGE"),
            maySet: try await roles(with: serverVersion < 160_000 ? "MEMBER" : "SET"), serverVersion: serverVersion,
            roles: try await roles(), tables: tables, rootOfPartition: roots, records: records,
            triggers: triggers, functions: try await functions(),
            bypass: try await GuardBypassReader(
                connection: connection, tables: (names + roots.keys).sorted(), roles: sides.flatMap(\.roles)
            ).read())
    }

    /// The guard's tables as this role sees them.
    enum Record: Sendable {
        case missing
        /// An older Lindero made it, or is about to.
        case old
        case unreadable
        case current
    }

    /// Looked up by name: a cast to `regclass` fails for a role that may not use the schema.
    func record() async throws(PostgresError) -> Record {
        let sql = """
            SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'),
                   a.attname IS NOT NULL AND EXISTS (
                       SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'audited_side')
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'grantee_oid'
            WHERE n.nspname = 'lindero' AND c.relname = 'guarded_grant'
            """
        guard let row = try await connection.query(sql).rows.first else { return .missing }
        if row[1] != "t" { return .old }
        return row[0] == "t" ? .current : .unreadable
    }

    /// Roles that the current role holds so: USAGE has their rights, MEMBER (SET from 16 on) may change to them.
    private func roles(with privilege: String) async throws(PostgresError) -> Set<String> {
        let sql = "SELECT rolname FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(current_user, oid, $1)"
        return Set(try await connection.query(sql, [.text(privilege)]).rows.compactMap { $0[0] })
    }

    private func roles() async throws(PostgresError) -> [String: RoleFacts] {
        var roles: [String: RoleFacts] = [:]
        for row in try await connection.query("SELECT rolname, rolsuper, rolcreaterole FROM pg_catalog.pg_roles").rows {
            roles[row[0] ?? ""] = RoleFacts(isSuperuser: row[1] == "t", createsRoles: row[2] == "t", memberOf: [])
        }
        let memberships = """
            WITH RECURSIVE path(role, holder) AS (
                SELECT member, roleid FROM pg_catalog.pg_auth_members
                UNION SELECT path.role, m.roleid FROM path JOIN pg_catalog.pg_auth_members m ON m.member = path.holder)
            SELECT pg_catalog.pg_get_userbyid(role), pg_catalog.pg_get_userbyid(holder) FROM path
            """
        for row in try await connection.query(memberships).rows { roles[row[0] ?? ""]?.memberOf.insert(row[1] ?? "") }
        return roles
    }

    /// Partitions at any depth, with their root.
    private func partitions(of names: [QualifiedName]) async throws(PostgresError) -> [QualifiedName: QualifiedName] {
        let sql = """
            WITH RECURSIVE tree(root, leaf) AS (
                SELECT c.oid, c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind = 'p' AND (n.nspname, c.relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))
                UNION ALL
                SELECT tree.root, i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.leaf)
            SELECT rn.nspname, r.relname, ln.nspname, l.relname
            FROM tree JOIN pg_catalog.pg_class r ON r.oid = root JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
                 JOIN pg_catalog.pg_class l ON l.oid = leaf JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace
            WHERE root <> leaf
            """
        var roots: [QualifiedName: QualifiedName] = [:]
        for row in try await connection.query(sql, Self.parameters(names)).rows {
            roots[Self.name(row[2], row[3])] = Self.name(row[0], row[1])
        }
        return roots
    }

    /// Owners and access lists; a table that was never granted has PostgreSQL's default list.
    func access(_ names: [QualifiedName]) async throws(PostgresError) -> [QualifiedName: TableAccess] {
        let columns = """
            SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner), a.attname
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relkind IN ('r', 'p') AND (n.nspname, c.relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))
            """
        var tables: [QualifiedName: TableAccess] = [:]
        for row in try await connection.query(columns, Self.parameters(names)).rows {
            let name = Self.name(row[0], row[1])
            var table = tables[name] ?? TableAccess(table: name, owner: row[2] ?? "", columns: [], grants: [])
            if let column = row[3] { table.columns.insert(column) }
            tables[name] = table
        }
        let grants = """
            WITH lists(oid, column_name, list) AS (
                SELECT c.oid, NULL::name, coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))
                FROM pg_catalog.pg_class c
                UNION ALL
                SELECT attrelid, attname, attacl FROM pg_catalog.pg_attribute
                WHERE attacl IS NOT NULL AND NOT attisdropped)
            SELECT n.nspname, c.relname, column_name, privilege_type,
                   CASE WHEN grantee <> 0 THEN pg_catalog.pg_get_userbyid(grantee) END,
                   pg_catalog.pg_get_userbyid(grantor), is_grantable
            FROM lists JOIN pg_catalog.pg_class c ON c.oid = lists.oid
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 CROSS JOIN LATERAL pg_catalog.aclexplode(list)
            WHERE c.relkind IN ('r', 'p') AND (n.nspname, c.relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))
            """
        for row in try await connection.query(grants, Self.parameters(names)).rows {
            tables[Self.name(row[0], row[1])]?.grants.insert(Self.grant(row, from: 2))
        }
        return tables
    }

    private func triggers() async throws(PostgresError) -> Set<AuditTrigger.Installed> {
        let sql = """
            SELECT n.nspname, c.relname, t.tgname
            FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
            WHERE pn.nspname = 'lindero' AND pg_catalog.starts_with(t.tgname::text, '\(AuditTrigger.prefix)')
              AND t.tgparentid = 0
            """
        var triggers: Set<AuditTrigger.Installed> = []
        for row in try await connection.query(sql).rows {
            triggers.insert(AuditTrigger.Installed(table: Self.name(row[0], row[1]), name: row[2] ?? ""))
        }
        return triggers
    }

    private func functions() async throws(PostgresError) -> [String: String] {
        let sql = """
            SELECT p.proname, p.prosrc FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
            WHERE n.nspname = 'lindero' AND pg_catalog.starts_with(p.proname::text, 'audit_')
              AND p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype
            """
        var functions: [String: String] = [:]
        for row in try await connection.query(sql).rows { functions[row[0] ?? ""] = row[1] ?? "" }
        return functions
    }

    static func name(_ schema: String?, _ name: String?) -> QualifiedName {
        QualifiedName(schema: schema ?? "", name: name ?? "")
    }

    /// Cells: column, privilege, grantee, grantor, grantable.
    static func grant(_ row: PostgresRow, from first: Int) -> AccessGrant {
        AccessGrant(
            row[first + 1] ?? "", column: row[first], to: row[first + 2].map(Grantee.role) ?? .everyone,
            by: row[first + 3] ?? "", isGrantable: row[first + 4] == "t")
    }

    private static func parameters(_ names: [QualifiedName]) -> [PostgresParameter] {
        [.text(SQLText.arrayLiteral(names.map(\.schema))), .text(SQLText.arrayLiteral(names.map(\.name)))]
    }
}
