/// Builds what goes into a file for a while. Numbers are little-endian.
struct SpillWriter {
    private(set) var bytes: [UInt8] = []

    mutating func reserve(_ count: Int) { bytes.reserveCapacity(count) }

    mutating func put(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// Four at once.
    mutating func put(_ numbers: (UInt64, UInt64, UInt64, UInt64)) {
        let (first, second, third, fourth) = numbers
        let ordered = (first.littleEndian, second.littleEndian, third.littleEndian, fourth.littleEndian)
        withUnsafeBytes(of: ordered) { bytes.append(contentsOf: $0) }
    }

    mutating func append(_ block: some Collection<UInt8>) { bytes.append(contentsOf: block) }

    /// Empties it; its memory stays.
    mutating func clear() { bytes.removeAll(keepingCapacity: true) }

    /// What `body` puts, with its length before it.
    mutating func putSized(_ body: (inout SpillWriter) -> Void) {
        let start = bytes.count
        put(UInt32(0))
        body(&self)
        let count = UInt32(truncatingIfNeeded: bytes.count - start - 4).littleEndian
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: count, toByteOffset: start, as: UInt32.self) }
    }

    /// Bytes with their length before them.
    mutating func put(_ block: some Collection<UInt8>) {
        put(UInt32(truncatingIfNeeded: block.count))
        bytes.append(contentsOf: block)
    }
}

/// Reads it back.
struct SpillCursor {
    private let bytes: [UInt8]
    private(set) var offset: Int
    private let end: Int

    init(_ bytes: [UInt8], _ range: Range<Int>) {
        self.bytes = bytes
        offset = range.lowerBound
        end = range.upperBound
    }

    var isAtEnd: Bool { offset >= end }

    mutating func take<Number: FixedWidthInteger>(_: Number.Type = Number.self) throws(SpillFrame.Damage) -> Number {
        let size = MemoryLayout<Number>.size
        guard end - offset >= size else { throw .tooShort }
        defer { offset += size }
        return bytes.withUnsafeBytes {
            Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Number.self))
        }
    }

    mutating func takeLSN() throws(SpillFrame.Damage) -> LSN { LSN(try take(UInt64.self)) }
    mutating func takeTime() throws(SpillFrame.Damage) -> PostgresTime {
        PostgresTime(microseconds: try take(Int64.self))
    }

    /// A count or an index that was written as 32 bits.
    mutating func takeCount() throws(SpillFrame.Damage) -> Int { Int(try take(UInt32.self)) }

    mutating func takeBlock() throws(SpillFrame.Damage) -> [UInt8] {
        let count = try takeCount()
        guard end - offset >= count else { throw .tooShort }
        defer { offset += count }
        return Array(bytes[offset..<(offset + count)])
    }

    mutating func skip(_ count: Int) throws(SpillFrame.Damage) {
        guard end - offset >= count else { throw .tooShort }
        offset += count
    }
}
