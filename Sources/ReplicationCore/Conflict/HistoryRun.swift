/// Where a history keeps what is too much for memory: given by whoever may write files.
public struct HistoryStorage: Sendable {
    /// Keeps the next piece of a run's bytes under its number.
    public var write: @Sendable (_ run: Int, _ offset: Int, _ bytes: [UInt8]) throws -> Void
    /// A part of them.
    public var read: @Sendable (_ run: Int, _ range: Range<Int>) throws -> [UInt8]
    public var remove: @Sendable (_ run: Int) -> Void

    public init(
        write: @escaping @Sendable (Int, Int, [UInt8]) throws -> Void,
        read: @escaping @Sendable (Int, Range<Int>) throws -> [UInt8], remove: @escaping @Sendable (Int) -> Void
    ) {
        self.write = write
        self.read = read
        self.remove = remove
    }
}

/// A stretch of a history that is in a file, and what has to be known of it to look up a row: about a byte and a half for
/// each.
///
/// The file holds blocks of entries in the order of their keys' hashes, each with a checksum before it.
struct HistoryRun: Sendable {
    private static let blockBytes = 4 << 10
    private static let checksumBytes = 8
    private static let pieceBytes = 128 << 10

    private struct Block: Sendable {
        var firstHash: UInt64
        var range: Range<Int>
    }

    let number: Int
    /// Of the last transaction in it.
    let newestLSN: LSN
    private let blocks: [Block]
    /// A Bloom filter: eight bits for each entry.
    private let filter: [UInt64]

    /// Memory, in bytes.
    var indexBytes: Int { 64 + blocks.count * MemoryLayout<Block>.stride + filter.count * 8 }

    /// Lays out the entries of layers, the oldest first, as a run, and writes it piece by piece: its bytes are as many as the
    /// layers themselves.
    ///
    /// - Throws: what the storage throws.
    static func make(
        number: Int, newestLSN: LSN, _ layers: [[RowKey: LocalHistory.Entry]], in storage: HistoryStorage
    ) throws -> HistoryRun {
        var rows: [(key: RowKey, entry: LocalHistory.Entry)] = []
        rows.reserveCapacity(layers.reduce(0) { $0 + $1.count })
        for entries in layers { for row in entries { rows.append((row.key, row.value)) } }
        // Small things to sort; those of one row stay in the order of the layers.
        var places = rows.indices.map { Place(hash: hash(rows[$0].key), row: $0) }
        places.sort { $0.hash != $1.hash ? $0.hash < $1.hash : $0.row < $1.row }
        var file = RunFile(number: number, entryCount: places.count, storage: storage)
        var start = 0
        while start < places.count {
            let hash = places[start].hash
            var end = start + 1
            while end < places.count, places[end].hash == hash { end += 1 }
            // Nearly always one row, in one layer.
            try file.begin(hash)
            if end == start + 1 {
                file.put(hash, rows[places[start].row])
            } else {
                for row in joined(places[start..<end].map { rows[$0.row] }) { file.put(hash, row) }
            }
            start = end
        }
        return try file.finish(newestLSN: newestLSN)
    }

    private struct Place {
        var hash: UInt64
        var row: Int
    }

    private static func joined(
        _ parts: [(key: RowKey, entry: LocalHistory.Entry)]
    ) -> [(key: RowKey, entry: LocalHistory.Entry)] {
        var rows: [(key: RowKey, entry: LocalHistory.Entry)] = []
        for (key, entry) in parts {
            if let known = rows.firstIndex(where: { $0.key == key }) {
                rows[known].entry.goOn(with: entry)
            } else {
                rows.append((key, entry))
            }
        }
        return rows
    }

    /// A run that is being written.
    private struct RunFile {
        let number: Int
        let storage: HistoryStorage
        var filter: [UInt64]
        var blocks: [Block] = []
        var block = SpillWriter()
        var firstHash: UInt64 = 0
        /// Blocks that are not written yet, and where they begin.
        var piece = SpillWriter()
        var offset = 0

        init(number: Int, entryCount: Int, storage: HistoryStorage) {
            self.number = number
            self.storage = storage
            filter = [UInt64](repeating: 0, count: max(1, entryCount / 8))
        }

        /// Equal hashes stay together: a look-up reads one block.
        mutating func begin(_ hash: UInt64) throws {
            if block.bytes.count >= HistoryRun.blockBytes { try endBlock() }
            if block.bytes.isEmpty { firstHash = hash }
            HistoryRun.forEachBit(hash, filter.count) { bit in
                filter[bit >> 6] |= 1 << UInt64(bit & 63)
                return true
            }
        }

        mutating func put(_ hash: UInt64, _ row: (key: RowKey, entry: LocalHistory.Entry)) {
            block.put(hash)
            block.putSized { writer in
                row.key.put(into: &writer)
                row.entry.put(into: &writer)
            }
        }

        private mutating func endBlock() throws {
            let start = offset + piece.bytes.count
            let checksum = block.bytes.withUnsafeBytes { Checksum.of($0, seed: UInt64(number)) }
            piece.put(checksum)
            piece.append(block.bytes)
            blocks.append(Block(firstHash: firstHash, range: start..<(offset + piece.bytes.count)))
            block.clear()
            if piece.bytes.count >= HistoryRun.pieceBytes { try writePiece() }
        }

        private mutating func writePiece() throws {
            try storage.write(number, offset, piece.bytes)
            offset += piece.bytes.count
            piece.clear()
        }

        mutating func finish(newestLSN: LSN) throws -> HistoryRun {
            if !block.bytes.isEmpty { try endBlock() }
            if !piece.bytes.isEmpty { try writePiece() }
            return HistoryRun(number: number, newestLSN: newestLSN, blocks: blocks, filter: filter)
        }
    }

    /// FNV-1a, and a last stir so that all of its bits are worth the same.
    static func hash(_ key: RowKey) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325 ^ UInt64(truncatingIfNeeded: key.table)
        for byte in key.bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        hash ^= hash >> 32
        hash = hash &* 0x9E37_79B1_85EB_CA87
        return hash ^ hash >> 29
    }

    /// Gives the places of a hash in a filter, until `body` says no; whether it never did.
    @discardableResult
    private static func forEachBit(_ hash: UInt64, _ words: Int, _ body: (Int) -> Bool) -> Bool {
        let count = UInt64(words) << 6
        let step = hash >> 32 | 1
        for index in 0..<UInt64(4) where !body(Int((hash &+ index &* step) % count)) { return false }
        return true
    }

    /// False when no key with this hash is in the run.
    func mayHold(_ hash: UInt64) -> Bool {
        Self.forEachBit(hash, filter.count) { bit in filter[bit >> 6] & 1 << UInt64(bit & 63) != 0 }
    }

    func entry(of key: RowKey, _ hash: UInt64, in storage: HistoryStorage) throws -> LocalHistory.Entry? {
        var (low, high) = (0, blocks.count)
        while low < high {
            let middle = (low + high) / 2
            if blocks[middle].firstHash <= hash { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        var cursor = try cursor(over: blocks[low - 1], in: storage)
        while !cursor.isAtEnd {
            let found = try cursor.take(UInt64.self)
            let length = try cursor.takeCount()
            let end = cursor.offset + length
            if found > hash { return nil }
            if found == hash, try RowKey(&cursor) == key { return try LocalHistory.Entry(&cursor) }
            try cursor.skip(end - cursor.offset)
        }
        return nil
    }

    private func cursor(over block: Block, in storage: HistoryStorage) throws -> SpillCursor {
        let bytes = try storage.read(number, block.range)
        guard bytes.count == block.range.count else { throw SpillFrame.Damage.tooShort }
        var head = SpillCursor(bytes, 0..<Self.checksumBytes)
        let expected = try head.take(UInt64.self)
        let found = bytes.withUnsafeBytes {
            Checksum.of(UnsafeRawBufferPointer(rebasing: $0[Self.checksumBytes...]), seed: UInt64(number))
        }
        guard found == expected else { throw SpillFrame.Damage.altered }
        return SpillCursor(bytes, Self.checksumBytes..<bytes.count)
    }
}
