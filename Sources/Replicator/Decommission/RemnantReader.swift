import PostgresClient
import ReplicationCore

/// Looks for what Lindero left in a database; changes nothing.
public struct RemnantReader: Sendable {
    let connection: PostgresConnection
    let database: String

    public init(connection: PostgresConnection, database: String) {
        self.connection = connection
        self.database = database
    }

    /// - Parameters:
    ///   - kept: slots and publications that the configuration names.
    ///   - tables: those that the configuration declares.
    ///   - foreignRoles: roles of the services that other databases are of.
    public func read(keeping kept: Set<String>, tables: [QualifiedName], foreignRoles: [String]) async throws -> DatabaseRemains {
        var remains = DatabaseRemains(database: database)
        remains.objects = try await OwnObjects.read(connection, keeping: kept)
        remains.schema = try await schema()
        remains.refusals = try await refusals()
        remains.identities = try await FullIdentity(name: database, connection: connection).restorations().map {
            DatabaseRemains.Identity(table: $0.table, sql: $0.sql)
        }
        remains.writers = try await writers(foreignRoles, on: tables)
        for table in try await CatalogReader.tables(connection, matching: tables) {
            remains.columns[table.name] = Set(table.columns.map(\.name))
        }
        return remains
    }

    private func refusals() async throws -> [DatabaseRemains.Refusal] {
        let rows = try await connection.query(
            """
            SELECT pg_catalog.substr(t.tgname, pg_catalog.length('lindero_moved_') + 1), t.tgname, t.tgrelid::pg_catalog.regclass::text
            FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal AND pg_catalog.starts_with(t.tgname, 'lindero_moved_')
              AND t.tgfoid = pg_catalog.to_regprocedure('lindero.refuse_moved_service()') ORDER BY 1, 3
            """
        ).rows
        var refusals: [DatabaseRemains.Refusal] = []
        for row in rows {
            let service = row[0] ?? ""
            if refusals.last?.service != service { refusals.append(DatabaseRemains.Refusal(service: service, sql: [])) }
            refusals[refusals.count - 1].sql.append("DROP TRIGGER \(SQLText.identifier(row[1] ?? "")) ON \(row[2] ?? "");")
        }
        return refusals
    }

    private func schema() async throws -> DatabaseRemains.Schema? {
        let found = try await connection.query(
            """
            SELECT (SELECT sum(pg_catalog.pg_total_relation_size(c.oid))::bigint::text FROM pg_catalog.pg_class c
                    WHERE c.relnamespace = n.oid AND c.relkind = 'r'),
                   pg_catalog.to_regclass('lindero.migration') IS NOT NULL
            FROM pg_catalog.pg_namespace n WHERE n.nspname = 'lindero'
            """)
        guard let row = found.rows.first else { return nil }
        var schema = DatabaseRemains.Schema(version: 0, sizeBytes: row[0].flatMap { Int64($0) } ?? 0)
        if row[1] == "t" {
            let version = try await connection.query("SELECT max(version)::text FROM lindero.migration").firstValue
            schema.version = version.flatMap { Int($0) } ?? 0
            schema.sql = try await Migrator(connection: connection).planRemoval()
        } else {
            schema.sql = ["DROP SCHEMA lindero;"]
        }
        for (table, condition, obstacle) in Self.obstacles {
            guard try await connection.hasLindero(table), schema.obstacle == nil else { continue }
            if try await connection.query("SELECT \(condition)").rowCount > 0 { schema.obstacle = obstacle }
        }
        return schema
    }

    /// What the migrations' ways down refuse, besides a guard, each with a query that answers when it is so.
    private static let obstacles: [(table: String, query: String, words: String)] =
        [
            (
                "sequence_split", "1 FROM lindero.sequence_split LIMIT 1",
                "sequences are shared with another database: run `lindero sequences restore` first"
            ),
            (
                "conflict", "1 FROM lindero.conflict WHERE state = 'open' LIMIT 1",
                "conflicts are open: run `lindero conflicts list`, and resolve them first"
            ),
            (
                "quarantine", "1 FROM lindero.quarantine WHERE state = 'open' LIMIT 1",
                "changes are in quarantine: run `lindero quarantine list`, and retry or discard them first"
            ),
        ]

    private func writers(_ roles: [String], on tables: [QualifiedName]) async throws -> [DatabaseRemains.Writer] {
        guard !roles.isEmpty, !tables.isEmpty else { return [] }
        let rows = try await connection.query(
            Self.writersSQL,
            [
                .text(SQLText.arrayLiteral(tables.map(\.schema))), .text(SQLText.arrayLiteral(tables.map(\.name))),
                .text(SQLText.arrayLiteral(roles)),
            ]
        ).rows
        var writers: [DatabaseRemains.Writer] = []
        for row in rows {
            let role = row[0] ?? ""
            let table = QualifiedName(schema: row[1] ?? "", name: row[2] ?? "")
            if writers.last?.role != role { writers.append(DatabaseRemains.Writer(role: role, granted: [])) }
            if row[3] == "t" {
                writers[writers.count - 1].granted.append(table)
            } else {
                writers[writers.count - 1].otherwise.append(table)
            }
        }
        return writers
    }

    /// An owner's own entry in the access list is no grant: it could give itself everything again.
    private static let writersSQL = """
        WITH asked AS (
            SELECT c.oid, n.nspname, c.relname, c.relacl, c.relowner
            FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS t(schema, name)
            JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
            JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.name AND c.relkind IN ('r', 'p')),
        found AS (
            SELECT h.rolname, a.nspname, a.relname, h.oid <> a.relowner AND (
                EXISTS (SELECT FROM pg_catalog.aclexplode(a.relacl) x WHERE x.grantee = h.oid
                        AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'))
                OR EXISTS (SELECT FROM pg_catalog.pg_attribute t, pg_catalog.aclexplode(t.attacl) x
                           WHERE t.attrelid = a.oid AND NOT t.attisdropped AND x.grantee = h.oid
                             AND x.privilege_type IN ('INSERT', 'UPDATE'))) AS granted,
              pg_catalog.has_table_privilege(h.oid, a.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                OR pg_catalog.has_any_column_privilege(h.oid, a.oid, 'INSERT, UPDATE') AS writes
            FROM asked a, pg_catalog.pg_roles h WHERE h.rolname = ANY ($3::text[]))
        SELECT rolname, nspname, relname, granted FROM found WHERE granted OR writes ORDER BY 1, 2, 3
        """
}
