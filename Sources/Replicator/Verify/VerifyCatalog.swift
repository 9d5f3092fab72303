import PostgresClient
import ReplicationCore

/// Reads from both databases what of each table is to be compared.
struct VerifyCatalog {
    let settings: DirectionSettings
    let direction: VerifyDirection
    let source: PostgresConnection
    let target: PostgresConnection

    struct Scope: Sendable {
        var tables: [VerifyTable] = []
        var skipped: [VerifyReport.SkippedTable] = []
        /// The catalog's estimates.
        var rows: [QualifiedName: Int] = [:]
    }

    /// - Parameter names: only these; empty for every table of the direction.
    /// - Throws: `VerifyError.notReplicated`.
    func scope(_ names: [QualifiedName]) async throws -> Scope {
        let published = try await publishedTables()
        var here: [TableDescription] = []
        for table in try await CatalogReader.tables(source, matching: names.isEmpty ? nil : names) {
            let isPart = !table.isPartition && settings.includes(table.name)
            let isSent = published.map { $0[table.name] != nil } ?? true
            if isPart, isSent {
                here.append(table)
            } else if !names.isEmpty {
                throw VerifyError.notReplicated(table.name)
            }
        }
        let there = Dictionary(
            try await CatalogReader.tables(target, matching: here.map(\.name)).map { ($0.name, $0) },
            uniquingKeysWith: { first, _ in first })
        let orders = (try await collations(source, here), try await collations(target, Array(there.values)))
        let unfinished = try await unfinishedTables()
        var scope = Scope()
        for table in here {
            do {
                if unfinished.contains(table.name.sql) { throw VerifyTable.Obstacle.notCopied }
                scope.tables.append(
                    try VerifyTable.make(
                        source: table, target: there[table.name], ownership: settings.policy?.tables[table.name],
                        direction: direction, published: published?[table.name]?.columns,
                        sourceFilter: published?[table.name]?.filter,
                        collations: { side, column in
                            (side == .source ? orders.0 : orders.1)[ColumnName(table: table.name, column: column)]
                        }))
            } catch let obstacle as VerifyTable.Obstacle {
                scope.skipped.append(VerifyReport.SkippedTable(table.name, obstacle))
            }
        }
        scope.rows = try await estimates(scope.tables.map(\.name))
        return scope
    }

    // MARK: what a publication sends

    private struct Published {
        var columns: Set<String>?
        var filter: String?
    }

    /// What the configuration's publication leaves out; `nil` for a publication that Lindero makes as it needs it.
    private func publishedTables() async throws -> [QualifiedName: Published]? {
        guard let publication = settings.replication.publication else { return nil }
        let hasFilters = await source.serverVersion >= 150_000
        let extra = hasFilters ? "attnames::text, rowfilter" : "NULL, NULL"
        let result = try await source.query(
            "SELECT schemaname, tablename, \(extra) FROM pg_catalog.pg_publication_tables WHERE pubname = $1",
            [.text(publication)])
        var tables: [QualifiedName: Published] = [:]
        for row in result.rows {
            tables[QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")] = Published(
                columns: row[2].map { Set(SQLText.elements(ofArray: $0)) }, filter: row[3])
        }
        return tables
    }

    private func unfinishedTables() async throws -> Set<String> {
        let text = try await target.query(
            "SELECT unfinished_tables::text FROM lindero.direction WHERE name = $1", [.text(direction.name)]
        ).firstValue
        return Set(SQLText.elements(ofArray: text ?? "{}"))
    }

    // MARK: order

    /// What decides the order of text columns: provider, locale and the version of its rules.
    private func collations(
        _ connection: PostgresConnection, _ tables: [TableDescription]
    ) async throws -> [ColumnName: String] {
        let byOID = Dictionary(tables.map { ("\($0.oid)", $0.name) }, uniquingKeysWith: { first, _ in first })
        let version = await connection.serverVersion
        let databaseVersion =
            version >= 150_000 ? "pg_catalog.pg_database_collation_actual_version(d.oid)" : "pg_catalog.version()"
        let rows = try await connection.query(
            """
            SELECT a.attrelid::text, a.attname,
              CASE WHEN c.collprovider = 'd' THEN
                CASE WHEN d.datcollate IN ('C', 'POSIX') AND coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c' THEN 'C'
                     ELSE concat_ws('/', coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'), d.datcollate,
                       to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticurules',
                       \(databaseVersion), pg_catalog.getdatabaseencoding()) END
              WHEN c.collname IN ('C', 'POSIX') AND c.collnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN 'C'
              ELSE CASE WHEN c.collisdeterministic THEN '' ELSE '\(VerifyTable.looseCollation)' END
                || concat_ws('/', c.collprovider, c.collcollate, to_jsonb(c) ->> 'colliculocale',
                to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'collicurules',
                pg_catalog.pg_collation_actual_version(c.oid), pg_catalog.getdatabaseencoding()) END
            FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
            JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
            WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
            """, [.text("{" + byOID.keys.joined(separator: ",") + "}")]
        ).rows
        var collations: [ColumnName: String] = [:]
        for row in rows {
            guard let table = row[0].flatMap({ byOID[$0] }), let column = row[1] else { continue }
            collations[ColumnName(table: table, column: column)] = row[2]
        }
        return collations
    }

    private func estimates(_ names: [QualifiedName]) async throws -> [QualifiedName: Int] {
        let result = try await source.query(
            """
            SELECT asked.schema, asked.name, (
              SELECT coalesce(sum(greatest(leaf.reltuples, 0)), 0)::bigint::text FROM pg_catalog.pg_class leaf
              WHERE leaf.relkind = 'r' AND (leaf.oid = c.oid
                OR leaf.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid))))
            FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS asked(schema, name)
            JOIN pg_catalog.pg_namespace n ON n.nspname = asked.schema
            JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name
            """, [.text(SQLText.arrayLiteral(names.map(\.schema))), .text(SQLText.arrayLiteral(names.map(\.name)))])
        var estimates: [QualifiedName: Int] = [:]
        for row in result.rows {
            estimates[QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")] = row[2].flatMap { Int($0) } ?? 0
        }
        return estimates
    }
}
