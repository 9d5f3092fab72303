import PostgresClient
import ReplicationCore

/// Has a database refuse the writes of one service's roles to the declared tables, owners and superusers among them too.
///
/// Statement triggers, and not REVOKE: they hold however a role comes by its privileges, take none of them away, and their end
/// leaves everything as it was. What replication applies passes them.
///
/// Whose write it is, the session says: who logged in, and the role that it has set. Never `current_user`: what a foreign key
/// cascades runs as the table's owner, which a moved service may be, and a function as its own.
struct WriteRefusal {
    let service: String
    let roles: [String]
    let tables: [QualifiedName]

    private static let function = "lindero.refuse_moved_service()"
    private var name: String { "lindero_moved_" + service }

    /// One statement a table, partitions included: a write that names one fires no trigger of its root.
    func creation(on connection: PostgresConnection) async throws(PostgresError) -> [String] {
        let list = roles.map(SQLText.literal).joined(separator: ", ")
        let rows = try await connection.query(
            """
            WITH RECURSIVE tree(oid) AS (
                SELECT pg_catalog.to_regclass(name)::pg_catalog.oid FROM unnest($1::text[]) AS wanted(name)
                UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid)
            SELECT tree.oid::pg_catalog.regclass::text FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid
            WHERE c.relkind IN ('r', 'p') ORDER BY 1
            """, [.text(SQLText.arrayLiteral(tables.map(\.sql)))]
        ).rows
        return rows.compactMap { $0[0] }.map { table in
            """
            CREATE OR REPLACE TRIGGER \(SQLText.identifier(name)) BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON \(table)
            FOR EACH STATEMENT WHEN (session_user IN (\(list)) OR pg_catalog.current_setting('role') IN (\(list)))
            EXECUTE FUNCTION lindero.refuse_moved_service(\(SQLText.literal(service)))
            """
        }
    }

    /// Tables that refuse the service now, as SQL takes their names.
    func refusing(on connection: PostgresConnection) async throws(PostgresError) -> [String] {
        try await connection.query(
            """
            SELECT t.tgrelid::pg_catalog.regclass::text FROM pg_catalog.pg_trigger t
            WHERE t.tgname = $1 AND t.tgfoid = pg_catalog.to_regprocedure('\(Self.function)') AND NOT t.tgisinternal ORDER BY 1
            """, [.text(name)], parameterTypes: [OID.text]
        ).rows.compactMap { $0[0] }
    }

    static func isPossible(on connection: PostgresConnection) async throws(PostgresError) -> Bool {
        try await connection.query("SELECT pg_catalog.to_regprocedure('\(function)')::text").firstValue != nil
    }

    /// Takes the writes again. A trigger's end waits for readers, too: each table is waited for a short time, and again.
    func remove(
        on connection: PostgresConnection, tryMilliseconds: Int, longestMilliseconds: Int = 500, leftMilliseconds: () -> Int
    ) async throws {
        for table in try await refusing(on: connection) {
            try await patiently(connection, tryMilliseconds, longestMilliseconds, leftMilliseconds, "DROP TRIGGER IF EXISTS \(SQLText.identifier(name)) ON \(table)")
        }
    }

    /// Refuses them (again), one table after the other: there is no fence to end.
    func create(
        on connection: PostgresConnection, tryMilliseconds: Int, longestMilliseconds: Int = 500, leftMilliseconds: () -> Int
    ) async throws {
        for statement in try await creation(on: connection) {
            try await patiently(connection, tryMilliseconds, longestMilliseconds, leftMilliseconds, statement)
        }
    }

    private func patiently(
        _ connection: PostgresConnection, _ tryMilliseconds: Int, _ longestMilliseconds: Int, _ leftMilliseconds: () -> Int, _ statement: String
    ) async throws {
        var schedule = HoldSchedule(firstMilliseconds: tryMilliseconds, largestMilliseconds: longestMilliseconds)
        while true {
            let limit = schedule.next(leftMilliseconds: leftMilliseconds())
            do throws(PostgresError) {
                _ = try await connection.execute("BEGIN; SET LOCAL lock_timeout = \(limit ?? 1); \(statement); COMMIT")
                return
            } catch {
                try await connection.rollback()
                guard let limit, ["55P03", "40P01"].contains(error.sqlState?.rawValue) else { throw error }
                try await Task.sleep(for: .milliseconds(limit))
            }
        }
    }
}
