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
        guard try await other.query("SELECT 1 WHERE pg_catalog.to_regclass('lindero.split_column') IS NOT NULL").rowCount > 0 else {
            return []
        }
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
        guard !columns.isEmpty, try await other.query("SELECT 1 WHERE pg_catalog.to_regclass('lindero.split_column') IS NOT NULL").rowCount > 0
        else { return [] }
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

    /// Notes who owns what from now on. While services move everything travels from both sides: that is noted once they have.
    func follow() async throws {
        if settings[reading: .origin].policy?.isInTransition == true { return }
        let columns = tables.values.flatMap { ownership in
            ownership.columns.keys.sorted().map { (table: ownership.table, name: $0, owner: ownership.owner(of: $0)) }
        }
        func sides(_ owner: String) -> String { "CASE WHEN \(owner) IS NULL THEN $6::text[] ELSE ARRAY[\(owner)] END" }
        _ = try await other.query(
            """
            INSERT INTO lindero.split_column AS known (direction, schema_name, table_name, column_name, owner)
            SELECT $1, s, t, c, nullif(o, '') FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]),
              pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[])) AS k(s, t, c, o)
            ON CONFLICT (direction, schema_name, table_name, column_name) DO UPDATE SET owner = EXCLUDED.owner,
              left_sides = ARRAY((SELECT pg_catalog.unnest(known.left_sides)
                UNION SELECT pg_catalog.unnest(\(sides("known.owner")))
                EXCEPT SELECT pg_catalog.unnest(\(sides("EXCLUDED.owner")))) ORDER BY 1)
            WHERE known.owner IS DISTINCT FROM EXCLUDED.owner
            """,
            [
                direction, SQLText.arrayLiteral(columns.map(\.table.schema)), SQLText.arrayLiteral(columns.map(\.table.name)),
                SQLText.arrayLiteral(columns.map(\.name)), SQLText.arrayLiteral(columns.map { $0.owner ?? "" }),
                SQLText.arrayLiteral(Side.allCases.map(settings.name)),
            ].map { .text($0) })
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
