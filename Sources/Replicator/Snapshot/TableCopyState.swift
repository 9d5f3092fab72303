import PostgresClient
import ReplicationCore

/// The target's record of tables whose initial copy is complete.
public struct TableCopyState: Sendable, Equatable {
    /// Transactions that committed before it are in the copy.
    public var snapshotLSN: LSN
    public var rows: Int
    public var bytes: Int

    /// Every finished table of a direction.
    public static func read(
        _ connection: PostgresConnection, direction: String
    ) async throws -> [QualifiedName: TableCopyState] {
        let result = try await connection.query(
            """
            SELECT schema_name, table_name, snapshot_lsn::text, rows::text, bytes::text
            FROM lindero.table_copy WHERE direction = $1
            """, [.text(direction)])
        var states: [QualifiedName: TableCopyState] = [:]
        for row in result.rows {
            let name = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            states[name] = TableCopyState(
                snapshotLSN: row[2].flatMap { LSN($0) } ?? .zero, rows: row[3].flatMap { Int($0) } ?? 0,
                bytes: row[4].flatMap { Int($0) } ?? 0)
        }
        return states
    }

    /// `unfinished_tables` of the row `d`, which the schema of an older Lindero lacks: it is migrated later than looked at.
    static let unfinishedSQL =
        "ARRAY(SELECT pg_catalog.jsonb_array_elements_text(coalesce(pg_catalog.to_jsonb(d) -> 'unfinished_tables', '[]')))"

    /// Quoted names of tables that Lindero made and whose copy is not complete: their keys come after the data.
    public static func unfinished(_ connection: PostgresConnection, direction: String) async throws(PostgresError) -> Set<String> {
        let tables = try await connection.query(
            """
            SELECT CASE WHEN prepared_at IS NULL THEN created_tables
                   ELSE ARRAY(SELECT pg_catalog.unnest(created_tables) INTERSECT SELECT pg_catalog.unnest(\(unfinishedSQL))) END::text
            FROM lindero.direction d WHERE name = $1
            """, [.text(direction)])
        return Set(SQLText.elements(ofArray: tables.firstValue ?? "{}"))
    }
}
