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
        var places: [(hash: UInt64, layer: Int, index: Dictionary<RowKey, LocalHistory.Entry>.Index)] = []
        places.reserveCapacity(layers.reduce(0) { $0 + $1.count })
        for (layer, entries) in layers.enumerated() {
            for index in entries.indices { places.append((hash(entries[index].key), layer, index)) }
        }
        places.sort { ($0.hash, $0.layer) < ($1.hash, $1.layer) }
        var file = RunFile(number: number, entryCount: places.count, storage: storage)
        var rest = places[...]
        while let hash = rest.first?.hash {
            let same = rest.prefix { $0.hash == hash }
            rest = rest.dropFirst(same.count)
            // Nearly always one row, in one layer.
            var rows: [(key: RowKey, entry: LocalHistory.Entry)] = []
            for place in same {
                let (key, entry) = layers[place.layer][place.index]
                if let known = rows.firstIndex(where: { $0.key == key }) {
                    rows[known].entry.goOn(with: entry)
                } else {
                    rows.append((key, entry))
                }
            }
            try file.put(hash, rows)
        }
        return try file.finish(newestLSN: newestLSN)
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
        mutating func put(_ hash: UInt64, _ rows: [(key: RowKey, entry: LocalHistory.Entry)]) throws {
            if block.bytes.count >= HistoryRun.blockBytes { try endBlock() }
            if block.bytes.isEmpty { firstHash = hash }
            for (key, entry) in rows {
                var record = SpillWriter()
                key.put(into: &record)
                entry.put(into: &record)
                block.put(hash)
                block.put(record.bytes)
            }
            for bit in HistoryRun.bits(hash, filter.count) { filter[bit >> 6] |= 1 << UInt64(bit & 63) }
        }

        private mutating func endBlock() throws {
            let start = offset + piece.bytes.count
            let checksum = block.bytes.withUnsafeBytes { Checksum.of($0, seed: UInt64(number)) }
            piece.put(checksum)
            piece.append(block.bytes)
            blocks.append(Block(firstHash: firstHash, range: start..<(offset + piece.bytes.count)))
            block = SpillWriter()
            if piece.bytes.count >= HistoryRun.pieceBytes { try writePiece() }
        }

        private mutating func writePiece() throws {
            try storage.write(number, offset, piece.bytes)
            offset += piece.bytes.count
            piece = SpillWriter()
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

    private static func bits(_ hash: UInt64, _ words: Int) -> [Int] {
        let count = UInt64(words) << 6
        let step = hash >> 32 | 1
        return (0..<4).map { Int((hash &+ UInt64($0) &* step) % count) }
    }

    /// False when no key with this hash is in the run.
    func mayHold(_ hash: UInt64) -> Bool {
        let count = UInt64(filter.count) << 6
        let step = hash >> 32 | 1
        for index in 0..<UInt64(4) {
            let bit = Int((hash &+ index &* step) % count)
            if filter[bit >> 6] & 1 << UInt64(bit & 63) == 0 { return false }
        }
        return true
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
