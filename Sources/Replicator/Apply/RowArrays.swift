import PostgresClient
import ReplicationCore

/// The parameters of a bulk statement, one array a column; encoded when they are sent, from the group's own memory.
struct RowArrays: ParameterSource {
    let columns: [RelationPlan.Column]
    let rows: ArraySlice<RowSource>
    let plan: GroupPlan
    let chunks: [ChangeChunk]
    /// Whether the number of rows follows, for the statement's guard.
    let isCounted: Bool
    let approximateBytes: Int

    func parameters() -> [PostgresParameter] {
        let arrays = columns.map {
            PostgresParameter.binary(ArrayEncoder.encode(column: $0, rows: rows, plan: plan, chunks: chunks))
        }
        return isCounted ? arrays + [.binary(bigEndian(UInt64(rows.count)))] : arrays
    }
}

/// The parameters of a statement for one row; made when they are sent, as those of a bulk statement are.
struct RowCells: ParameterSource {
    let cells: [CellLocation]
    let chunks: [ChangeChunk]
    let approximateBytes: Int

    func parameters() -> [PostgresParameter] { cells.map { chunks[Int($0.chunk)].arena.parameter($0.cell) } }
}
