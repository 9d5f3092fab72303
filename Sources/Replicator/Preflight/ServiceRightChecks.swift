import PostgresClient
import ReplicationCore

/// What a service may do where it is, and may not where it is to live: each of its writes would fail there from the move on.
struct ServiceRightChecks {
    /// A right of a role on a declared table.
    struct Right: Sendable, Hashable {
        var role: String
        var table: QualifiedName
        /// As `GRANT` has it, or `SCHEMA` or `SEQUENCE`, on which `USAGE` is meant.
        var word: String
        /// `nil` where it is the whole table's.
        var column: String?
    }

    /// A side's answer: whether the right is there, and for a sequence its quoted name.
    typealias Rights = [Right: (isThere: Bool, sequence: String?)]

    let origin: String
    let home: String
    /// Whether the service is about to go there.
    let movesServices: Bool
    let tables: [QualifiedName: TableOwnership]
    let atOrigin: Rights
    let atHome: Rights

    /// One a role and table.
    func findings() -> [PreflightFinding] {
        // What one side does not have (a column, a sequence) is told elsewhere.
        let missing = atHome.filter { !$0.value.isThere && atOrigin[$0.key]?.isThere == true }.keys.filter(isOwed)
        let places = Dictionary(grouping: missing) { [$0.role, $0.table.schema, $0.table.name] }
        return places.sorted { $0.key.lexicographicallyPrecedes($1.key) }.compactMap { _, rights in
            guard let first = rights.first else { return nil }
            let words = rights.map { $0.word == "SCHEMA" || $0.word == "SEQUENCE" ? "USAGE of its \($0.word.lowercased())" : $0.word }
            return PreflightFinding(
                movesServices ? .blocker : .warning, .servicePrivilege, database: home, object: first.table.description,
                "role \(first.role) lacks rights on table \(first.table) that it has on \(origin): \(Set(words).sorted().joined(separator: ", "))",
                fix: fix(rights))
        }
    }

    /// Whether the service needs it by what the file says: what the other side alone writes or may see is nothing to give it.
    private func isOwed(_ right: Right) -> Bool {
        guard let table = tables[right.table] else { return false }
        guard let column = right.column, right.word != "SEQUENCE" else {
            return right.word != "DELETE" || table.deleteOwners.contains(home)
        }
        switch right.word {
        case "SELECT": return !table.privateColumns.contains(column) || table.owner(of: column) == home
        case "INSERT":
            return table.insertOwners.contains(home) && (table.match.contains(column) || table.mayWrite(column, side: home))
        default: return table.mayWrite(column, side: home)
        }
    }

    private func fix(_ rights: [Right]) -> String {
        let (role, table) = (SQLText.identifier(rights[0].role), rights[0].table)
        var statements: [String] = []
        if rights.contains(where: { $0.word == "SCHEMA" }) {
            statements.append("GRANT USAGE ON SCHEMA \(SQLText.identifier(table.schema)) TO \(role);")
        }
        let parts = ["SELECT", "INSERT", "UPDATE", "DELETE"].compactMap { word -> String? in
            let some = rights.filter { $0.word == word }
            if some.isEmpty { return nil }
            let columns = some.compactMap(\.column).sorted()
            let all = atHome.keys.count { $0.role == rights[0].role && $0.table == table && $0.word == word }
            return columns.count == all || columns.isEmpty ? word : "\(word) (\(SQLText.list(columns)))"
        }
        if !parts.isEmpty { statements.append("GRANT \(parts.joined(separator: ", ")) ON \(table.sql) TO \(role);") }
        for right in rights where right.word == "SEQUENCE" {
            if let sequence = atHome[right]?.sequence { statements.append("GRANT USAGE ON SEQUENCE \(sequence) TO \(role);") }
        }
        return statements.joined(separator: " ")
    }

    // MARK: reading

    /// - Parameter roles: of the service.
    static func read(
        origin: PreflightSide, home: PreflightSide, roles: [String], tables: [QualifiedName: TableOwnership], movesServices: Bool
    ) async throws(PostgresError) -> ServiceRightChecks {
        let names = tables.keys.sorted()
        return ServiceRightChecks(
            origin: origin.name, home: home.name, movesServices: movesServices, tables: tables,
            atOrigin: try await rights(origin.connection, roles, names), atHome: try await rights(home.connection, roles, names))
    }

    private static func rights(
        _ connection: PostgresConnection, _ roles: [String], _ tables: [QualifiedName]
    ) async throws(PostgresError) -> Rights {
        if roles.isEmpty { return [:] }
        let rows = try await connection.query(
            sql, [.text(SQLText.arrayLiteral(roles)), .text(SQLText.arrayLiteral(tables.map(\.sql)))]
        ).rows
        var rights: Rights = [:]
        for row in rows {
            let table = QualifiedName(schema: row[1] ?? "", name: row[2] ?? "")
            rights[Right(role: row[0] ?? "", table: table, word: row[3] ?? "", column: row[4])] = (row[5] == "true", row[6])
        }
        return rights
    }

    /// An identity column's sequence asks for no right of its own.
    private static let sql = """
        WITH place AS (
            SELECT r.oid AS role, r.rolname, n.oid AS schema, n.nspname, c.oid AS relation, c.relname
            FROM pg_catalog.unnest($2::pg_catalog.text[]) AS wanted(name)
                 JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(wanted.name)
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
                 pg_catalog.pg_roles r
            WHERE r.rolname = ANY ($1::pg_catalog.text[]) AND NOT r.rolsuper
        )
        SELECT rolname, nspname, relname, 'SCHEMA', NULL, pg_catalog.has_schema_privilege(role, schema, 'USAGE')::text, NULL FROM place
        UNION ALL
        SELECT rolname, nspname, relname, 'DELETE', NULL, pg_catalog.has_table_privilege(role, relation, 'DELETE')::text, NULL FROM place
        UNION ALL
        SELECT rolname, nspname, relname, word, a.attname,
               pg_catalog.has_column_privilege(role, relation, a.attnum, word)::text, NULL
        FROM place JOIN pg_catalog.pg_attribute a ON a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped,
             (VALUES ('SELECT'), ('INSERT'), ('UPDATE')) AS words(word)
        UNION ALL
        SELECT rolname, place.nspname, place.relname, 'SEQUENCE', a.attname, pg_catalog.has_sequence_privilege(role, s.oid, 'USAGE')::text,
               pg_catalog.format('%I.%I', (SELECT nspname FROM pg_catalog.pg_namespace WHERE oid = s.relnamespace), s.relname)
        FROM place JOIN pg_catalog.pg_depend d ON d.refobjid = relation AND d.deptype = 'a'
               AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
             JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
             JOIN pg_catalog.pg_attribute a ON a.attrelid = relation AND a.attnum = d.refobjsubid
        """
}
