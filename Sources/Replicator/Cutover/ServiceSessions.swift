import PostgresClient
import ReplicationCore

/// The sessions of a service in one database. Lindero's own are left out where they have one of the service's roles: those with
/// our role and our name. A name alone says nothing: a service may call itself as it likes.
public struct ServiceSessions {
    let connection: PostgresConnection
    let roles: [String]

    public init(connection: PostgresConnection, roles: [String]) {
        self.connection = connection
        self.roles = roles
    }

    public func read() async throws(PostgresError) -> [ServiceSession] {
        let rows = try await connection.query(
            Self.select + " AND a.usename = ANY ($1::text[]) ORDER BY a.pid", [.text(SQLText.arrayLiteral(roles))]
        ).rows
        return rows.compactMap(Self.session)
    }

    /// Ends sessions of the service: all of them, or those that wait for a lock that one session holds.
    ///
    /// - Returns: how many were told to end; none where we may not end the role's sessions. They are waited for then.
    func end(blockedBy holder: Int?) async throws(PostgresError) -> Int {
        let blocked = holder.map { " AND \($0) = ANY (pg_catalog.pg_blocking_pids(a.pid))" } ?? ""
        do throws(PostgresError) {
            let result = try await connection.query(
                """
                SELECT count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(s.pid)) FROM (
                    SELECT a.pid \(Self.from) AND a.usename = ANY ($1::text[])\(blocked) OFFSET 0) s
                """, [.text(SQLText.arrayLiteral(roles))])
            return result.firstValue.flatMap { Int($0) } ?? 0
        } catch {
            if error.sqlState?.rawValue == "42501" { return 0 }
            throw error
        }
    }

    /// Sessions of whoever it is that hold a lock on the tables against which a fence waits.
    static func holding(_ tables: [QualifiedName], on connection: PostgresConnection) async throws(PostgresError) -> [ServiceSession] {
        let rows = try await connection.query(
            """
            \(select) AND EXISTS (
                SELECT FROM pg_catalog.pg_locks l
                WHERE l.pid = a.pid AND l.granted AND l.relation = ANY (
                    SELECT pg_catalog.to_regclass(name)::pg_catalog.oid FROM unnest($1::text[]) AS wanted(name))
                  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
            ORDER BY a.xact_start
            """, [.text(SQLText.arrayLiteral(tables.map(\.sql)))]
        ).rows
        return rows.compactMap(session)
    }

    /// Every role that can log in and write one of the tables, by whatever privilege.
    public static func writers(
        of tables: [QualifiedName], on connection: PostgresConnection
    ) async throws(PostgresError) -> [WritingRole] {
        let rows = try await connection.query(
            """
            SELECT r.rolname, r.rolsuper::text,
                   (SELECT count(*) FROM pg_catalog.pg_stat_activity a
                    WHERE a.usesysid = r.oid AND a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid())::text,
                   min(t.oid::pg_catalog.regclass::text)
            FROM pg_catalog.pg_roles r, unnest($1::text[]) AS wanted(name)
                 JOIN pg_catalog.pg_class t ON t.oid = pg_catalog.to_regclass(wanted.name)
            WHERE r.rolcanlogin AND pg_catalog.has_schema_privilege(r.oid, t.relnamespace, 'USAGE')
              AND (pg_catalog.has_table_privilege(r.oid, t.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                   OR pg_catalog.has_any_column_privilege(r.oid, t.oid, 'INSERT, UPDATE'))
            GROUP BY r.oid, r.rolname, r.rolsuper ORDER BY 1
            """, [.text(SQLText.arrayLiteral(tables.map(\.sql)))]
        ).rows
        return rows.compactMap { row in
            guard let table = row[3].flatMap({ QualifiedName(regclass: $0) }) else { return nil }
            return WritingRole(name: row[0] ?? "", isSuperuser: row[1] == "true", sessions: Int(row[2] ?? "") ?? 0, table: table)
        }
    }

    /// What a role without pg_read_all_stats may not see is NULL.
    private static let from = """
        FROM pg_catalog.pg_stat_activity a
        WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
          AND coalesce(a.backend_type, 'client backend') <> 'walsender' AND a.usename IS NOT NULL
          AND NOT (a.usename = session_user AND (a.application_name = pg_catalog.current_setting('application_name')
            OR a.application_name ~ '^lindero (advance|rollback) '))
        """
    private static let select = """
        SELECT a.pid::text, a.usename, coalesce(a.application_name, ''), coalesce(pg_catalog.host(a.client_addr), 'local'),
               (a.xact_start IS NOT NULL)::text
        \(from)
        """

    private static func session(_ row: PostgresRow) -> ServiceSession? {
        guard let pid = row[0].flatMap({ Int($0) }) else { return nil }
        return ServiceSession(
            processID: pid, role: row[1] ?? "", application: row[2] ?? "", client: row[3] ?? "", isInTransaction: row[4] == "true")
    }
}
