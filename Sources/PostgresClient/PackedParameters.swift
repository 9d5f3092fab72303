/// The values for one statement in one block of memory: an allocation for each would take longer than small values do.
public struct PackedParameters: Sendable {
    /// A value in `bytes`; text is followed by a zero there, as libpq wants it.
    struct Entry: Sendable {
        var offset: Int
        /// In bytes; -1 for NULL.
        var length: Int
        var isBinary: Bool
    }

    private(set) var bytes: [UInt8] = []
    private(set) var entries: [Entry] = []

    /// What they take, in bytes.
    public var sizeBytes: Int { bytes.count }

    /// - Parameters:
    ///   - count: how many there will be, about.
    ///   - bytes: how much they will take, about.
    public init(count: Int = 0, bytes byteCount: Int = 0) {
        entries.reserveCapacity(count)
        bytes.reserveCapacity(byteCount + count)
    }

    /// Adds values in binary form.
    ///
    /// - Parameter encode: appends them, one behind the other, and tells how many bytes each has.
    public mutating func append(binary encode: (inout [UInt8]) -> [Int]) {
        var offset = bytes.count
        for length in encode(&bytes) {
            entries.append(Entry(offset: offset, length: length, isBinary: true))
            offset += length
        }
    }

    /// Makes room, so that a large value is not copied for the small one behind it.
    mutating func reserve(bytes byteCount: Int) { bytes.reserveCapacity(bytes.count + byteCount) }

    /// Keeps no value, and the memory for the next ones unless it is much.
    mutating func removeAll() {
        entries.removeAll(keepingCapacity: true)
        bytes.removeAll(keepingCapacity: bytes.capacity < Self.keptBytes)
    }

    private static let keptBytes = 1 << 22

    public mutating func appendNull() { entries.append(Entry(offset: 0, length: -1, isBinary: false)) }

    /// Adds a value; its type's binary form, or its text in UTF-8.
    public mutating func append(_ value: UnsafeRawBufferPointer, isBinary: Bool) {
        entries.append(Entry(offset: bytes.count, length: value.count, isBinary: isBinary))
        bytes.append(contentsOf: value)
        if !isBinary { bytes.append(0) }
    }

    public mutating func append(_ parameter: PostgresParameter) {
        switch parameter {
        case .null: appendNull()
        case .text(var text): text.withUTF8 { append(UnsafeRawBufferPointer($0), isBinary: false) }
        case .textBytes(let text): text.withUnsafeBytes { append($0, isBinary: false) }
        case .binary(let value): value.withUnsafeBytes { append($0, isBinary: true) }
        }
    }
}
