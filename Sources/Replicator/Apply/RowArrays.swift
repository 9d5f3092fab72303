import PostgresClient
import ReplicationCore

/// The parameters of a bulk statement, one array a column; encoded when they are sent, from the group's own memory.
struct RowArrays: ParameterSource {
    let encoder: ArrayEncoder
    /// Whether the number of rows follows, for the statement's guard.
    let isCounted: Bool
    let approximateBytes: Int

    func append(to parameters: inout PackedParameters) {
        parameters.append(binary: encoder.encode)
        if isCounted { parameters.append(.binary(bigEndian(UInt64(encoder.rows.count)))) }
    }
}

/// The parameters of a statement for one row; made when they are sent, as those of a bulk statement are.
struct RowCells: ParameterSource {
    let cells: [CellLocation]
    let chunks: [ChangeChunk]
    /// Of the values, and what follows each text.
    let approximateBytes: Int

    func append(to parameters: inout PackedParameters) {
        for place in cells {
            chunks[Int(place.chunk)].arena.withValues { cells, values in parameters.append(cells[place.cell], values) }
        }
    }
}
