import PostgresClient
import ReplicationCore

/// Prisma's own record of its migrations: never replicated, and made for one schema file alone.
struct PrismaChecks {
    struct Record: Sendable, Equatable {
        var schema: String
        /// Whether migrations were applied in another order than their names have.
        var isOutOfOrder: Bool
    }

    let database: String
    let backend: LinderoConfiguration.Backend
    let records: [Record]

    func findings() -> [PreflightFinding] {
        guard let first = records.first else { return [] }
        var findings: [PreflightFinding] = []
        if records.count > 1 {
            findings.append(
                finding(
                    .warning, .prismaSchemas, "\(records.count) Prisma schemas migrate this database (in "
                        + records.map { SQLText.identifier($0.schema) }.joined(separator: ", ")
                        + "): each takes the other's tables for drift, and `prisma migrate reset` would drop them",
                    fix: "let one service own each table's migrations, and `prisma migrate deploy` alone run here"))
        }
        for record in records where record.isOutOfOrder {
            findings.append(
                finding(
                    .warning, .prismaSchemas, "migrations in \(SQLText.identifier(record.schema))._prisma_migrations were not applied in "
                        + "the order of their names: two Prisma schemas seem to share it, and each refuses to go on past the other's",
                    fix: "give each service's Prisma schema a database schema of its own (?schema=… in its URL), or keep all "
                        + "migrations in one of them"))
        }
        if backend != .shared {
            findings.append(
                finding(
                    .note, .prismaMigrations, "\(SQLText.identifier(first.schema))._prisma_migrations is never replicated: a migration "
                        + "is a fact of the database it ran in", fix: "run `prisma migrate deploy` against each database"))
        }
        return findings
    }

    private func finding(
        _ severity: PreflightFinding.Severity, _ code: PreflightFinding.Code, _ message: String, fix: String
    ) -> PreflightFinding {
        PreflightFinding(severity, code, database: database, object: "_prisma_migrations", message, fix: fix)
    }

    static func read(_ side: PreflightSide, backend: LinderoConfiguration.Backend) async throws(PostgresError) -> PrismaChecks {
        let found = try await side.connection.query(
            """
            SELECT n.nspname, pg_catalog.has_table_privilege(c.oid, 'SELECT')::text, (
              SELECT count(*)::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attname IN ('migration_name', 'started_at', 'rolled_back_at'))
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relname = '_prisma_migrations' AND c.relkind = 'r' ORDER BY 1
            """)
        var records: [Record] = []
        for row in found.rows {
            var record = Record(schema: row[0] ?? "", isOutOfOrder: false)
            // One that may not be read, or of another make, is still there.
            if row[1] == "true", row[2] == "3" {
                let table = QualifiedName(schema: record.schema, name: "_prisma_migrations").sql
                record.isOutOfOrder = try await side.connection.query(
                    """
                    SELECT EXISTS (SELECT FROM (
                      SELECT migration_name COLLATE "C" AS name,
                        max(migration_name COLLATE "C") OVER (ORDER BY started_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last
                      FROM \(table) WHERE rolled_back_at IS NULL) AS m WHERE name < last)::text
                    """
                ).firstValue == "true"
            }
            records.append(record)
        }
        return PrismaChecks(database: side.name, backend: backend, records: records)
    }
}
