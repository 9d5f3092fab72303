import CMemory

/// Writes columns of many rows as PostgreSQL arrays in binary form: values are copied, never parsed.
///
/// Row by row: rows in the order of their keys lie anywhere in a group's memory, and the values of one beside each other.
public struct ArrayEncoder: Sendable {
    public let columns: [RelationPlan.Column]
    public let rows: ArraySlice<RowSource>
    public let plan: GroupPlan
    public let chunks: [ChangeChunk]

    public init(columns: [RelationPlan.Column], rows: ArraySlice<RowSource>, plan: GroupPlan, chunks: [ChangeChunk]) {
        self.columns = columns
        self.rows = rows
        self.plan = plan
        self.chunks = chunks
    }

    /// Appends an array for each column.
    ///
    /// - Returns: how many bytes each has.
    public func encode(into bytes: inout [UInt8]) -> [Int] {
        var arrays = columns.map { GrowingArray(sourceIndex: $0.sourceIndex) }
        return arrays.withUnsafeMutableBufferPointer { arrays in
            fetch(arrays)
            forEachValue(arrays) { array, cell, _ in array.measure(cell) }
            let lengths = arrays.map(\.end)
            var size = 0
            for index in arrays.indices { arrays[index].place(from: &size) }
            bytes.append(addingCapacity: size) { span in
                span.withUnsafeMutableBufferPointer { buffer, count in
                    write(arrays, UnsafeMutableRawBufferPointer(buffer))
                    count = size
                }
            }
            return lengths
        }
    }

    private func write(_ arrays: UnsafeMutableBufferPointer<GrowingArray>, _ block: UnsafeMutableRawBufferPointer) {
        for index in arrays.indices {
            arrays[index].putHeader(elementOID: columns[index].elementOID, rows: rows.count, in: block)
        }
        forEachValue(arrays) { array, cell, values in array.put(cell, of: values, in: block) }
    }

    /// Calls `body` with each value, the array it belongs to, and the bytes in which it lies.
    @inline(__always)
    private func forEachValue(
        _ arrays: UnsafeMutableBufferPointer<GrowingArray>,
        _ body: (inout GrowingArray, Cell, UnsafeRawBufferPointer) -> Void
    ) {
        for row in rows {
            if row.isMerged {
                for index in arrays.indices {
                    let place = plan.location(row, sourceIndex: arrays[index].sourceIndex)
                    chunks[Int(place.chunk)].arena.withValues { body(&arrays[index], $0[place.cell], $1) }
                }
            } else {
                chunks[Int(row.chunk)].arena.withValues { cells, values in
                    for index in arrays.indices {
                        body(&arrays[index], cells[row.first + arrays[index].sourceIndex], values)
                    }
                }
            }
        }
    }

    // MARK: what is not in the caches

    /// How many rows' cells are asked for before a row's values are, whose places these tell.
    private static let rowsAhead = 12
    private static let lineBytes = 64
    /// What of a value is asked for: of what comes behind it, a copy asks ahead.
    private static let fetchedBytes = 512

    /// Asks for the memory in which the rows lie. The processor waits for much of it at once; copies, whose length it has to
    /// read first, wait for one place after another.
    private func fetch(_ arrays: UnsafeMutableBufferPointer<GrowingArray>) {
        let width = (arrays.map(\.sourceIndex).max() ?? 0) + 1
        for index in rows.startIndex - Self.rowsAhead..<rows.endIndex {
            if index + Self.rowsAhead < rows.endIndex { fetchCells(of: rows[index + Self.rowsAhead], width) }
            if index >= rows.startIndex { fetchValues(of: rows[index], arrays) }
        }
    }

    private func fetchCells(of row: RowSource, _ width: Int) {
        guard !row.isMerged else { return }
        chunks[Int(row.chunk)].arena.cells.withUnsafeBytes { cells in
            guard let base = cells.baseAddress else { return }
            let start = row.first * MemoryLayout<Cell>.stride
            let end = start + width * MemoryLayout<Cell>.stride
            for place in stride(from: start, to: end, by: Self.lineBytes) { lindero_prefetch(base + place) }
            lindero_prefetch(base + end - 1)
        }
    }

    private func fetchValues(of row: RowSource, _ arrays: UnsafeMutableBufferPointer<GrowingArray>) {
        guard !row.isMerged else { return }
        chunks[Int(row.chunk)].arena.withValues { cells, values in
            guard let base = values.baseAddress else { return }
            for array in arrays {
                let cell = cells[row.first + array.sourceIndex]
                let end = cell.offset + min(Int(cell.length), Self.fetchedBytes)
                var place = cell.offset
                while place < end {
                    lindero_prefetch(base + place)
                    place += Self.lineBytes
                }
            }
        }
    }
}

/// One column's array while it is measured, and then written.
private struct GrowingArray {
    let sourceIndex: Int
    /// Its size so far, the head with it: dimensions, whether it holds NULL, type, length, lower bound. Then where the next
    /// value goes.
    private(set) var end = 20
    private var hasNull = false

    init(sourceIndex: Int) { self.sourceIndex = sourceIndex }

    mutating func measure(_ cell: Cell) {
        end += cell.hasValue ? 4 + Int(cell.length) : 4
        if !cell.hasValue { hasNull = true }
    }

    /// Gives it its place behind the one before.
    mutating func place(from start: inout Int) { (end, start) = (start, start + end) }

    mutating func putHeader(elementOID: UInt32, rows: Int, in block: UnsafeMutableRawBufferPointer) {
        put(1, in: block)
        put(hasNull ? 1 : 0, in: block)
        put(elementOID, in: block)
        put(UInt32(truncatingIfNeeded: rows), in: block)
        put(1, in: block)
    }

    mutating func put(_ cell: Cell, of values: UnsafeRawBufferPointer, in block: UnsafeMutableRawBufferPointer) {
        guard cell.hasValue else { return put(.max, in: block) }
        put(UInt32(bitPattern: cell.length), in: block)
        UnsafeMutableRawBufferPointer(rebasing: block[end...])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: values[cell.range]))
        end += Int(cell.length)
    }

    private mutating func put(_ value: UInt32, in block: UnsafeMutableRawBufferPointer) {
        block.storeBytes(of: value.bigEndian, toByteOffset: end, as: UInt32.self)
        end += 4
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
