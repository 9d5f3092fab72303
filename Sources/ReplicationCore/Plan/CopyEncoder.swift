/// Writes rows in the form of a binary COPY: values are copied, never parsed.
///
/// A binary value of `pgoutput` and a field of a binary COPY are the same bytes. Source: PostgreSQL documentation, COPY,
/// "Binary Format".
public struct CopyEncoder: Sendable {
    private static let header: [UInt8] = Array("PGCOPY\n".utf8) + [0xff, 0x0d, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0]

    /// Their places in the stream's tuples.
    private let columns: [Int]
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
        self.columns = columns.map(\.sourceIndex)
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
            if rows[position].isMerged {
                writeMerged(rows[position], to: &piece)
                position += 1
            } else {
                position = writeRun(from: position, to: &piece, pieceBytes: pieceBytes)
            }
        }
        guard position == rows.count else { return true }
        piece.append(contentsOf: [0xff, 0xff])
        return false
    }

    private func writeMerged(_ row: RowSource, to piece: inout [UInt8]) {
        Self.append(UInt16(truncatingIfNeeded: columns.count), to: &piece)
        for column in columns {
            let location = plan.location(row, sourceIndex: column)
            chunks[Int(location.chunk)].arena.withCell(location.cell) { cell, value in
                Self.append(cell.hasValue ? UInt32(bitPattern: cell.length) : .max, to: &piece)
                piece.append(contentsOf: value)
            }
        }
    }

    /// Rows of one chunk, which is borrowed once for all of them.
    ///
    /// - Returns: the first row that is not written.
    private func writeRun(from first: Int, to piece: inout [UInt8], pieceBytes: Int) -> Int {
        let (rows, columns) = (rows, columns)
        let chunk = rows[first].chunk
        return chunks[Int(chunk)].arena.withValues { cells, bytes in
            var index = first
            while index < rows.count, rows[index].chunk == chunk, piece.count < pieceBytes {
                Self.writeTuple(columns, at: rows[index].first, cells, bytes, to: &piece)
                index += 1
            }
            return index
        }
    }

    /// A tuple's values at once: growing the piece for each of them took as long as copying them.
    private static func writeTuple(
        _ columns: [Int], at first: Int, _ cells: UnsafeBufferPointer<Cell>, _ bytes: UnsafeRawBufferPointer, to piece: inout [UInt8]
    ) {
        let sizeBytes = columns.reduce(2) { $0 + 4 + (cells[first + $1].hasValue ? Int(cells[first + $1].length) : 0) }
        piece.append(addingCapacity: sizeBytes) { span in
            span.withUnsafeMutableBufferPointer { buffer, count in
                let row = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[count..<(count + sizeBytes)])
                row.storeBytes(of: UInt16(truncatingIfNeeded: columns.count).bigEndian, as: UInt16.self)
                var offset = 2
                for column in columns {
                    let cell = cells[first + column]
                    let length = cell.hasValue ? UInt32(bitPattern: cell.length) : .max
                    row.storeBytes(of: length.bigEndian, toByteOffset: offset, as: UInt32.self)
                    offset += 4
                    guard cell.hasValue else { continue }
                    let end = offset + Int(cell.length)
                    UnsafeMutableRawBufferPointer(rebasing: row[offset..<end])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[cell.range]))
                    offset = end
                }
                count += sizeBytes
            }
        }
    }

    @inline(__always)
    private static func append<Value: FixedWidthInteger>(_ value: Value, to piece: inout [UInt8]) {
        withUnsafeBytes(of: value.bigEndian) { piece.append(contentsOf: $0) }
    }
}
