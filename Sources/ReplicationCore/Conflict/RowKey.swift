/// A row's identity across both databases: its table and the bytes of its match columns, as the stream carries them.
///
/// Both streams must use the same form, binary or text. Keys are compared byte by byte: types whose equal values differ
/// in bytes (`citext`, nondeterministic collations, `numeric` of differing scale) are no match columns for a split.
public struct RowKey: Sendable, Hashable {
    /// `SplitTable.id`.
    public let table: Int
    public let bytes: [UInt8]

    public init(table: Int, bytes: [UInt8]) {
        self.table = table
        self.bytes = bytes
    }

    /// All bytes at once: one after the other they take the hasher several times as long.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(table)
        bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }

    /// - Parameter cells: the match columns' cells in `arena`, in the order of `match`.
    init(table: Int, cells: some Sequence<Int>, arena: ChangeArena) {
        self.init(
            table: table,
            bytes: arena.withValues { all, values in
                let size = cells.reduce(0) { $0 + 5 + Int(all[$1].length) }
                return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
                    let buffer = UnsafeMutableRawBufferPointer(buffer)
                    for index in cells {
                        let cell = all[index]
                        // The length keeps ("a", "bc") and ("ab", "c") apart.
                        buffer[count] = cell.kind == .null ? 0 : 1
                        buffer.storeBytes(of: cell.length.bigEndian, toByteOffset: count + 1, as: Int32.self)
                        count += 5
                        let value = values[cell.range]
                        UnsafeMutableRawBufferPointer(rebasing: buffer[count...]).copyMemory(
                            from: UnsafeRawBufferPointer(rebasing: value))
                        count += value.count
                    }
                }
            })
    }

    /// - Parameter values: of the match columns, in the order of `match`; `nil` is NULL.
    public init(table: Int, values: [[UInt8]?]) {
        var bytes: [UInt8] = []
        for value in values {
            bytes.append(value == nil ? 0 : 1)
            let count = Int32(value?.count ?? 0)
            for shift in stride(from: Int32(24), through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: count >> shift)) }
            bytes += value ?? []
        }
        self.init(table: table, bytes: bytes)
    }

    /// The match columns' values, in the order of `match`; `nil` is NULL.
    public var values: [[UInt8]?] {
        var values: [[UInt8]?] = []
        var rest = bytes[...]
        while rest.count >= 5, let kind = rest.popFirst() {
            let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
            rest = rest.dropFirst(4)
            values.append(kind == 0 ? nil : Array(rest.prefix(length)))
            rest = rest.dropFirst(length)
        }
        return values
    }
}
