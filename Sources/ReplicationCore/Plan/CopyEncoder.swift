/// Writes rows in the form of a binary COPY: values are copied, never parsed.
///
/// A binary value of `pgoutput` and a field of a binary COPY are the same bytes. Source: PostgreSQL documentation, COPY,
/// "Binary Format".
public struct CopyEncoder: Sendable {
    private static let header: [UInt8] = Array("PGCOPY\n".utf8) + [0xff, 0x0d, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0]

    private let columns: [RelationPlan.Column]
    private let rows: [RowSource]
    private let plan: GroupPlan
    private let chunks: [ChangeChunk]
    /// The next row to write.
    private var position = 0
    private var isBegun = false

    /// - Parameters:
    ///   - columns: those written, in the order of the statement; their values must be binary or NULL.
    ///   - plan: the plan that the rows are part of.
    public init(columns: [RelationPlan.Column], rows: [RowSource], plan: GroupPlan, chunks: [ChangeChunk]) {
        self.columns = columns
        self.rows = rows
        self.plan = plan
        self.chunks = chunks
    }

    public var rowCount: Int { rows.count }

    /// Appends rows until `piece` has at least `pieceBytes`, or all are written.
    ///
    /// - Returns: whether there is more.
    public mutating func write(to piece: inout [UInt8], pieceBytes: Int) -> Bool {
        if !isBegun {
            piece.append(contentsOf: Self.header)
            isBegun = true
        }
        while position < rows.count, piece.count < pieceBytes {
            write(rows[position], to: &piece)
            position += 1
        }
        guard position == rows.count else { return true }
        piece.append(contentsOf: [0xff, 0xff])
        return false
    }

    private func write(_ row: RowSource, to piece: inout [UInt8]) {
        append(UInt16(truncatingIfNeeded: columns.count), to: &piece)
        if row.isMerged {
            for column in columns {
                let location = plan.location(row, sourceIndex: column.sourceIndex)
                chunks[Int(location.chunk)].arena.withValues { write($0[location.cell], $1, to: &piece) }
            }
        } else {
            chunks[Int(row.chunk)].arena.withValues { cells, bytes in
                for column in columns { write(cells[row.first + column.sourceIndex], bytes, to: &piece) }
            }
        }
    }

    @inline(__always)
    private func write(_ cell: Cell, _ bytes: UnsafeRawBufferPointer, to piece: inout [UInt8]) {
        switch cell.kind {
        case .null, .unchanged:
            append(UInt32.max, to: &piece)
        case .text, .binary:
            append(UInt32(bitPattern: cell.length), to: &piece)
            piece.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[cell.offset..<(cell.offset + Int(cell.length))]))
        }
    }

    @inline(__always)
    private func append<Value: FixedWidthInteger>(_ value: Value, to piece: inout [UInt8]) {
        withUnsafeBytes(of: value.bigEndian) { piece.append(contentsOf: $0) }
    }
}

extension ChangeArena {
    /// Lends all cells and all value bytes.
    @inline(__always)
    func withValues<Result>(_ body: (UnsafeBufferPointer<Cell>, UnsafeRawBufferPointer) -> Result) -> Result {
        cells.withUnsafeBufferPointer { cells in bytes.withUnsafeBytes { body(cells, $0) } }
    }
}
