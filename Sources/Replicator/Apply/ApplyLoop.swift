import PostgresClient
import ReplicationCore

/// Takes chunks from the mailbox and has them applied, until the mailbox is closed and empty.
struct ApplyLoop: Sendable {
    let mailbox: StreamMailbox
    let state: DirectionState
    let connection: PostgresConnection
    let settings: DirectionSettings
    let plans: PlanCache
    let startLSN: LSN
    let exactUpTo: LSN
    let quarantine: QuarantineOrders
    let late: LateRefusal
    let worker: String
    /// The last heartbeat that was sent before the stream began: a later one has everything of the backlog before it.
    let backlogSequence: Int64
    /// What stands prepared on the target.
    let prepared: PreparedTransactions
    /// Where the next group may begin while one is at work.
    let second: SecondSession?

    func run() async throws { try await run(on: connection) }

    /// Runs on the connection's own thread, and waits there: a transaction that comes alone is applied without another
    /// thread's help.
    private func run(on connection: isolated PostgresConnection) async throws {
        try await withTaskCancellationHandler {
            try await applyAll(on: connection)
        } onCancel: {
            mailbox.wake()
            // Its reader may be waiting for an answer in our place.
            connection.interrupt()
        }
    }

    private func applyAll(on connection: isolated PostgresConnection) async throws {
        let limits = settings.replication.groupLimits
        let applier = GroupApplier(
            connection: connection, settings: settings, state: state, plans: plans, startLSN: startLSN,
            exactUpTo: exactUpTo, quarantine: quarantine, late: late, prepared: prepared,
            second: second.map { second in { @Sendable in await second.open(beside: connection) } },
            lookAhead: mailbox.lookAhead(limits, leastBytes: Self.aheadBytes))
        defer { state.finishApplier() }
        do {
            try await applyAll(with: applier, on: connection)
        } catch {
            await applier.abandonOverlap()
            throw error
        }
    }

    private func applyAll(with applier: GroupApplier, on connection: isolated PostgresConnection) async throws {
        let lending = lending(of: applier)
        let arrival = HeartbeatArrival(settings: settings, state: state, backlogSequence: backlogSequence)
        var lastMilliseconds = 0
        var hasCaughtUp = false
        while true {
            // Before a group is taken that has begun: that is taken back.
            if applier.hasAhead { try Task.checkCancellation() }
            guard let group = try await nextGroup(applier, lending, after: lastMilliseconds, on: connection) else { break }
            if group.overlap == nil { try Task.checkCancellation() }
            let start = Monotonic.milliseconds()
            do {
                if second == nil {
                    try await applier.apply(group)
                } else {
                    try await Self.apply(group, with: Lent(applier: applier))
                }
            } catch {
                state.note(applier)
                throw error
            }
            lastMilliseconds = Int(Monotonic.milliseconds() - start)
            state.note(applier)
            if note(group.chunks, arrival) { hasCaughtUp = true }
            if hasCaughtUp, applier.isHomeFree {
                hasCaughtUp = false
                try await arrival.noteCaughtUp(on: connection)
            }
            // How long a transaction stays open that still runs is not ours to say; what came before it is to be acknowledged.
            if applier.isEarly, !applier.isSettled { try await applier.settle() }
        }
        try await applier.flush()
        state.note(applier)
    }

    /// Applies a group off the thread of the session at home, which may be at work on the next one meanwhile.
    @concurrent private static func apply(_ group: PreparedGroup, with lent: Lent) async throws {
        try await lent.applier.apply(group)
    }

    /// The applier, for who has it alone until he gives it back.
    private struct Lent: @unchecked Sendable { let applier: GroupApplier }

    /// What must wait before it is worth another thread's while to prepare it ahead; less is quicker done than handed over.
    private static let aheadBytes = 32 << 10
    /// How long a group of a backlog may become fuller before it is taken; and no longer than twice what the last one took, so
    /// that a target with nothing to do begins at once.
    static func patienceMilliseconds(after lastMilliseconds: Int) -> Int { min(100, 2 * lastMilliseconds) }
    /// Its log's last bytes may stay in memory for as long as nobody else commits; then it is made to write them.
    private static let settleQuestions = 5

    /// How often the reader, in the applier's place, asks whether the source has to hear of us.
    private static let lentMilliseconds = 100

    /// What the reader does in the applier's place while that waits for it.
    private func lending(of applier: GroupApplier) -> StreamMailbox.Lending {
        // The mailbox gives it to one of the two at a time.
        nonisolated(unsafe) let applier = applier
        // Not all that the loop knows: a closure that is made for each transaction would copy that.
        return StreamMailbox.Lending(
            connection: connection,
            send: { [state] chunk, whileWaiting in
                withoutActuallyEscaping(whileWaiting) { state.note(applier.sendLent(chunk, Self.duties(state, $0)), of: applier) }
            },
            take: { [state] isAwaited, whileWaiting in
                withoutActuallyEscaping(whileWaiting) {
                    state.note(applier.takeLent(isAwaited: isAwaited, Self.duties(state, $0)), of: applier)
                }
            })
    }

    private static func duties(_ state: DirectionState, _ whileWaiting: @escaping () -> Void) -> GroupApplier.LentDuties {
        GroupApplier.LentDuties(
            patienceMilliseconds: lentMilliseconds, whileWaiting: whileWaiting, whenApplied: { state.noteVisible($0) })
    }

    private func nextGroup(
        _ applier: GroupApplier, _ lending: StreamMailbox.Lending, after lastMilliseconds: Int,
        on connection: isolated PostgresConnection
    ) async throws -> PreparedGroup? {
        let limits = settings.replication.groupLimits
        let patienceMilliseconds = Self.patienceMilliseconds(after: lastMilliseconds)
        var questions = 0
        var asked = LSN.zero
        while true {
            if let ahead = applier.takeAhead() { return ahead }
            let taken = mailbox.takeBlocking(
                limits, untilQuiet: !applier.isSettled || applier.hasUnrecorded,
                patienceMilliseconds: patienceMilliseconds, lending: lending)
            switch taken {
            case .chunks(let chunks): return PreparedGroup(chunks: chunks)
            case .over: return nil
            case .left: continue
            case .quiet: break
            }
            // Others have committed meanwhile.
            if applier.appliedLSN != asked { questions = 0 }
            asked = applier.appliedLSN
            questions += 1
            // A piece of a large transaction would be taken back by a flush.
            if applier.hasPiece { questions = min(questions, Self.settleQuestions - 1) }
            if questions < Self.settleQuestions { try await applier.settle() } else { try await applier.flush() }
            try await applier.recordIdle()
            state.note(applier)
        }
    }

    /// Measures what has just become visible on the target; whether the direction has caught up by it.
    private func note(_ chunks: [ChangeChunk], _ arrival: HeartbeatArrival) -> Bool {
        var hasCaughtUp = false
        state.noteVisible(chunks)
        for chunk in chunks {
            if let beat = chunk.heartbeat, beat.worker == worker, arrival.handle(beat) { hasCaughtUp = true }
        }
        return hasCaughtUp
    }
}

extension DirectionState {
    /// What an applier has come to.
    fileprivate func note(_ applier: GroupApplier) {
        note(applied: applier.appliedLSN, durable: applier.durableLSN)
        add(applier.takeCounters())
    }

    fileprivate func note(_ state: GroupApplier.LentState, of applier: GroupApplier) -> StreamMailbox.LentOutcome {
        note(applier)
        return switch state {
        case .onItsWay: .onItsWay
        case .refused: .refused
        case .applied: .applied(isSettled: applier.isSettled)
        case .left: .leftToApplier
        }
    }

    fileprivate func noteVisible(_ chunks: [ChangeChunk]) {
        for chunk in chunks.indices {
            guard let last = chunks[chunk].transactions.indices.last, chunks[chunk].transactions[last].isVisible else { continue }
            withLag { $0.handleApplied(chunks[chunk].transactions[last].commitTime) }
        }
    }
}

extension TransactionSpan {
    /// Whether readers of the target see it, once it is applied.
    fileprivate var isVisible: Bool {
        if case .prepare = twoPhase { return false }
        return isCommitted
    }
}
