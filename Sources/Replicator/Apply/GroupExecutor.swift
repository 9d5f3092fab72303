import PostgresClient
import ReplicationCore

/// Runs prepared steps on the target and commits them together with the progress.
///
/// A group may have begun on the other of two sessions while the one before was at work; then it goes on there. Everything else is
/// done at home.
struct GroupExecutor: Sendable {
    /// How long a position without data may stay unrecorded. Heartbeats normally record it sooner.
    static let idleRecordMilliseconds: Int64 = 10_000
    /// How often commits ask where the target's log stands: half as long as the source waits for news of it.
    static let positionMilliseconds: Int64 = 50

    /// The session at home.
    let connection: PostgresConnection
    private let settings: DirectionSettings
    private let state: DirectionState
    private var direction: String { settings.name }
    /// By session; the second is `nil` until it is needed.
    private var transactions: [TargetTransaction?]
    /// The session that is at work, or goes to work next.
    private(set) var session = ApplySession.home
    private var hasUsedSecond = false
    /// What stands prepared on the target.
    var prepared: PreparedTransactions
    private var recordedAtMilliseconds = Monotonic.milliseconds()
    /// How far the stream has been with nothing to write.
    private var idleLSN = LSN.zero
    /// The last source commit whose effect the target shows.
    private(set) var appliedLSN: LSN
    /// Of these, what is on the target's disk.
    private var ledger: FlushLedger
    var askedAtMilliseconds: Int64 = 0
    /// What is on its way to the target, in order, while the connection is lent.
    var lent: [LentGroup] = []
    /// Whether commits came after the last question.
    private var hasUnasked = false
    /// As the target said first.
    private var standbys: String?
    var counters = ApplyCounters()

    init(
        connection: PostgresConnection, settings: DirectionSettings, state: DirectionState, startLSN: LSN, prepared: PreparedTransactions
    ) {
        self.prepared = prepared
        self.connection = connection
        self.settings = settings
        self.state = state
        appliedLSN = startLSN
        ledger = FlushLedger(durableLSN: startLSN)
        transactions = [TargetTransaction(connection: connection, direction: settings.name), nil]
    }

    var transaction: TargetTransaction {
        get { transactions[session.rawValue] ?? TargetTransaction(connection: connection, direction: direction) }
        set { transactions[session.rawValue] = newValue }
    }

    /// The transaction of a session, if that is there.
    func transaction(of session: ApplySession) -> TargetTransaction? { transactions[session.rawValue] }

    /// Gives a session its transaction back, with nothing in it.
    mutating func put(_ transaction: TargetTransaction, in session: ApplySession) { transactions[session.rawValue] = transaction }

    /// Goes on with a transaction that has begun on a session: the group before it has committed.
    mutating func take(_ transaction: TargetTransaction, of session: ApplySession) async throws {
        self.session = session
        self.transaction = transaction
        if session == .second { hasUsedSecond = true }
        do {
            try await self.transaction.endEarly()
        } catch let failure as PipelineError {
            throw ApplyError.refusal(failure.error, of: nil)
        }
    }

    /// The last source commit whose effect a crash of the target cannot undo.
    var durableLSN: LSN { ledger.durableLSN }
    /// Whether everything that is applied is durable, too.
    var isSettled: Bool { ledger.isSettled && !hasUnasked }

    /// Whether a piece of a large source transaction waits for the rest of it.
    var hasPiece: Bool { transaction.hasPiece }

    /// Whether that may still be rolled back at the source.
    var isEarly: Bool { transaction.isEarly }

    /// Begins a transaction for one that still runs at the source.
    mutating func beginEarly() async throws { try await transaction.beginEarly() }

    /// It has committed there.
    mutating func endEarly() async throws { try await transaction.endEarly() }

    /// Applies a group.
    ///
    /// - Parameter whenSent: called, if all goes well, when the target has all of it and is still at work.
    mutating func apply(_ group: PreparedGroup, whenSent: @escaping @Sendable () -> Void = {}) async throws {
        if let batch = group.closedBatch {
            whenSent()
            return try await commit(group.chunks, with: batch, asksConstraints: group.firesTriggers)
        }
        let last = group.work.lastIndex { !$0.isCheck }
        if last == nil, !group.free.isEmpty { whenSent() }
        var check = StepBatch()
        for (position, work) in group.work.enumerated() {
            switch work {
            case .statements(let batch): try await run(batch, whenSent: position == last ? whenSent : nil)
            case .copy(let copy): try await transaction.apply(copy, whenSent: position == last ? whenSent : nil)
            case .check(let batch): check = batch
            }
        }
        if group.chunks.last?.isOpenEnded == false {
            try await commit(group.chunks, with: check)
        } else {
            try await run(check)
        }
    }

    /// Runs one batch and compares what it did with what it should have done.
    mutating func run(_ batch: StepBatch, whenSent: (@Sendable () -> Void)? = nil) async throws {
        for expected in try await transaction.apply(batch, whenSent: whenSent) {
            guard let change = expected.change else { throw ApplyError.missingRow(nil) }
            if try await mayWait(change) { throw ApplyError.missingRow(change) }
            counters.missingRows += 1
            if settings.replication.missingRow == .stop { throw ApplyError.missingRow(change) }
        }
    }

    /// Whether the row that is missing may be one that waits in quarantine: to pass a delete of it would have a retry bring it back.
    private func mayWait(_ change: FailedChange) async throws -> Bool {
        guard settings.quarantines(change.table) else { return false }
        return try await transaction.connection.query(
            """
            SELECT 1 FROM lindero.quarantine
            WHERE direction = $1 AND schema_name = $2 AND table_name = $3 AND state = 'open' LIMIT 1
            """, [.text(direction), .text(change.table.schema), .text(change.table.name)]
        ).rowCount > 0
    }

    /// - Parameter batch: what is still to be run, in the same round trip.
    /// - Parameter asksConstraints: whether something may wait for the commit.
    mutating func commit(
        _ chunks: [ChangeChunk], with batch: StepBatch = StepBatch(), asksConstraints: Bool = true
    ) async throws {
        if let chunk = chunks.last, let span = chunk.twoPhase { return try await prepare(chunk, span, with: batch) }
        let heartbeat = chunks.reversed().lazy.compactMap(\.heartbeat).first
        try await commit(
            endLSN: max(appliedLSN, chunks.endLSN), commitTime: chunks.lastCommitTime,
            heartbeat: heartbeat, with: batch, asksConstraints: asksConstraints)
    }

    mutating func commit(
        endLSN: LSN, commitTime: PostgresTime?, heartbeat: Heartbeat?, with batch: StepBatch = StepBatch(),
        isAlwaysRecorded: Bool = false, asksConstraints: Bool = true
    ) async throws {
        guard endLSN > appliedLSN else { return }
        let now = Monotonic.milliseconds()
        // Nothing to write: the position alone is worth a transaction now and then, not each time.
        let isIdle = !transaction.isOpen && batch.isEmpty && heartbeat == nil
        guard !isIdle || isAlwaysRecorded || now - recordedAtMilliseconds >= Self.idleRecordMilliseconds else {
            idleLSN = endLSN
            return
        }
        do {
            let ending = transaction.ending(
                endLSN: endLSN, commitTime: commitTime, heartbeat: heartbeat,
                figures: heartbeat == nil ? LiveFigures() : state.figures, after: batch,
                asksConstraints: asksConstraints, asksPosition: isPositionDue(atMilliseconds: now))
            try handleCommit(endLSN: endLSN, try await transaction.commit(ending), atMilliseconds: now)
        } catch let failure as PipelineError {
            throw ApplyError.refusal(failure.error, of: batch.change(at: failure.stepIndex))
        }
    }

    /// Whether a position is still to be recorded that the source does not tell again; what a transaction has begun with goes first.
    var hasUnrecorded: Bool { idleLSN > appliedLSN && !transaction.isOpen }

    /// Records it once that is due.
    mutating func recordIdle() async throws {
        guard hasUnrecorded else { return }
        try await commit(endLSN: idleLSN, commitTime: nil, heartbeat: nil)
    }

    func isPositionDue(atMilliseconds now: Int64) -> Bool {
        now - askedAtMilliseconds >= Self.positionMilliseconds
    }

    mutating func handleCommit(endLSN: LSN, _ position: LogPosition?, atMilliseconds now: Int64) throws {
        session = .home
        hasUnasked = position == nil
        if let position {
            askedAtMilliseconds = now
            ledger.handleCommit(sourceLSN: endLSN, targetLSN: position.insertLSN)
            try handle(position)
        }
        recordedAtMilliseconds = now
        appliedLSN = endLSN
    }

    private mutating func handle(_ position: LogPosition) throws {
        ledger.handleFlush(targetLSN: position.flushLSN)
        guard position.standbys == standbys ?? position.standbys else {
            throw PostgresError.closed("the target's synchronous standbys have changed")
        }
        standbys = position.standbys
    }

    /// Asks how far the target's log is on disk.
    mutating func settle() async throws {
        if isSettled { return }
        let position = try await TargetTransaction.position(connection)
        if hasUnasked { ledger.handleCommit(sourceLSN: appliedLSN, targetLSN: position.insertLSN) }
        hasUnasked = false
        try handle(position)
    }

    /// Makes everything durable that is applied; a piece of a transaction that has no end yet is taken back.
    mutating func flush() async throws {
        await rollBack()
        if isSettled { return }
        // At home for both sessions: the other may be lost by now, and what it has committed is not.
        try await ProgressOrigin(connection: connection, direction: direction).flush(withSecond: hasUsedSecond)
        ledger.handleFlushOfAll(upTo: appliedLSN)
        hasUnasked = false
    }

    mutating func rollBack() async {
        await transaction.rollBack()
        session = .home
    }

    /// After a failed pipeline nothing that it prepared is certain. A second session that is lost is not missed.
    mutating func forgetStatements() async throws {
        session = .home
        try await transaction.forgetStatements()
        do {
            try await transactions[ApplySession.second.rawValue]?.forgetStatements()
        } catch {
            transactions[ApplySession.second.rawValue] = nil
        }
    }
}

extension [ChangeChunk] {
    var lastCommitTime: PostgresTime? {
        guard let chunk = indices.last(where: { !self[$0].transactions.isEmpty }) else { return nil }
        return self[chunk].transactions[self[chunk].transactions.count - 1].commitTime
    }

    /// Everything before it is in one of them, or came before.
    var endLSN: LSN { indices.reduce(.zero) { Swift.max($0, self[$1].endLSN) } }

    /// Memory in use, in bytes.
    var sizeBytes: Int { indices.reduce(0) { $0 + self[$1].sizeBytes } }
}
