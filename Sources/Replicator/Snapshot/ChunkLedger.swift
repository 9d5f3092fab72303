import PostgresClient
import ReplicationCore

/// The target's record of what the copy has finished: tables, and parts of tables that are not finished yet.
struct ChunkLedger {
    let connection: PostgresConnection
    let direction: String

    /// `$n`: names of columns that the copy did not carry.
    private static func leftColumns(_ parameter: String) -> String {
        "(SELECT coalesce(pg_catalog.jsonb_object_agg(name, '0/0'::text), '{}') FROM pg_catalog.unnest(\(parameter)::text[]) name)"
    }

    /// The finished parts of one table: all of one snapshot.
    struct Kept: Sendable {
        var snapshotLSN: LSN
        var shape: String
        /// Finished blocks by heap.
        var ranges: [UInt32: [Range<Int>]] = [:]
        var rows = 0
        var bytes = 0
    }

    func read() async throws -> [QualifiedName: Kept] {
        let rows = try await connection.query(
            """
            SELECT schema_name, table_name, heap::text, from_block::text, to_block::text, snapshot_lsn::text, shape,
                   rows::text, bytes::text
            FROM lindero.table_copy_chunk WHERE direction = $1
            """, [.text(direction)]
        ).rows
        var kept: [QualifiedName: Kept] = [:]
        for row in rows {
            guard let heap = row[2].flatMap({ UInt32($0) }), let from = row[3].flatMap({ Int($0) }),
                let to = row[4].flatMap({ Int($0) }), from < to, let lsn = row[5].flatMap({ LSN($0) })
            else { continue }
            let name = QualifiedName(schema: row[0] ?? "", name: row[1] ?? "")
            kept[name, default: Kept(snapshotLSN: lsn, shape: row[6] ?? "")].ranges[heap, default: []].append(from..<to)
            kept[name]?.rows += row[7].flatMap { Int($0) } ?? 0
            kept[name]?.bytes += row[8].flatMap { Int($0) } ?? 0
        }
        return kept
    }

    /// Notes a finished part. In the transaction that writes its data.
    ///
    /// - Parameter staying: columns that it did not carry.
    func note(_ part: CopyPart, staying: [String], snapshotLSN: LSN, rows: Int, bytes: Int) async throws {
        let name = part.table.name
        let figures: [PostgresParameter] = [.text(snapshotLSN.description), .text("\(rows)"), .text("\(bytes)")]
        guard let stretch = part.stretch else {
            _ = try await connection.query(
                """
                INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes, left_columns, source_oid)
                VALUES ($1, $2, $3, $4::pg_catalog.pg_lsn, $5::bigint, $6::bigint, \(Self.leftColumns("$7")), $8::text::oid)
                """, key(name) + figures + [.text(SQLText.arrayLiteral(staying)), .text("\(part.table.oid)")])
            return
        }
        _ = try await connection.query(
            """
            INSERT INTO lindero.table_copy_chunk
              (direction, schema_name, table_name, snapshot_lsn, rows, bytes, heap, from_block, to_block, shape)
            VALUES ($1, $2, $3, $4::pg_catalog.pg_lsn, $5::bigint, $6::bigint, $7::text::oid, $8::bigint, $9::bigint, $10)
            """,
            key(name) + figures + [
                .text("\(stretch.heap.oid)"), .text("\(stretch.blocks.lowerBound)"), .text("\(stretch.blocks.upperBound)"),
                .text(stretch.shape),
            ])
    }

    /// Turns a table's parts into a finished table.
    func finish(_ table: TableDescription, staying: [String]) async throws {
        let result = try await connection.query(
            """
            WITH parts AS (DELETE FROM lindero.table_copy_chunk
                           WHERE direction = $1 AND schema_name = $2 AND table_name = $3 RETURNING snapshot_lsn, rows, bytes)
            INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes, left_columns, source_oid)
            SELECT $1, $2, $3, pg_catalog.max(snapshot_lsn), pg_catalog.sum(rows), pg_catalog.sum(bytes), \(Self.leftColumns("$4")), $5::text::oid
            FROM parts HAVING pg_catalog.min(snapshot_lsn) = pg_catalog.max(snapshot_lsn)
            """, key(table.name) + [.text(SQLText.arrayLiteral(staying)), .text("\(table.oid)")])
        guard result.affectedRows == 1 else {
            throw PostgresError.protocolViolation("the parts of \(table.name) show different snapshots")
        }
    }

    /// The table's parts now show another snapshot. In the transaction that makes it true.
    func advance(_ table: QualifiedName, to lsn: LSN, addedRows: Int) async throws {
        _ = try await connection.query(
            """
            UPDATE lindero.table_copy_chunk chunk SET snapshot_lsn = $4::pg_catalog.pg_lsn,
              rows = rows + CASE WHEN (heap, from_block) = (
                SELECT heap, from_block FROM lindero.table_copy_chunk
                WHERE direction = $1 AND schema_name = $2 AND table_name = $3 ORDER BY heap, from_block LIMIT 1)
                THEN $5::bigint ELSE 0 END
            WHERE direction = $1 AND schema_name = $2 AND table_name = $3
            """, key(table) + [.text(lsn.description), .text("\(addedRows)")])
    }

    func forget(_ table: QualifiedName) async throws {
        _ = try await connection.query(
            "DELETE FROM lindero.table_copy_chunk WHERE direction = $1 AND schema_name = $2 AND table_name = $3", key(table))
    }

    private func key(_ table: QualifiedName) -> [PostgresParameter] {
        [.text(direction), .text(table.schema), .text(table.name)]
    }
}
