import PostgresClient
import ReplicationCore

/// What a split has carried so far. Changes of a table that has left the configuration pass by, as a private column's values
/// do, and both directions go on: so it is noted before anything streams what stays behind. What travels again has missed
/// something, on both sides.
struct SplitMembers {
    let settings: SplitSettings
    /// Where it is kept.
    let other: PostgresConnection

    private struct Member {
        var table: QualifiedName
        var privateColumns: Set<String>
        var leftAt: String?
    }

    private var direction: String { settings[reading: .origin].name }
    private var tables: [QualifiedName: TableOwnership] { settings[reading: .origin].policy?.tables ?? [:] }
    private var columns: SplitColumns { SplitColumns(settings: settings, other: other) }
    private var policies: SplitPolicies { SplitPolicies(settings: settings, other: other) }

    /// Refuses what is back and has missed something; alters nothing.
    func requireNone() async throws { try await requireNone(try await read()) }

    /// Notes what travels from the beginning on.
    func begin() async throws {
        try await forget()
        try await follow(owners: settings)
    }

    /// Refuses what is back and has missed something, then notes what travels from now on.
    ///
    /// - Parameter owners: by whose rules columns travel.
    func follow(owners: SplitSettings) async throws {
        var members = try await read()
        if members.isEmpty {
            try await takeOverLeft()
            members = try await read()
        }
        try await requireNone(members)
        let known = Dictionary(members.map { ($0.table, $0) }, uniquingKeysWith: { first, _ in first })
        for (table, ownership) in tables {
            // What is private while services move is so again afterwards.
            let privateColumns = ownership.privateColumns
            guard known[table]?.privateColumns != privateColumns else { continue }
            _ = try await other.query(
                """
                INSERT INTO lindero.split_table (direction, schema_name, table_name, private_columns)
                VALUES ($1, $2, $3, $4::text[])
                ON CONFLICT (direction, schema_name, table_name) DO UPDATE SET private_columns = EXCLUDED.private_columns
                """,
                [
                    .text(direction), .text(table.schema), .text(table.name),
                    .text(SQLText.arrayLiteral(privateColumns.sorted())),
                ])
        }
        for member in members where tables[member.table] == nil && member.leftAt == nil {
            _ = try await other.query(
                "UPDATE lindero.split_table SET left_at = now() WHERE direction = $1 AND schema_name = $2 AND table_name = $3",
                [.text(direction), .text(member.table.schema), .text(member.table.name)])
        }
        try await SplitColumns(settings: owners, other: other).follow()
    }

    private func forget() async throws {
        _ = try await other.query("DELETE FROM lindero.split_table WHERE direction = $1", [.text(direction)])
        try await columns.forget()
        try await policies.forget()
    }

    /// Tables that the replica before the split has streamed without are missed still.
    private func takeOverLeft() async throws {
        _ = try await other.query(
            """
            INSERT INTO lindero.split_table (direction, schema_name, table_name, private_columns, left_at)
            SELECT direction, schema_name, table_name, '{}', CASE WHEN left_at_lsn = '0/0' THEN '-infinity' ELSE now() END
            FROM lindero.table_copy WHERE direction = $1 AND left_at_lsn IS NOT NULL
            """, [.text(direction)])
    }

    /// The split is over, and the forward direction a replica's: what stayed behind still does, what was made good no longer, and
    /// what came in between is there.
    ///
    /// - Parameter emptied: tables that are to be copied anew.
    func end(emptied: [QualifiedName]) async throws {
        let members = try await read()
        for member in members where member.leftAt == nil && !emptied.contains(member.table) {
            _ = try await other.query(
                """
                INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes)
                VALUES ($1, $2, $3, '0/0', 0, 0) ON CONFLICT (direction, schema_name, table_name) DO UPDATE SET source_oid = NULL
                """, [.text(direction), .text(member.table.schema), .text(member.table.name)])
        }
        _ = try await other.query(
            """
            UPDATE lindero.table_copy c SET left_at_lsn = CASE WHEN s.left_at IS NOT NULL THEN coalesce(c.left_at_lsn, '0/0') END
            FROM lindero.split_table s WHERE s.direction = $1
              AND (c.direction, c.schema_name, c.table_name) = (s.direction, s.schema_name, s.table_name)
            """, [.text(direction)])
        for (table, ownership) in tables {
            let noted = members.first { $0.table == table }?.privateColumns ?? []
            // What the other side owns was there all the time.
            let missed = missing(noted, ownership).filter { ownership.owner(of: $0) != settings.name(.other) }
            _ = try await other.query(
                """
                UPDATE lindero.table_copy c SET left_columns =
                  (SELECT coalesce(pg_catalog.jsonb_object_agg(name, coalesce(c.left_columns ->> name, '0/0')), '{}')
                   FROM pg_catalog.unnest($4::text[]) name)
                WHERE direction = $1 AND schema_name = $2 AND table_name = $3
                """,
                [
                    .text(direction), .text(table.schema), .text(table.name),
                    .text(SQLText.arrayLiteral(Set(settings.copy.stayingColumns(of: table) + missed).sorted())),
                ])
        }
        try await forget()
    }

    /// Of columns that were private, those that travel now.
    private func missing(_ noted: Set<String>, _ ownership: TableOwnership) -> [String] {
        noted.subtracting(ownership.privateColumns).filter { ownership.columns[$0] != nil }.sorted()
    }

    private func read() async throws -> [Member] {
        // `check` may look at a database that an older Lindero brought into the split.
        guard try await other.hasLindero("split_table") else { return [] }
        var members: [Member] = []
        let rows = try await other.query(
            """
            SELECT schema_name, table_name, pg_catalog.date_trunc('second', left_at)::text, name
            FROM lindero.split_table LEFT JOIN pg_catalog.unnest(private_columns) name ON true
            WHERE direction = $1 ORDER BY 1, 2, 4
            """, [.text(direction)]
        ).rows
        for row in rows {
            let table = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            if members.last?.table != table { members.append(Member(table: table, privateColumns: [], leftAt: row[2])) }
            if let column = row[3] { members[members.count - 1].privateColumns.insert(column) }
        }
        return members
    }

    private func requireNone(_ members: [Member]) async throws {
        let back = members.filter { $0.leftAt != nil && tables[$0.table] != nil }
        if !back.isEmpty { throw failure(tables: back) }
        let moved = try await columns.moved(members.flatMap { member in member.privateColumns.map { ColumnName(table: member.table, column: $0) } })
        if !moved.isEmpty { throw failure(moved: moved) }
        let opened = members.flatMap { member -> [ColumnName] in
            guard let ownership = tables[member.table] else { return [] }
            return missing(member.privateColumns, ownership).map { ColumnName(table: member.table, column: $0) }
        }
        if !opened.isEmpty { throw failure(columns: opened) }
        let listed = try await columns.back()
        if !listed.isEmpty { throw failure(listed: listed) }
        try await policies.require()
    }

    private func place(_ table: QualifiedName) -> String {
        "WHERE direction = \(SQLText.literal(direction)) AND schema_name = \(SQLText.literal(table.schema)) AND table_name = "
            + "\(SQLText.literal(table.name));"
    }

    /// Both sides write, so that neither is to be emptied and copied.
    private func failure(tables back: [Member]) -> ReplicationFailure {
        let forget = back.map { "UPDATE lindero.split_table SET left_at = NULL \(place($0.table))" }.joined(separator: " ")
        return ReplicationFailure(
            .tableLeft,
            "The split has run without " + back.map { "\($0.table)" + ($0.leftAt == "-infinity" ? "" : " since \($0.leftAt ?? "")") }.joined(separator: ", ")
                + ", which had left `tables:` and is back: what either side wrote there meanwhile is missing on the other one.",
            nextStep: "Run on \(settings.name(.other)): \(forget) Then `lindero run`, and beside it \(repair(back.map(\.table))), which makes "
                + "both sides alike where an owner or a policy decides, and names what is left for a person. Or leave them out of `tables:`.",
            isBlocker: true)
    }

    /// Nothing of it has ever travelled: its new owner's side has what was there when the split began, and would take it for the latest.
    private func failure(moved: [SplitColumns.Moved]) -> ReplicationFailure {
        let note = moved.map { columns.noting($0.column, owner: $0.owner) }.joined(separator: " ")
        return ReplicationFailure(
            .columnLeft,
            "Private " + moved.map { "column \"\($0.column.column)\" of \($0.column.table) has its values on \($0.former), and lindero.yaml gives it to \($0.owner)" }
                .joined(separator: ", ") + ", which lacks them.",
            nextStep: "Give it its owner back, then `lindero run`; `lindero rollback --execute` brings it home to \(settings.name(.origin)). Or copy its values "
                + "by hand while nobody writes them, run on \(settings.name(.other)): \(note) Then `lindero run`.", isBlocker: true)
    }

    private func failure(columns: [ColumnName]) -> ReplicationFailure {
        let forget = columns.map { column in
            "UPDATE lindero.split_table SET private_columns = pg_catalog.array_remove(private_columns, \(SQLText.literal(column.column))) "
                + place(column.table)
        }.joined(separator: " ")
        return ReplicationFailure(
            .columnLeft,
            "The split has run while " + columns.map { "column \"\($0.column)\" of \($0.table)" }.joined(separator: ", ")
                + " was private, which lindero.yaml lets travel now: the other side lacks its older values, or has old ones.",
            nextStep: "Run on \(settings.name(.other)): \(forget) Then `lindero run`, and beside it \(repair(columns.map(\.table))), which "
                + "brings them. Or keep it `private`.", isBlocker: true)
    }

    private func failure(listed back: [SplitColumns.Back]) -> ReplicationFailure {
        let forget = back.map { columns.forgetting($0.column) }.joined(separator: " ")
        return ReplicationFailure(
            .columnLeft,
            "The split has run while " + back.map { "column \"\($0.column.column)\" of \($0.column.table) did not travel from \($0.side)" }
                .joined(separator: ", ") + ", which lindero.yaml lets it do once more: what was written there meanwhile is missing on the other side.",
            nextStep: "Run on \(settings.name(.other)): \(forget) Then `lindero run`, and beside it \(repair(back.map(\.column.table))), which makes "
                + "both sides alike where an owner or a policy decides, and names what is left for a person. Or leave its owner as it was.",
            isBlocker: true)
    }

    private func repair(_ tables: [QualifiedName]) -> String {
        "`lindero verify \(Set(tables).sorted().map { "\($0)" }.joined(separator: " ")) --repair --execute`"
    }
}
