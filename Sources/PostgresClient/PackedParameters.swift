/// Small values for one statement in one block of memory: an allocation for each would take longer than the values do.
///
/// - Precondition: all of it takes less than 2 GB.
public struct PackedParameters: Sendable {
    /// A value in `bytes`; text is followed by a zero there, as libpq wants it.
    struct Entry: Sendable {
        var offset: Int32
        /// In bytes; -1 for NULL.
        var length: Int32
        var isBinary: Bool
    }

    private(set) var bytes: [UInt8] = []
    private(set) var entries: [Entry] = []

    /// What they take, in bytes.
    public var sizeBytes: Int { bytes.count }

    /// - Parameters:
    ///   - count: how many there will be, about.
    ///   - bytes: how much they will take, about.
    public init(count: Int, bytes byteCount: Int) {
        entries.reserveCapacity(count)
        bytes.reserveCapacity(byteCount + count)
    }

    public mutating func appendNull() { entries.append(Entry(offset: 0, length: -1, isBinary: false)) }

    /// Adds a value; its type's binary form, or its text in UTF-8.
    public mutating func append(_ value: UnsafeRawBufferPointer, isBinary: Bool) {
        entries.append(Entry(offset: Int32(bytes.count), length: Int32(value.count), isBinary: isBinary))
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
