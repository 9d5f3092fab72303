/// Transactions that the server streams while they still run, until each of them commits or is rolled back.
///
/// The messages are kept as they came, in memory up to a limit, and beyond it in files, by whoever carries out what
/// `nextSpill` says; also where `EarlyReplay` has one of them applied meanwhile, since it may have to give way. Positions are no business of this type: the server
/// keeps the WAL of a running transaction whatever is confirmed, and sends it all again on the next connection, for it
/// decides by the commit's position. So nothing here may hold back, or stand for, progress.
public struct StreamedTransactions: Sendable {
    public enum Event: Sendable {
        /// Not of a streamed transaction: decode and assemble it.
        case ordinary
        /// Nothing to be done.
        case kept
        /// Its first messages follow.
        case began(xid: UInt32)
        /// The message was added to what is kept of it.
        case added(xid: UInt32)
        /// What was kept of it is not what will be replayed: some of it was taken back, or it came from elsewhere.
        case changed(xid: UInt32)
        /// It is to be replayed now, before anything that follows in the stream.
        indirect case committed(StreamedCommit)
        /// It is over, and nothing of it waits; its file, if it had one, is not needed any more.
        case ended(xid: UInt32, hasFile: Bool)
    }

    private let limitBytes: Int
    private let blockBytes: Int
    private let subtransactionLimit: Int
    private var decoder = PGOutputDecoder(protocolVersion: 2)
    private var waiting: [UInt32: StreamedTransaction] = [:]
    private var waitingBytes = 0
    /// The one whose segment is being read; not among those that wait.
    private var current: StreamedTransaction?

    /// - Parameter limitBytes: of memory for all of them together; passed by one read at most.
    public init(limitBytes: Int) {
        self.limitBytes = limitBytes
        blockBytes = max(4 << 10, min(256 << 10, limitBytes / 4))
        subtransactionLimit = max(256, limitBytes / 64)
    }

    /// Between Stream Start and Stream Stop.
    public var isInSegment: Bool { current != nil }
    /// How many there are.
    public var count: Int { waiting.count + (current == nil ? 0 : 1) }
    public var sizeBytes: Int { waitingBytes + (current?.sizeBytes ?? 0) }

    /// Takes the message that fills `range`.
    ///
    /// - Parameter announcement: its number among the announcements of the stream, should it be one.
    public mutating func handle(
        _ bytes: [UInt8], _ range: Range<Int>, announcement: UInt64
    ) throws -> Event {
        guard let kind = range.isEmpty ? nil : bytes[range.lowerBound] else { return .ordinary }
        if let xid = current?.xid { return try handleInSegment(kind, bytes, range, announcement, of: xid) }
        switch kind {
        case UInt8(ascii: "S"), UInt8(ascii: "c"), UInt8(ascii: "A"), UInt8(ascii: "p"):
            return try handleControl(bytes, range)
        default: return .ordinary
        }
    }

    private mutating func handleInSegment(
        _ kind: UInt8, _ bytes: [UInt8], _ range: Range<Int>, _ announcement: UInt64, of top: UInt32
    ) throws -> Event {
        switch kind {
        case UInt8(ascii: "I"), UInt8(ascii: "U"), UInt8(ascii: "D"), UInt8(ascii: "T"), UInt8(ascii: "M"):
            let xid = try Self.xid(bytes, range)
            current?.keep(bytes[range], of: xid, announcement: nil, blockBytes: blockBytes)
        case UInt8(ascii: "R"):
            let xid = try Self.xid(bytes, range)
            current?.keep(bytes[range], of: xid, announcement: announcement, blockBytes: blockBytes)
        case UInt8(ascii: "Y"):
            return .kept
        case UInt8(ascii: "O"), UInt8(ascii: "E"):
            return try handleControl(bytes, range)
        default:
            throw StreamError.unexpected(
                "a message of another kind inside a segment of a streamed transaction")
        }
        return .added(xid: top)
    }

    private mutating func handleControl(_ bytes: [UInt8], _ range: Range<Int>) throws -> Event {
        var arena = ChangeArena()
        switch try decoder.decode(bytes, range, into: &arena) {
        case .streamStart(let xid, let isFirstSegment):
            try start(xid, isFirstSegment: isFirstSegment)
            if isFirstSegment { return .began(xid: xid) }
        case .origin(_, let name):
            current?.origin = name
            if let xid = current?.xid { return .changed(xid: xid) }
        case .streamStop:
            park()
        case .streamCommit(let xid, let commitLSN, let endLSN, let commitTime):
            return .committed(
                StreamedCommit(try finished(xid), commitLSN: commitLSN, endLSN: endLSN, commitTime: commitTime))
        case .streamPrepare(let prepareLSN, let endLSN, let prepareTime, let xid, let gid):
            return .committed(
                StreamedCommit(
                    try finished(xid), commitLSN: prepareLSN, endLSN: endLSN, commitTime: prepareTime, preparedAs: gid))
        case .streamAbort(let xid, let subxid, _, _):
            return try abort(xid, subxid)
        default:
            throw StreamError.unexpected("a message that is not of a streamed transaction")
        }
        return .kept
    }

    private mutating func finished(_ xid: UInt32) throws -> StreamedTransaction {
        guard let transaction = remove(xid) else {
            throw StreamError.unexpected("the commit of a streamed transaction that never began")
        }
        return transaction
    }

    private mutating func start(_ xid: UInt32, isFirstSegment: Bool) throws {
        let known = remove(xid)
        guard isFirstSegment == (known == nil) else {
            throw StreamError.unexpected(
                isFirstSegment
                    ? "a streamed transaction twice" : "a streamed transaction without its beginning")
        }
        current = known ?? StreamedTransaction(xid: xid, subtransactionLimit: subtransactionLimit)
    }

    private mutating func abort(_ xid: UInt32, _ subxid: UInt32) throws -> Event {
        guard var transaction = remove(xid) else { return .kept }
        if xid == subxid { return .ended(xid: xid, hasFile: transaction.hasFile) }
        guard let isLess = transaction.abort(subxid) else { throw StreamError.tooManySubtransactions(xid: xid) }
        add(transaction)
        return isLess ? .changed(xid: xid) : .kept
    }

    private mutating func remove(_ xid: UInt32) -> StreamedTransaction? {
        guard let transaction = waiting.removeValue(forKey: xid) else { return nil }
        waitingBytes -= transaction.sizeBytes
        return transaction
    }

    /// What has to go into a file now, if memory is short: all that the largest holds.
    public mutating func nextSpill() -> Spill? {
        guard sizeBytes > limitBytes else { return nil }
        // For a moment all are equal.
        let inSegment = current?.xid
        park()
        defer { current = inSegment.flatMap { remove($0) } }
        while waitingBytes > limitBytes {
            if let xid = largest(by: \.heldBytes), var transaction = remove(xid) {
                let spill = transaction.spill()
                add(transaction)
                return spill
            }
            // Only what is known of subtransactions is left to give up, where that is what takes the room.
            let knownBytes = waiting.values.reduce(0) { $0 + $1.subtransactionBytes }
            guard knownBytes > max(16 << 10, limitBytes / 4), let xid = largest(by: \.subtransactionBytes),
                var transaction = remove(xid)
            else { return nil }
            let isLess = transaction.forgetSubtransactions()
            add(transaction)
            if !isLess { return nil }
        }
        return nil
    }

    /// The one with most of something; `nil` when none has any.
    private func largest(by size: KeyPath<StreamedTransaction, Int>) -> UInt32? {
        let largest = waiting.max { $0.value[keyPath: size] < $1.value[keyPath: size] }
        return largest.flatMap { $0.value[keyPath: size] == 0 ? nil : $0.key }
    }

    private mutating func park() {
        guard let transaction = current else { return }
        current = nil
        add(transaction)
    }

    private mutating func add(_ transaction: StreamedTransaction) {
        waiting[transaction.xid] = transaction
        waitingBytes += transaction.sizeBytes
    }

    private static func xid(_ bytes: [UInt8], _ range: Range<Int>) throws(WireError) -> UInt32 {
        let start = range.lowerBound
        guard range.count >= 5 else { throw .truncated(message: bytes[start], offset: start) }
        return UInt32(bytes[start + 1]) << 24 | UInt32(bytes[start + 2]) << 16 | UInt32(bytes[start + 3]) << 8
            | UInt32(bytes[start + 4])
    }
}

/// A streamed transaction that has committed or was prepared, and where its messages are.
public struct StreamedCommit: Sendable {
    public enum Piece: Sendable {
        case memory([UInt8])
        /// Of what is there the first `length` bytes count, without headers.
        case file(SpillPlace, length: Int)
    }

    public var xid: UInt32
    public var commitLSN: LSN
    public var endLSN: LSN
    public var commitTime: PostgresTime
    /// The source's name for it, if it was prepared; the positions and the time are then the Prepare's.
    public var preparedAs: String?
    public var origin: String?
    /// In the order of the stream.
    public var pieces: [Piece]
    public var hasFile: Bool

    init(
        _ transaction: StreamedTransaction, commitLSN: LSN, endLSN: LSN, commitTime: PostgresTime,
        preparedAs: String? = nil
    ) {
        self.preparedAs = preparedAs
        xid = transaction.xid
        self.commitLSN = commitLSN
        self.endLSN = endLSN
        self.commitTime = commitTime
        origin = transaction.origin
        hasFile = transaction.hasFile
        pieces =
            transaction.extents.map { .file($0.place, length: $0.length) }
            + transaction.blocks.map { .memory($0.bytes) }
    }
}
