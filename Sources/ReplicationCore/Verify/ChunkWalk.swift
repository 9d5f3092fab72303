/// Goes over a table in stretches of keys, several of them at work at a time, and knows from where it can be taken up
/// again.
///
/// The stretches cover all there is: the first begins before every key, each begins where the last one ended, and the
/// last has no end. So does every row of the *other* side belong to one at least, in whatever order it has the keys: at the
/// first border a row is after, or before; somewhere on the way from "after nothing" to "before the end" it changes.
public struct ChunkWalk: Sendable {
    /// About what one statement shall read.
    public static let targetBytes = 16 << 20
    public static let fewestRows = 100

    public let chunkRows: Int
    /// Everything up to here is compared; `nil` at the beginning.
    public private(set) var position: VerifyKey?
    /// Whether the last stretch was handed out.
    public private(set) var isAtEnd = false
    private var lower: VerifyKey?
    private var nextID = 0
    private var firstOpenID = 0
    private var finished: [Int: KeyRange] = [:]
    private var seen = (rows: 0, bytes: 0)

    /// - Parameter position: where an earlier walk was.
    public init(chunkRows: Int, from position: VerifyKey? = nil) {
        self.chunkRows = max(1, chunkRows)
        self.position = position
        lower = position
    }

    /// Where the next stretch begins.
    public var nextLower: VerifyKey? { lower }
    /// What a side reads for a row, in bytes, as far as is known.
    public var rowBytes: Int { seen.rows > 0 ? seen.bytes / (2 * seen.rows) : 0 }
    /// How many rows it should have: fewer where rows are large.
    public var nextRows: Int {
        guard seen.rows > 0, seen.bytes > 0 else { return chunkRows }
        return min(chunkRows, max(min(Self.fewestRows, chunkRows), Self.targetBytes / max(1, seen.bytes / seen.rows)))
    }

    /// Hands a stretch out.
    ///
    /// - Parameter border: its last key; `nil` when what is left is less than a stretch.
    public mutating func add(border: VerifyKey?) -> (id: Int, range: KeyRange) {
        let range = KeyRange(after: lower, through: border)
        lower = border
        isAtEnd = border == nil
        nextID += 1
        return (nextID - 1, range)
    }

    /// A stretch is compared.
    public mutating func finish(_ id: Int, _ range: KeyRange, rows: Int, bytes: Int) {
        finished[id] = range
        seen = (seen.rows + rows, seen.bytes + bytes)
        while let range = finished.removeValue(forKey: firstOpenID) {
            position = range.upper
            firstOpenID += 1
        }
    }

    /// Whether everything is compared.
    public var isComplete: Bool { isAtEnd && firstOpenID == nextID }
}
