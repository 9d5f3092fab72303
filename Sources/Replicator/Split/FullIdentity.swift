import Logging
import PostgresClient
import ReplicationCore

/// Sees to it that changes of a side's tables carry the whole old row, and puts back what was there.
///
/// `ALTER TABLE` waits for everybody who uses the table, and everybody else behind it: so it waits for a moment only, and
/// tries again. What was there is remembered in the same transaction; each call can be killed and made again.
public struct FullIdentity: Sendable {
    let name: String
    let connection: PostgresConnection
    /// How long writers may have to wait behind one try.
    let lockMilliseconds: Int
    /// How long to try for one table.
    let limitMilliseconds: Int64
    private let logger: Logger?

    /// - Parameters:
    ///   - name: of the database.
    ///   - logger: hears of a wait that a person would notice.
    public init(name: String, connection: PostgresConnection, logger: Logger? = nil) {
        self.init(name: name, connection: connection, lockMilliseconds: 100, limitMilliseconds: 60_000, logger: logger)
    }

    init(name: String, connection: PostgresConnection, lockMilliseconds: Int, limitMilliseconds: Int64, logger: Logger? = nil) {
        self.logger = logger
        self.name = name
        self.connection = connection
        self.lockMilliseconds = lockMilliseconds
        self.limitMilliseconds = limitMilliseconds
    }

    private struct Relation {
        var name: QualifiedName
        var identity: String
        var indexName: String?
        /// Whether it is a partition and has partitions: it holds no rows, and the stream does not name it.
        var isBetween: Bool
    }

    /// The tables, with their partitions, whose changes do not carry the old row.
    public func missing(_ tables: [QualifiedName]) async throws(PostgresError) -> [QualifiedName] {
        try await relations(tables).filter { $0.identity != "f" && !$0.isBetween }.map(\.name)
    }

    /// Sets `REPLICA IDENTITY FULL` where it is not.
    ///
    /// - Returns: what was changed: tables and partitions.
    /// - Throws: `ReplicationFailure` when the role may not, or a table is in use all the time.
    @discardableResult
    public func set(_ tables: [QualifiedName]) async throws -> [QualifiedName] {
        let relations = try await relations(tables).filter { $0.identity != "f" }
        for relation in relations {
            try await alter(relation.name, "FULL") {
                _ = try await connection.query(
                    """
                    INSERT INTO lindero.replica_identity (schema_name, table_name, identity, index_name) VALUES ($1, $2, $3, $4)
                    ON CONFLICT (schema_name, table_name) DO UPDATE SET identity = excluded.identity,
                      index_name = excluded.index_name, changed_at = excluded.changed_at
                    """,
                    [
                        .text(relation.name.schema), .text(relation.name.name), .text(relation.identity),
                        relation.indexName.map { .text($0) } ?? .null,
                    ])
            }
        }
        return relations.map(\.name)
    }

    /// Puts back what was there.
    ///
    /// - Parameters:
    ///   - kept: tables that need the old row still, with their partitions.
    ///   - keepsOthers: whether what was neither the primary key nor the old row stays, too: `kept` was not judged by it.
    /// - Returns: what was changed.
    /// - Throws: as `set`.
    @discardableResult
    public func restore(except kept: [QualifiedName] = [], keepsOthers: Bool = false) async throws -> [QualifiedName] {
        let rows = try await recorded()
        let staying = Set(try await relations(kept).map(\.name))
        var restored: [QualifiedName] = []
        for row in rows {
            let name = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            if staying.contains(name) || keepsOthers && row[2] != "d" { continue }
            // What somebody has changed since, or dropped, is theirs.
            guard row[4] == "f" else {
                try await forget(name)
                continue
            }
            try await alter(name, Self.identity(row)) { try await forget(name) }
            restored.append(name)
        }
        return restored
    }

    /// What is on record, with what would put it back; of what somebody has changed since, only the record goes.
    func restorations() async throws -> [(table: QualifiedName, sql: [String])] {
        try await recorded().map { row in
            let name = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            let forget = "DELETE FROM lindero.replica_identity WHERE schema_name = \(SQLText.literal(name.schema)) AND "
                + "table_name = \(SQLText.literal(name.name));"
            return (name, row[4] == "f" ? ["ALTER TABLE \(name.sql) REPLICA IDENTITY \(Self.identity(row));", forget] : [forget])
        }
    }

    private static func identity(_ row: PostgresRow) -> String {
        switch (row[2], row[3]) {
        case ("n", _): "NOTHING"
        case ("i", let index?): "USING INDEX \(SQLText.identifier(index))"
        default: "DEFAULT"
        }
    }

    /// Schema, table, identity and index as they were; the identity as it is, `nil` where the table is no more. Partitions last.
    private func recorded() async throws -> [PostgresRow] {
        // A database that no transition has been to.
        guard try await connection.hasLindero("replica_identity") else { return [] }
        return try await connection.query(
            """
            SELECT r.schema_name, r.table_name, r.identity, i.relname, c.relreplident
            FROM lindero.replica_identity r
                 LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = r.schema_name
                 LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = r.table_name
                 LEFT JOIN pg_catalog.pg_class i ON i.relnamespace = n.oid AND i.relname = r.index_name
                   AND EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indexrelid = i.oid AND x.indrelid = c.oid)
            ORDER BY c.relkind = 'p' DESC NULLS LAST, 1, 2
            """
        ).rows
    }

    private func forget(_ name: QualifiedName) async throws {
        _ = try await connection.query(
            "DELETE FROM lindero.replica_identity WHERE schema_name = $1 AND table_name = $2",
            [.text(name.schema), .text(name.name)])
    }

    /// Tables and all their partitions, as they are; the partitions first: by the table's identity the stream says whether the old
    /// row is whole, which is up to the partition.
    private func relations(_ tables: [QualifiedName]) async throws(PostgresError) -> [Relation] {
        if tables.isEmpty { return [] }
        let result = try await connection.query(
            """
            SELECT DISTINCT n.nspname, c.relname, c.relreplident,
                   (SELECT i.relname FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
                    WHERE x.indrelid = c.oid AND x.indisreplident), c.relkind = 'p', (c.relkind = 'p' AND c.relispartition)::text
            FROM unnest($1::text[], $2::text[]) AS wanted(schema, name)
                 JOIN pg_catalog.pg_namespace wn ON wn.nspname = wanted.schema
                 JOIN pg_catalog.pg_class w ON w.relnamespace = wn.oid AND w.relname = wanted.name AND w.relkind IN ('r', 'p')
                 CROSS JOIN LATERAL (SELECT w.oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(w.oid)) AS tree(oid)
                 JOIN pg_catalog.pg_class c ON c.oid = tree.oid AND c.relkind IN ('r', 'p')
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            ORDER BY 5, 1, 2
            """,
            [.text(SQLText.arrayLiteral(tables.map(\.schema))), .text(SQLText.arrayLiteral(tables.map(\.name)))])
        return result.rows.map {
            Relation(name: QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? ""), identity: $0[2] ?? "", indexName: $0[3], isBetween: $0[5] == "true")
        }
    }

    /// One change and what is noted with it, as soon as the table is free for a moment.
    private func alter(_ table: QualifiedName, _ identity: String, note: () async throws -> Void) async throws {
        let sql = "ALTER TABLE \(table.sql) REPLICA IDENTITY \(identity)"
        let lock = ShortLock(
            name: name, connection: connection, lockMilliseconds: lockMilliseconds, limitMilliseconds: limitMilliseconds, logger: logger)
        do {
            try await lock.run(sql, on: [table], before: note)
        } catch let refusal as PostgresError where refusal.sqlState?.rawValue == "42501" {
            throw notOwner(table, sql)
        }
    }

    private func notOwner(_ table: QualifiedName, _ sql: String) -> ReplicationFailure {
        ReplicationFailure(
            .privileges, "The role does not own table \(table) of \(name), and may not change its replica identity.",
            nextStep: "Run there as its owner: \(sql); Then the same command again.", isBlocker: true)
    }
}
