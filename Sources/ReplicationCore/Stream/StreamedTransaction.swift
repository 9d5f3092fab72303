/// One transaction that the server streams while it still runs: its messages as they came, first in a file, then in
/// memory.
///
/// What an abort takes back is cut off the end. The file is written at places that are given here, so what is left over
/// there is overwritten, and writing something twice does no harm.
struct StreamedTransaction: Sendable {
    /// Messages in memory.
    struct Block: Sendable {
        /// Offset of the first byte, counted over all that is kept of the transaction.
        var start: Int
        var bytes: [UInt8] = []

        var end: Int { start + bytes.count }
    }

    /// Messages in the file.
    struct Extent: Sendable {
        var start: Int
        /// Bytes that count; fewer than there are after a cut.
        var length = 0
        var isCut = false
        var place: SpillPlace

        var end: Int { start + length }
    }

    /// The announcement's number stands before the message.
    static let announcementFlag: UInt32 = 1 << 31
    /// What is read back at once, about.
    private static let extentBytes = 1 << 20

    let xid: UInt32
    var origin: String?
    private(set) var extents: [Extent] = []
    private(set) var blocks: [Block] = []
    private(set) var hasFile = false
    /// Memory held by blocks, in bytes.
    private(set) var heldBytes = 0
    private var nextSequence: UInt32 = 0
    private var subtransactions: SubtransactionStack

    init(xid: UInt32, subtransactionLimit: Int) {
        self.xid = xid
        subtransactions = SubtransactionStack(limit: subtransactionLimit)
    }

    var sizeBytes: Int {
        256 + heldBytes + blocks.capacity * MemoryLayout<Block>.stride + extents.capacity
            * MemoryLayout<Extent>.stride
            + subtransactions.sizeBytes
    }

    private var end: Int { blocks.last?.end ?? extents.last?.end ?? 0 }

    /// Keeps a message of `subxid`.
    ///
    /// - Parameter announcement: the number of a table's definition.
    mutating func keep(
        _ message: ArraySlice<UInt8>, of subxid: UInt32, announcement: UInt64?, blockBytes: Int
    ) {
        let size = 4 + (announcement == nil ? 0 : 8) + message.count
        if blocks.last.map({ !$0.bytes.isEmpty && $0.bytes.count + size > blockBytes }) ?? true {
            // The first grows as it needs: most transactions that run at a time may be small.
            addBlock(capacity: blocks.isEmpty ? 0 : max(size, blockBytes))
        }
        let index = blocks.count - 1
        subtransactions.note(subxid, top: xid, at: blocks[index].end)
        heldBytes -= blocks[index].bytes.capacity
        let length =
            UInt32(truncatingIfNeeded: message.count) | (announcement == nil ? 0 : Self.announcementFlag)
        withUnsafeBytes(of: length.littleEndian) { blocks[index].bytes.append(contentsOf: $0) }
        if let announcement {
            withUnsafeBytes(of: announcement.littleEndian) { blocks[index].bytes.append(contentsOf: $0) }
        }
        blocks[index].bytes.append(contentsOf: message)
        heldBytes += blocks[index].bytes.capacity
    }

    private mutating func addBlock(capacity: Int) {
        var block = Block(start: end)
        block.bytes.reserveCapacity(capacity)
        heldBytes += block.bytes.capacity
        blocks.append(block)
    }

    var subtransactionBytes: Int { subtransactions.sizeBytes }

    /// Gives up where the older half of the subtransactions begin.
    mutating func forgetSubtransactions() -> Bool { subtransactions.forgetHalf() }

    /// Takes back a subtransaction.
    ///
    /// - Returns: whether anything was kept of it; `nil` when it is no longer known where it begins.
    mutating func abort(_ subxid: UInt32) -> Bool? {
        switch subtransactions.abort(subxid) {
        case .nothing: return false
        case .unknown: return nil
        case .from(let offset):
            cut(at: offset)
            return true
        }
    }

    private mutating func cut(at offset: Int) {
        while let last = blocks.last, last.end > offset {
            heldBytes -= last.bytes.capacity
            blocks.removeLast()
            guard last.start < offset else { continue }
            let kept = Block(start: last.start, bytes: Array(last.bytes[..<(offset - last.start)]))
            heldBytes += kept.bytes.capacity
            blocks.append(kept)
        }
        guard blocks.isEmpty else { return }
        while let last = extents.last, last.end > offset {
            extents.removeLast()
            guard last.start < offset else { continue }
            extents.append(
                Extent(start: last.start, length: offset - last.start, isCut: true, place: last.place))
        }
    }

    /// Moves what is in memory to the file.
    mutating func spill() -> Spill {
        var spill = Spill(xid: xid, isNewFile: !hasFile)
        hasFile = true
        for block in blocks {
            let offset = extents.last?.place.end ?? 0
            let header = SpillFrame.header(xid: xid, sequence: nextSequence, block: block.bytes)
            spill.frames.append(Spill.Frame(offset: offset, header: header, block: block.bytes))
            let length = header.count + block.bytes.count
            if let last = extents.last, !last.isCut, last.place.length + length <= Self.extentBytes {
                extents[extents.count - 1].length += block.bytes.count
                extents[extents.count - 1].place.length += length
            } else {
                let place = SpillPlace(offset: offset, length: length, sequence: nextSequence)
                extents.append(Extent(start: block.start, length: block.bytes.count, place: place))
            }
            nextSequence &+= 1
        }
        blocks = []
        heldBytes = 0
        return spill
    }
}

/// A stretch of frames in a transaction's file.
public struct SpillPlace: Sendable, Equatable {
    public var offset: Int
    /// With the frames' headers.
    public var length: Int
    /// Of the first frame; no two that the transaction ever wrote have the same.
    var sequence: UInt32

    var end: Int { offset + length }
}

/// What has to be written into a transaction's file. Writing it again does no harm.
public struct Spill: Sendable {
    public struct Frame: Sendable {
        public var offset: Int
        public var header: [UInt8]
        public var block: [UInt8]
    }

    public var xid: UInt32
    /// Whether the file is to be made.
    public var isNewFile: Bool
    public var frames: [Frame] = []
    public var sizeBytes: Int { frames.reduce(0) { $0 + $1.header.count + $1.block.count } }

    /// One block in a file of its own, and where it will be.
    public static func whole(_ block: [UInt8], number: UInt32) -> (spill: Spill, place: SpillPlace) {
        var spill = Spill(xid: number, isNewFile: true)
        let header = SpillFrame.header(xid: number, sequence: 0, block: block)
        spill.frames = [Frame(offset: 0, header: header, block: block)]
        return (spill, SpillPlace(offset: 0, length: header.count + block.count, sequence: 0))
    }
}
