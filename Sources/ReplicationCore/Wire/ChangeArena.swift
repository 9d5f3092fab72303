/// Row values of many changes in one block of memory: no allocation per row or value.
///
/// A change refers to its cells by index, a cell to its bytes by offset.
public struct ChangeArena: Sendable {
    /// Value bytes, one after the other.
    public var bytes: [UInt8] = []
    public var cells: [Cell] = []

    public init() {}

    /// Memory held, in bytes; more than what is used while it grows.
    @inlinable public var sizeBytes: Int { bytes.capacity + cells.capacity * MemoryLayout<Cell>.stride }

    /// The same without room to grow.
    func fitted() -> ChangeArena {
        var arena = ChangeArena()
        arena.bytes = bytes.withUnsafeBufferPointer { Array($0) }
        arena.cells = cells.withUnsafeBufferPointer { Array($0) }
        return arena
    }

    public mutating func removeAll(keepingCapacity: Bool = true) {
        bytes.removeAll(keepingCapacity: keepingCapacity)
        cells.removeAll(keepingCapacity: keepingCapacity)
    }
}

/// One column value of a tuple.
public struct Cell: Sendable, Equatable {
    public enum Kind: UInt8, Sendable {
        case null
        /// A TOAST value that did not change and was not sent: not a value.
        case unchanged
        case text
        case binary
    }
    /// Start in `ChangeArena.bytes`; meaningless for `null` and `unchanged`.
    public var offset: Int
    public var length: Int32
    public var kind: Kind

    /// Where its bytes are in the arena's; empty for NULL and unchanged values.
    @inlinable public var range: Range<Int> { offset..<offset + Int(length) }

    /// Whether there are bytes of it.
    public var hasValue: Bool { kind == .text || kind == .binary }

    public init(kind: Kind, offset: Int = 0, length: Int32 = 0) {
        self.kind = kind
        self.offset = offset
        self.length = length
    }
}

/// A tuple's cells in `ChangeArena.cells`.
public struct TupleReference: Sendable, Equatable {
    public var firstCell: Int
    public var count: Int
    /// Whether some cell is an unchanged TOAST value.
    public var hasUnchanged: Bool

    public init(firstCell: Int, count: Int, hasUnchanged: Bool = false) {
        self.firstCell = firstCell
        self.count = count
        self.hasUnchanged = hasUnchanged
    }

    public var cells: Range<Int> { firstCell..<(firstCell + count) }
}
