import PostgresClient
import ReplicationCore

/// From which sides a split's columns have travelled so far. A column that is not listed for a while is another owner's, and what
/// the former one writes then stays behind: so it is noted before anything streams, and refused once it travels from there again.
///
/// To get another owner for good is no return. What is private is `SplitMembers`' matter.
struct SplitColumns {
    let settings: SplitSettings
    /// Where it is kept.
    let other: PostgresConnection

    private var direction: String { settings[reading: .origin].name }
    private var tables: [QualifiedName: TableOwnership] { settings[reading: .origin].policy?.tables ?? [:] }

    /// What a side wrote to a column did not travel for a while.
    struct Back {
        var column: ColumnName
        var side: String
    }

    /// Columns that travel again from a side whose writes have passed by.
    func back() async throws -> [Back] {
        // `check` may look at a database that an older Lindero brought into the split.
        guard try await other.hasLindero("split_column") else { return [] }
        return try await other.query(
            """
            SELECT schema_name, table_name, column_name, side FROM lindero.split_column, pg_catalog.unnest(left_sides) side
            WHERE direction = $1 ORDER BY 1, 2, 3, 4
            """, [.text(direction)]
        ).rows.compactMap { row in
            let table = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            let column = row[2] ?? ""
            let side = row[3] ?? ""
            guard let ownership = tables[table], ownership.columns[column] != nil, !ownership.privateColumns.contains(column),
                [side, nil].contains(ownership.owner(of: column))
            else { return nil }
            return Back(column: ColumnName(table: table, column: column), side: side)
        }
    }

    /// A column whose values its former owner's side alone has.
    struct Moved {
        var column: ColumnName
        var former: String
        var owner: String
    }

    /// - Parameter columns: that are private as far as is noted.
    /// - Returns: those that another side owns from now on.
    func moved(_ columns: [ColumnName]) async throws -> [Moved] {
        guard !columns.isEmpty, try await other.hasLindero("split_column") else { return [] }
        let owners = try await other.query(
            "SELECT schema_name, table_name, column_name, owner FROM lindero.split_column WHERE direction = $1 AND owner IS NOT NULL ORDER BY 1, 2, 3",
            [.text(direction)])
        return owners.rows.compactMap { row in
            let column = ColumnName(table: QualifiedName(schema: row[0] ?? "", name: row[1] ?? ""), column: row[2] ?? "")
            guard columns.contains(column), let ownership = tables[column.table], ownership.columns[column.column] != nil,
                let owner = ownership.owner(of: column.column), let former = row[3], owner != former
            else { return nil }
            return Moved(column: column, former: former, owner: owner)
        }
    }

    /// Notes who owns what from now on.
    ///
    /// While services move a column travels from both sides, whoever owns it: what an owner's change leaves behind is noted once they
    /// have moved. A private one is noted at once: what `moved` goes by.
    func follow() async throws {
        let columns = tables.values.flatMap { ownership in
            ownership.columns.keys.sorted().map {
                Owned(column: ColumnName(table: ownership.table, column: $0), owner: ownership.owner(of: $0), isPrivate: ownership.privateColumns.contains($0))
            }
        }
        if settings[reading: .origin].policy?.isInTransition == true {
            try await note(columns.filter(\.isPrivate), "owner = EXCLUDED.owner")
            let others = columns.filter { !$0.isPrivate }
            _ = try await other.query(
                """
                UPDATE lindero.split_column known SET owner = NULL FROM \(Self.given)
                WHERE direction = $1 AND (schema_name, table_name, column_name) = (s, t, c) AND known.owner <> o
                """, parameters(others))
            return
        }
        // Owned by nobody alone: by both.
        let both = "ARRAY[\(Side.allCases.map { SQLText.literal(settings.name($0)) }.joined(separator: ", "))]"
        func sides(_ owner: String) -> String { "CASE WHEN \(owner) IS NULL THEN \(both) ELSE ARRAY[\(owner)] END" }
        try await note(
            columns,
            """
            owner = EXCLUDED.owner,
              left_sides = ARRAY((SELECT pg_catalog.unnest(known.left_sides)
                UNION SELECT pg_catalog.unnest(\(sides("known.owner")))
                EXCEPT SELECT pg_catalog.unnest(\(sides("EXCLUDED.owner")))) ORDER BY 1)
            """)
    }

    private struct Owned {
        var column: ColumnName
        var owner: String?
        var isPrivate: Bool
    }

    private static let given = """
        ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]))
          AS k(s, t, c, o)
        """

    private func note(_ columns: [Owned], _ change: String) async throws {
        _ = try await other.query(
            """
            INSERT INTO lindero.split_column AS known (direction, schema_name, table_name, column_name, owner)
            SELECT $1, s, t, c, nullif(o, '') FROM \(Self.given)
            ON CONFLICT (direction, schema_name, table_name, column_name) DO UPDATE SET \(change)
            WHERE known.owner IS DISTINCT FROM EXCLUDED.owner
            """, parameters(columns))
    }

    private func parameters(_ columns: [Owned]) -> [PostgresParameter] {
        [
            direction, SQLText.arrayLiteral(columns.map(\.column.table.schema)), SQLText.arrayLiteral(columns.map(\.column.table.name)),
            SQLText.arrayLiteral(columns.map(\.column.column)), SQLText.arrayLiteral(columns.map { $0.owner ?? "" }),
        ].map { .text($0) }
    }

    func forget() async throws {
        _ = try await other.query("DELETE FROM lindero.split_column WHERE direction = $1", [.text(direction)])
    }

    /// What makes a column one that has missed nothing.
    func forgetting(_ column: ColumnName) -> String { setting("left_sides = '{}'", column) }

    /// What makes it another side's.
    func noting(_ column: ColumnName, owner: String) -> String { setting("owner = \(SQLText.literal(owner))", column) }

    private func setting(_ assignment: String, _ column: ColumnName) -> String {
        "UPDATE lindero.split_column SET \(assignment) WHERE direction = \(SQLText.literal(direction)) AND schema_name = "
            + "\(SQLText.literal(column.table.schema)) AND table_name = \(SQLText.literal(column.table.name)) AND column_name = "
            + "\(SQLText.literal(column.column));"
    }
}
