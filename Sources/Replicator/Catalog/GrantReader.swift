import PostgresClient
import ReplicationCore

/// Reads which login roles may write which columns: what `init --from-database` guesses owners from.
public enum GrantReader {
    /// Roles that may write at least one of the tables, by name. Superusers and owners of a table may write all of
    /// it and tell nothing, so they are left out there.
    public static func roles(
        _ connection: PostgresConnection, tables: [TableDescription]
    ) async throws(PostgresError) -> [RoleGrants] {
        if tables.isEmpty { return [] }
        let names = Dictionary(tables.map { ($0.oid, $0.name) }, uniquingKeysWith: { first, _ in first })
        let oids = "{" + tables.map { String($0.oid) }.joined(separator: ",") + "}"
        var grants: [String: [RoleGrants.TableGrants]] = [:]
        for row in try await connection.query(sql, [.text(oids)]).rows {
            guard let role = row["role"],
                let table = row["oid"].flatMap({ UInt32($0) }).flatMap({ names[$0] })
            else { continue }
            let column = row["column"]
            if let last = grants[role]?.indices.last, grants[role]?[last].table == table {
                if let column { grants[role]?[last].updatableColumns.insert(column) }
                continue
            }
            grants[role, default: []].append(
                RoleGrants.TableGrants(
                    table: table, mayInsert: row["may_insert"] == "t", mayDelete: row["may_delete"] == "t",
                    updatableColumns: column.map { [$0] } ?? []))
        }
        return grants.sorted { $0.key < $1.key }.map { RoleGrants(role: $0.key, tables: $0.value) }
    }

    /// One row for each role, table and column it may update; a row without column where it may only insert or
    /// delete.
    private static let sql = """
        SELECT r.rolname AS role, c.oid, a.attname AS column, rights.may_insert, rights.may_delete
        FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_roles r ON r.rolcanlogin AND NOT r.rolsuper
                  AND NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE')
             CROSS JOIN LATERAL (
                 SELECT pg_catalog.has_any_column_privilege(r.oid, c.oid, 'INSERT') AS may_insert,
                        pg_catalog.has_table_privilege(r.oid, c.oid, 'DELETE') AS may_delete,
                        pg_catalog.has_any_column_privilege(r.oid, c.oid, 'UPDATE') AS may_update) rights
             LEFT JOIN pg_catalog.pg_attribute a ON rights.may_update AND a.attrelid = c.oid AND a.attnum > 0
                  AND NOT a.attisdropped AND pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'UPDATE')
        WHERE c.oid = ANY ($1::pg_catalog.oid[]) AND (rights.may_insert OR rights.may_delete OR rights.may_update)
        ORDER BY r.rolname, c.oid, a.attnum
        """
}
