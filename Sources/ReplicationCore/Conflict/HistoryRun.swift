/// Where a history keeps what is too much for memory: given by whoever may write files.
public struct HistoryStorage: Sendable {
    /// Keeps a run's bytes under its number.
    public var write: @Sendable (_ run: Int, _ bytes: [UInt8]) throws -> Void
    /// A part of them.
    public var read: @Sendable (_ run: Int, _ range: Range<Int>) throws -> [UInt8]
    public var remove: @Sendable (_ run: Int) -> Void

    public init(
        write: @escaping @Sendable (Int, [UInt8]) throws -> Void,
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

    /// Lays out entries as a run; its bytes are to be written.
    static func make(
        number: Int, newestLSN: LSN, _ entries: [RowKey: LocalHistory.Entry]
    ) -> (run: HistoryRun, bytes: [UInt8]) {
        let sorted = entries.map { (hash: hash($0.key), key: $0.key, entry: $0.value) }.sorted { $0.hash < $1.hash }
        var filter = [UInt64](repeating: 0, count: max(1, sorted.count / 8))
        var blocks: [Block] = []
        var (file, block) = (SpillWriter(), SpillWriter())
        func finish(_ firstHash: UInt64) {
            let start = file.bytes.count
            let checksum = block.bytes.withUnsafeBytes { Checksum.of($0, seed: UInt64(number)) }
            file.put(checksum)
            file.append(block.bytes)
            blocks.append(Block(firstHash: firstHash, range: start..<file.bytes.count))
            block = SpillWriter()
        }
        var firstHash: UInt64 = 0
        var lastHash: UInt64?
        for (hash, key, entry) in sorted {
            // Equal hashes stay together: a look-up reads one block.
            if block.bytes.count >= blockBytes, hash != lastHash { finish(firstHash) }
            if block.bytes.isEmpty { firstHash = hash }
            lastHash = hash
            var record = SpillWriter()
            key.put(into: &record)
            entry.put(into: &record)
            block.put(hash)
            block.put(record.bytes)
            for bit in bits(hash, filter.count) { filter[bit >> 6] |= 1 << UInt64(bit & 63) }
        }
        if !block.bytes.isEmpty { finish(firstHash) }
        return (HistoryRun(number: number, newestLSN: newestLSN, blocks: blocks, filter: filter), file.bytes)
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

    func forEach(in storage: HistoryStorage, _ body: (RowKey, LocalHistory.Entry) -> Void) throws {
        for block in blocks {
            var cursor = try cursor(over: block, in: storage)
            while !cursor.isAtEnd {
                _ = try cursor.take(UInt64.self)
                _ = try cursor.takeCount()
                body(try RowKey(&cursor), try LocalHistory.Entry(&cursor))
            }
        }
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
