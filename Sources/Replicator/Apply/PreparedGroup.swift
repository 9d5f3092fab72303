import PostgresClient
import ReplicationCore

/// A part of a prepared group, in the order in which the target takes it.
enum GroupWork: Sendable {
    case statements(StepBatch)
    /// Many inserts: what a COPY takes costs the server a third less than the same rows in arrays.
    case copy(RowCopy)
    /// Whether all that came before may stand.
    case check(StepBatch)

    var isCheck: Bool { if case .check = self { true } else { false } }
}

/// The rows of one COPY; they are encoded while they are sent.
struct RowCopy: Sendable {
    var sql: String
    var encoder: CopyEncoder
}

extension PostgresConnection {
    /// Copies rows in; how many the server took.
    ///
    /// - Parameter whenSent: called when the last of them is on its way.
    func copy(_ copy: RowCopy, whenSent: (@Sendable () -> Void)?) async throws(PostgresError) -> Int {
        var encoder = copy.encoder
        return try await copyIn(copy.sql) { piece, pieceBytes in
            let hasMore = encoder.write(to: &piece, pieceBytes: pieceBytes)
            if !hasMore { whenSent?() }
            return hasMore
        }
    }
}

/// Chunks for one target transaction and, once prepared, the statements that apply them.
struct PreparedGroup: Sendable {
    let chunks: [ChangeChunk]
    /// What touches nothing that the group before does: it may be done while that is at work, and is done before the rest.
    private(set) var free: [GroupWork] = []
    private(set) var work: [GroupWork] = []
    /// Which rows all of it touches.
    private(set) var footprint = GroupFootprint.everything
    /// The free part is under way, on the session that the statements are for.
    var overlap: GroupOverlap?
    /// What the statements stand for.
    private(set) var counters = ApplyCounters()
    /// Whether a trigger of the target fires for a change, and so may leave something for the commit.
    private(set) var firesTriggers = true
    /// Names prepared statements: those of one session, until it forgets them.
    struct Statements: Sendable, Equatable {
        var session: ApplySession
        var generation: Int
    }

    /// What its work names; `nil` before preparation.
    private(set) var statements: Statements?
    /// Why it could not be applied where it came.
    private(set) var failure: (any Error)?

    init(chunks: [ChangeChunk]) { self.chunks = chunks }

    init(
        chunks: [ChangeChunk], free: [GroupWork] = [], work: [GroupWork], footprint: GroupFootprint = .everything,
        counters: ApplyCounters, firesTriggers: Bool, statements: Statements
    ) {
        self.firesTriggers = firesTriggers
        self.chunks = chunks
        self.free = free
        self.work = work
        self.footprint = footprint
        self.counters = counters
        self.statements = statements
    }

    /// The same group, to go the way that this error asks for.
    func failed(by error: any Error) -> PreparedGroup {
        var group = self
        group.failure = error
        return group
    }

    /// Everything, when it fits one round trip and the target itself checks what it must: it may then commit unseen.
    var closedBatch: StepBatch? {
        guard free.isEmpty, work.count == 1, case .statements(let batch) = work[0], batch.checksItself,
            let last = chunks.indices.last, !chunks[last].isOpenEnded
        else { return nil }
        return batch
    }

    var firstCommitLSN: LSN { chunks.firstCommitLSN }

}

extension [ChangeChunk] {
    /// Commit of the first source transaction; zero when there is none.
    var firstCommitLSN: LSN {
        for index in indices where !self[index].transactions.isEmpty { return self[index].transactions[0].commitLSN }
        return .zero
    }
}
