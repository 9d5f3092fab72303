import PostgresClient
import ReplicationCore

/// Which table of each side a split's table is, kept beside its members. The stream tells a table by name and OID, and rules and targets
/// go by names: by the OID a change finds the rules and the rows that it belongs to, whatever its table was called when it was made.
struct SplitIdentity {
    /// Reads the origin.
    let forward: DirectionSettings
    let sides: SidePair<PostgresConnection>

    private var other: PostgresConnection { sides[.other] }
    private var listed: Set<QualifiedName> { Set((forward.policy?.tables ?? [:]).keys) }

    /// The column that has a side's OIDs.
    static func column(_ side: Side) -> String { side == .origin ? "origin_oids" : "other_oids" }

    /// Refuses what is not the same table on both sides any more; alters nothing.
    ///
    /// - Throws: `ReplicationFailure` (`table_renamed`); `PostgresError`.
    func require() async throws {
        // `check` may look at a database that an older Lindero brought into the split.
        let hasRecord = try await other.query(
            "SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass('lindero.split_table') AND attname = 'other_oids'"
        ).rowCount > 0
        if hasRecord { _ = try await changes() }
    }

    /// Runs until cancelled.
    ///
    /// - Throws: as `require`, for what was there at the look before, too: whoever renames a table does it on one side first.
    func watch() async throws {
        var suspect: SplitNames.Problem?
        while true {
            try await Task.sleep(for: .milliseconds(PublicationWatch.pollMilliseconds))
            let found = try await names().problem
            if let found, found == suspect { throw SplitNameFailure(forward: forward).words(found) }
            suspect = found
        }
    }

    /// Has the record follow the names that tables have on both sides by now, and learn what it lacks. By the one worker that holds both
    /// sides' origins, before it reads anything, in a transaction of the other side.
    ///
    /// - Throws: as `require`.
    func follow() async throws {
        let changes = try await changes()
        try await rename(changes.renamed)
        for side in Side.allCases {
            let column = Self.column(side)
            for (table, oid) in changes.oids[side] {
                _ = try await other.query(
                    "UPDATE lindero.split_table SET \(column) = \(column) || $4::text::oid WHERE direction = $1 AND schema_name = $2 AND table_name = $3",
                    [.text(forward.name), .text(table.schema), .text(table.name), .text("\(oid)")])
            }
        }
    }

    /// What is known of the tables that travel, by side.
    func known() async throws -> SidePair<TableOIDs> {
        let tables = try await read().filter { !$0.hasLeft && listed.contains($0.name) }
        return SidePair { side in
            let oids = tables.map { ($0.name, $0.oids[side]) }.filter { !$0.1.isEmpty }
            return TableOIDs(Dictionary(oids, uniquingKeysWith: { first, _ in first }))
        }
    }

    private func names() async throws -> SplitNames {
        let tables = try await read()
        return SplitNames(
            tables: tables, catalogs: SidePair(origin: try await catalog(.origin, tables), other: try await catalog(.other, tables)), listed: listed)
    }

    private func changes() async throws -> SplitNames.Changes {
        let names = try await names()
        do throws(SplitNames.Problem) {
            return try names.changes()
        } catch {
            throw SplitNameFailure(forward: forward).words(error)
        }
    }

    private func read() async throws -> [SplitNames.Table] {
        let rows = try await other.query(
            """
            SELECT schema_name, table_name, pg_catalog.array_to_string(origin_oids, ' '), pg_catalog.array_to_string(other_oids, ' '),
              (left_at IS NOT NULL)::text, (left_at = '-infinity')::text
            FROM lindero.split_table WHERE direction = $1
            """, [.text(forward.name)]
        ).rows
        return rows.map { row in
            func oids(_ text: String?) -> [UInt32] { (text ?? "").split(separator: " ").compactMap { UInt32($0) } }
            return SplitNames.Table(
                name: QualifiedName(schema: row[0] ?? "", name: row[1] ?? ""), oids: SidePair(origin: oids(row[2]), other: oids(row[3])),
                hasLeft: row[4] == "true", isGivenUp: row[5] == "true")
        }
    }

    private func catalog(_ side: Side, _ tables: [SplitNames.Table]) async throws -> SplitNames.Catalog {
        let names = listed.union(tables.map(\.name)).sorted()
        let rows = try await sides[side].query(
            """
            SELECT c.oid::text, n.nspname, c.relname,
              CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid)::oid::text END
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND (c.oid = ANY ($1::oid[]) OR (n.nspname, c.relname) IN (
              SELECT * FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]))))
            """,
            [
                .text("{\(tables.flatMap { $0.oids[side] }.map(String.init).joined(separator: ","))}"),
                .text(SQLText.arrayLiteral(names.map(\.schema))), .text(SQLText.arrayLiteral(names.map(\.name))),
            ]
        ).rows
        var (known, roots): ([UInt32: QualifiedName], [UInt32: UInt32]) = ([:], [:])
        for row in rows {
            guard let oid = row[0].flatMap({ UInt32($0) }) else { continue }
            known[oid] = QualifiedName(schema: row[1] ?? "", name: row[2] ?? "")
            roots[oid] = row[3].flatMap { UInt32($0) }
        }
        return SplitNames.Catalog(names: known, roots: roots)
    }

    /// What is kept by names. Of both sides first, where it may be done again.
    private func rename(_ renamed: [QualifiedName: QualifiedName]) async throws {
        for (from, to) in renamed.sorted(by: { $0.key < $1.key }) {
            let names = [from.schema, from.name, to.schema, to.name].map { PostgresParameter.text($0) }
            let moving = "SET (schema_name, table_name) = ($3, $4) WHERE schema_name = $1 AND table_name = $2"
            for side in sides.both {
                _ = try await side.query("UPDATE lindero.conflict \(moving)", names)
                _ = try await side.query(
                    "UPDATE lindero.replica_identity \(moving) AND NOT EXISTS (SELECT FROM lindero.replica_identity WHERE (schema_name, table_name) = ($3, $4))",
                    names)
            }
            _ = try await other.query(
                "UPDATE lindero.direction SET created_tables = pg_catalog.array_replace(created_tables, $2, $3) WHERE name = $1",
                [forward.name, from.sql, to.sql].map { .text($0) })
            for table in ["split_table", "split_column", "split_policy", "table_copy"] {
                // Of a replica before the split, that had one of this name.
                _ = try await other.query(
                    "DELETE FROM lindero.\(table) WHERE direction = $1 AND schema_name = $2 AND table_name = $3",
                    [forward.name, to.schema, to.name].map { .text($0) })
                _ = try await other.query("UPDATE lindero.\(table) \(moving) AND direction = $5", names + [.text(forward.name)])
            }
        }
    }
}
