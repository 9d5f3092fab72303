/// Writes one column of many rows as a PostgreSQL array in binary form: values are copied, never parsed.
public enum ArrayEncoder {
    public static func encode(
        column: RelationPlan.Column, rows: ArraySlice<RowSource>, plan: GroupPlan, chunks: [ChangeChunk]
    ) -> [UInt8] {
        var size = 20
        var hasNull = false
        for row in rows {
            let location = plan.location(row, sourceIndex: column.sourceIndex)
            let cell = chunks[Int(location.chunk)].arena.cells[location.cell]
            switch cell.kind {
            case .null, .unchanged:
                hasNull = true
                size += 4
            case .text, .binary:
                size += 4 + Int(cell.length)
            }
        }
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            var offset = 0
            func put(_ value: UInt32) {
                buffer[offset] = UInt8(truncatingIfNeeded: value >> 24)
                buffer[offset + 1] = UInt8(truncatingIfNeeded: value >> 16)
                buffer[offset + 2] = UInt8(truncatingIfNeeded: value >> 8)
                buffer[offset + 3] = UInt8(truncatingIfNeeded: value)
                offset += 4
            }
            put(1)
            put(hasNull ? 1 : 0)
            put(column.elementOID)
            put(UInt32(truncatingIfNeeded: rows.count))
            put(1)
            for row in rows {
                let location = plan.location(row, sourceIndex: column.sourceIndex)
                chunks[Int(location.chunk)].arena.withCell(location.cell) { cell, bytes in
                    switch cell.kind {
                    case .null, .unchanged:
                        put(.max)
                    case .text, .binary:
                        put(UInt32(bitPattern: cell.length))
                        UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[offset...])
                            .copyMemory(from: bytes)
                        offset += bytes.count
                    }
                }
            }
            count = offset
        }
    }
}

extension ChangeArena {
    /// Lends all cells and all value bytes.
    @inline(__always)
    public func withValues<Result>(_ body: (UnsafeBufferPointer<Cell>, UnsafeRawBufferPointer) -> Result) -> Result {
        cells.withUnsafeBufferPointer { cells in bytes.withUnsafeBytes { body(cells, $0) } }
    }

    /// Lends a cell's bytes; empty for NULL and unchanged values.
    @inlinable
    func withCell<Result>(_ index: Int, _ body: (Cell, UnsafeRawBufferPointer) -> Result) -> Result {
        let cell = cells[index]
        return bytes.withUnsafeBytes { all in
            body(cell, UnsafeRawBufferPointer(rebasing: all[cell.range]))
        }
    }
}
