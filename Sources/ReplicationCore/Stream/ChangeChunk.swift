/// A stretch of the stream: row changes in commit order, their values, and the transactions they belong to.
///
/// A chunk normally ends at a commit. Only a transaction larger than the assembler's limit is cut into several
/// chunks; then the applier keeps its own transaction open until the one that carries the commit.
public struct ChangeChunk: Sendable {
    public var arena = ChangeArena()
    public var changes: [Change] = []
    public var truncations: [Truncation] = []
    /// In stream order; the first may have begun, and the last may end, outside this chunk.
    public var transactions: [TransactionSpan] = []
    /// The table definitions that the changes refer to.
    public var relations = RelationHistory()
    /// Whether a row may be inserted without a value: one that came under a row filter, with unchanged TOAST values.
    public var hasIncompleteInserts = false
    /// The newest heartbeat that stands in this chunk.
    public var heartbeat: Heartbeat?
    /// Everything before this LSN is in this chunk or in an earlier one.
    public var endLSN = LSN.zero
    /// Whether what came of the last transaction, in earlier chunks, is to be taken back; the chunk is otherwise empty.
    public var retracts = false

    public init() {}

    /// The one transaction of this chunk, if it is prepared at the source before it ends: such a one stands alone.
    public var twoPhase: TransactionSpan? { isTwoPhase ? transactions[0] : nil }
    // By index and inlined, here and below: else a span or all of the chunk is copied, and each small transaction asks several times.
    /// Whether it has such a transaction.
    @inlinable public var isTwoPhase: Bool {
        if !transactions.isEmpty, case .some = transactions[0].twoPhase { true } else { false }
    }
    /// Whether the last transaction goes on in the next chunk.
    @inlinable public var isOpenEnded: Bool { !transactions.isEmpty && !transactions[transactions.count - 1].isCommitted }
    /// Whether it is a piece of a transaction that may not have committed yet, and may be retracted.
    @inlinable public var isEarly: Bool { !transactions.isEmpty && transactions[transactions.count - 1].isEarly }
    @inlinable public var isEmpty: Bool { transactions.isEmpty && endLSN == .zero && !retracts }

    /// Memory in use, in bytes.
    @inlinable public var sizeBytes: Int {
        arena.sizeBytes + changes.count * MemoryLayout<Change>.stride
            + transactions.count * MemoryLayout<TransactionSpan>.stride
            + truncations.reduce(0) { $0 + MemoryLayout<Truncation>.stride + $1.relations.count * MemoryLayout<Int>.stride }
    }
}

/// One row change, or one `TRUNCATE`.
public struct Change: Sendable, Equatable {
    public enum Kind: UInt8, Sendable { case insert, update, delete, truncate }

    public var kind: Kind
    public var oldKind: OldTuple.Kind?
    /// Index into the stream's `RelationHistory`; for a truncation, into `ChangeChunk.truncations`.
    public var relation: Int
    public var old: TupleReference
    public var new: TupleReference

    public init(
        kind: Kind, relation: Int, old: OldTuple? = nil, new: TupleReference = TupleReference(firstCell: 0, count: 0)
    ) {
        self.kind = kind
        self.relation = relation
        oldKind = old?.kind
        self.old = old?.tuple ?? TupleReference(firstCell: 0, count: 0)
        self.new = new
    }
}

public struct Truncation: Sendable, Equatable {
    /// Indexes into the stream's `RelationHistory`.
    public var relations: [Int]
    public var cascades: Bool
    public var restartsIdentity: Bool
}

/// A source transaction's part of a chunk.
public struct TransactionSpan: Sendable, Equatable {
    public var xid: UInt32
    /// LSN of the commit record, known from the start.
    public var commitLSN: LSN
    /// LSN just after the commit record; the progress to record. Zero until the commit has been read.
    public var endLSN: LSN
    public var commitTime: PostgresTime
    /// The replication origin that the transaction came from, when it was itself replicated.
    public var origin: String?
    /// Contents of its messages with prefix `SplitNote.messagePrefix`.
    public var notes: [[UInt8]] = []
    /// How many of the transaction's changes, from its beginning, came before each note.
    public var notePositions: [Int] = []
    /// Its changes in `ChangeChunk.changes`.
    public var changes: Range<Int>
    /// How many of its changes came in earlier chunks.
    public var precedingCount = 0
    /// Whether earlier chunks have a piece of it, were it an empty one.
    var isCut = false
    /// Which step of a prepared transaction it is; `nil` for one that commits at once.
    public var twoPhase: TwoPhaseStep?
    /// Whether its commit has not been seen yet: `commitLSN` is a position before it.
    public var isEarly = false
    /// Whether the whole of it has been read.
    @inlinable public var isCommitted: Bool { endLSN != .zero }
}

/// A step of a transaction that is prepared at the source before it commits or is rolled back.
public enum TwoPhaseStep: Sendable, Equatable {
    /// Its changes, to be prepared on the target. `endLSN` is that of the Prepare, known from the start; the span's
    /// `commitLSN` and `commitTime` are the Prepare's, too.
    case prepare(endLSN: LSN)
    case commit
    case rollback
}

/// The sign of life that a worker writes into the source's WAL and reads back from the stream.
public struct Heartbeat: Sendable, Equatable {
    /// Prefix of the logical messages that carry it.
    public static let messagePrefix = "lindero.heartbeat"
    /// Counts up within one run of a worker.
    public var sequence: Int64
    /// The worker that wrote it; others ignore it.
    public var worker: String
    public var sourceLSN: LSN
    public var sentAt: PostgresTime

    public init(sequence: Int64, worker: String, sourceLSN: LSN, sentAt: PostgresTime) {
        self.sequence = sequence
        self.worker = worker
        self.sourceLSN = sourceLSN
        self.sentAt = sentAt
    }

    /// In the place of a worker: somebody waits for the direction to pass it.
    public static let markerWorker = "marker"
    public var isMarker: Bool { worker == Self.markerWorker }

    /// The message's content: `sequence worker`.
    public static func content(sequence: Int64, worker: String) -> String { "\(sequence) \(worker)" }

    /// Reads a message's content; `nil` when it is not ours.
    public init?(content: [UInt8], sourceLSN: LSN, sentAt: PostgresTime) {
        let parts = String(decoding: content, as: UTF8.self).split(separator: " ")
        guard parts.count == 2, let sequence = Int64(parts[0]) else { return nil }
        self.init(sequence: sequence, worker: String(parts[1]), sourceLSN: sourceLSN, sentAt: sentAt)
    }
}
