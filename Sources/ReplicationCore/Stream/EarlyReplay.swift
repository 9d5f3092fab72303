/// Hands a streamed transaction to the assembler while it still runs, as long as nothing else comes meanwhile.
///
/// The target can then be at work on it long before its commit, and has little left to do after that. What is handed over
/// stays kept by `StreamedTransactions`: whatever else is to be applied first, or takes some of it back, has it retracted,
/// and then it is replayed at its commit like any other. One transaction at a time, from its first message or not at all.
public struct EarlyReplay: Sendable {
    /// Only what commits behind this may be applied before its commit: up to here some of it may be on the target.
    private let fromLSN: LSN
    private var decoder = PGOutputDecoder(protocolVersion: 2, isInStream: true)
    /// The transaction that is handed over.
    public private(set) var xid: UInt32?
    /// How many messages of transactions have been handed over.
    public private(set) var messageCount = 0
    /// Whether a heartbeat has come meanwhile, and was passed over: the next one after the transaction's end tells as much.
    public private(set) var holdsHeartbeat = false
    /// Of what comes from outside: a transaction that has nothing but heartbeats so far.
    private var held: [PGOutputMessage] = []
    private var heldDecoder = PGOutputDecoder(protocolVersion: 2)

    /// - Parameter fromLSN: where the stream begins, and no less than what was copied or has to be applied in exact order.
    public init(fromLSN: LSN) { self.fromLSN = fromLSN }

    /// Takes what `StreamedTransactions` made of a message.
    ///
    /// - Parameters:
    ///   - reached: the furthest position that the stream has shown. What has not committed yet commits behind it.
    ///   - sentAt: when the source sent the message.
    ///   - announcement: the message's number among the announcements of the stream, should it be one.
    /// - Returns: whether the event has been dealt with; else it is still to be.
    public mutating func handle(
        _ event: StreamedTransactions.Event, _ bytes: [UInt8], _ range: Range<Int>, reached: LSN, sentAt: PostgresTime,
        announcement: UInt64, assembler: inout TransactionAssembler
    ) throws -> Bool {
        switch event {
        case .began(let id):
            guard xid == nil, !assembler.isInTransaction, reached >= fromLSN else { return false }
            try assembler.beginEarly(xid: id, after: reached, sentAt: sentAt)
            xid = id
        case .added(let id) where id == xid:
            try add(bytes, range, announcement, &assembler)
        case .changed(let id) where id == xid, .ended(let id, _) where id == xid:
            retract(&assembler)
        case .committed(let commit):
            guard commit.xid == xid, commit.preparedAs == nil else {
                retract(&assembler)
                return false
            }
            end()
            assembler.endOwnRelations()
            try assembler.handle(.commit(commitLSN: commit.commitLSN, endLSN: commit.endLSN, commitTime: commit.commitTime))
            return true
        case .ordinary, .kept, .added, .changed, .ended: break
        }
        return false
    }

    private mutating func add(
        _ bytes: [UInt8], _ range: Range<Int>, _ announcement: UInt64, _ assembler: inout TransactionAssembler
    ) throws {
        messageCount += 1
        switch try decoder.decode(bytes, range, into: &assembler.arena) {
        case .relation(let relation, _): assembler.record(relation, announcement: announcement)
        // Nobody could read the table until the commit, however far away that is.
        case .truncate: retract(&assembler)
        case let message: try assembler.handle(message)
        }
    }

    /// Takes a message from outside of streamed transactions, or gives way to it: then it is to be handled as always.
    ///
    /// A transaction without changes can be passed over: the one that is handed over commits behind it. Heartbeats come in
    /// such. A marker is waited for.
    public mutating func takes(
        _ bytes: [UInt8], _ range: Range<Int>, _ assembler: inout TransactionAssembler
    ) throws -> Bool {
        guard xid != nil, !range.isEmpty else { return false }
        // Only what has no values is decoded here: those of others must not stand where this transaction's are cut off.
        var arena = ChangeArena()
        switch bytes[range.lowerBound] {
        case UInt8(ascii: "B") where held.isEmpty:
            held = [try heldDecoder.decode(bytes, range, into: &arena)]
            return true
        case UInt8(ascii: "M"):
            let message = try heldDecoder.decode(bytes, range, into: &arena)
            guard case .message(_, let lsn, Heartbeat.messagePrefix, let content, _) = message,
                let beat = Heartbeat(content: content, sourceLSN: lsn, sentAt: PostgresTime(microseconds: 0)), !beat.isMarker
            else { break }
            if !held.isEmpty { held.append(message) }
            holdsHeartbeat = true
            return true
        case UInt8(ascii: "C") where !held.isEmpty:
            held = []
            return true
        default: break
        }
        let waiting = held
        retract(&assembler)
        for message in waiting { try assembler.handle(message) }
        return false
    }

    /// Has everything taken back that was handed over of a transaction; it is replayed at its commit.
    public mutating func retract(_ assembler: inout TransactionAssembler) {
        guard xid != nil else { return }
        end()
        assembler.retract()
    }

    private mutating func end() { (xid, holdsHeartbeat, held) = (nil, false, []) }
}
