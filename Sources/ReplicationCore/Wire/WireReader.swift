/// Reads big-endian fields from borrowed bytes; every read is checked.
struct WireReader {
    let bytes: UnsafeRawBufferPointer
    private(set) var offset: Int
    let end: Int
    /// The message's type byte, for errors.
    let message: UInt8

    init(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, message: UInt8) {
        self.bytes = bytes
        offset = range.lowerBound
        end = range.upperBound
        self.message = message
    }

    var remaining: Int { end - offset }

    @inline(__always)
    private mutating func take<Value: FixedWidthInteger>(_: Value.Type) throws(WireError) -> Value {
        let size = MemoryLayout<Value>.size
        guard remaining >= size else { throw .truncated(message: message, offset: offset) }
        let value = bytes.loadUnaligned(fromByteOffset: offset, as: Value.self)
        offset += size
        return Value(bigEndian: value)
    }

    @inline(__always) mutating func byte() throws(WireError) -> UInt8 { try take(UInt8.self) }
    @inline(__always) mutating func uint16() throws(WireError) -> UInt16 { try take(UInt16.self) }
    @inline(__always) mutating func int32() throws(WireError) -> Int32 { try take(Int32.self) }
    @inline(__always) mutating func uint32() throws(WireError) -> UInt32 { try take(UInt32.self) }
    @inline(__always) mutating func lsn() throws(WireError) -> LSN { LSN(try take(UInt64.self)) }
    @inline(__always) mutating func time() throws(WireError) -> PostgresTime {
        PostgresTime(microseconds: try take(Int64.self))
    }

    @inline(__always)
    mutating func skip(_ count: Int) throws(WireError) {
        guard count >= 0, remaining >= count else { throw .truncated(message: message, offset: offset) }
        offset += count
    }

    /// A NUL-terminated string.
    mutating func string() throws(WireError) -> String {
        let start = offset
        while offset < end, bytes[offset] != 0 { offset += 1 }
        guard offset < end else { throw .truncated(message: message, offset: offset) }
        defer { offset += 1 }
        return String(decoding: bytes[start..<offset], as: UTF8.self)
    }

    func finish() throws(WireError) {
        guard remaining == 0 else { throw .trailingBytes(message: message, count: remaining) }
    }
}
