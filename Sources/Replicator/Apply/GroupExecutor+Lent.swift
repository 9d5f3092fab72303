import PostgresClient
import ReplicationCore

/// A small group on its way to the target.
struct LentGroup: Sendable {
    let chunks: [ChangeChunk]
    let batch: StepBatch
    let counters: ApplyCounters
    let ending: TargetTransaction.Ending
    let endLSN: LSN
    let sizeBytes: Int

    /// - Parameter ending: what was sent.
    fileprivate init(_ group: PreparedGroup, _ batch: StepBatch, _ ending: TargetTransaction.Ending) {
        chunks = group.chunks
        self.batch = batch
        counters = group.counters
        self.ending = ending
        endLSN = chunks.endLSN
        sizeBytes = chunks.sizeBytes
    }
}

/// What goes to the target on a thread to which the connection is lent, each group behind those that the target still works on.
///
/// Each but the first is void unless the one before it took effect: the row that it writes its place to must show that one's.
extension GroupExecutor {
    /// End of the last source commit that is applied or on its way.
    var sentLSN: LSN { lent.isEmpty ? appliedLSN : lent[lent.count - 1].endLSN }

    /// How many bytes of them there are.
    var lentBytes: Int { lent.indices.reduce(0) { $0 + lent[$1].sizeBytes } }

    /// Sends a group that commits; what it comes to is taken later.
    ///
    /// - Parameter batch: all of it.
    mutating func sendLent(
        _ group: PreparedGroup, _ batch: StepBatch, patienceMilliseconds: Int, whileWaiting: () -> Void
    ) throws(PostgresError) {
        let now = Monotonic.milliseconds()
        let asksPosition = isPositionDue(atMilliseconds: now)
        if asksPosition { askedAtMilliseconds = now }
        let ending = transaction.ending(
            endLSN: group.chunks.endLSN, behind: lent.isEmpty ? nil : sentLSN, commitTime: group.chunks.lastCommitTime, heartbeat: nil,
            after: batch, asksConstraints: group.firesTriggers, asksPosition: asksPosition)
        try transaction.sendLent(ending, patienceMilliseconds: patienceMilliseconds, whileWaiting: whileWaiting)
        lent.append(LentGroup(group, batch, ending))
    }

    /// Takes the answer to the first, if it is there, or waits for it.
    ///
    /// - Returns: what is applied by it; `nil` if the answer is not there.
    /// - Throws: `ApplyError` if it was refused, `PostgresError`; it is still the first then.
    mutating func takeLent(
        isAwaited: Bool, patienceMilliseconds: Int, whileWaiting: () -> Void
    ) throws -> LentGroup? {
        if lent.isEmpty { return nil }
        let answer =
            isAwaited
            ? try connection.awaitLent(patienceMilliseconds: patienceMilliseconds, whileWaiting: whileWaiting)
            : try connection.takeLent()
        guard let answer else { return nil }
        do {
            let position = try transaction.handleLent(answer, to: lent[0].ending)
            try handleCommit(endLSN: lent[0].endLSN, position, atMilliseconds: Monotonic.milliseconds())
        } catch let failure as PipelineError {
            throw ApplyError.refusal(failure.error, of: lent[0].batch.change(at: failure.stepIndex))
        }
        return lent.removeFirst()
    }

    /// Waits for those that are left after the first has failed: none of them takes effect, and each says so.
    ///
    /// - Throws: `PostgresError`, where one of them says something else, or nothing any more.
    mutating func abandonLent(patienceMilliseconds: Int, whileWaiting: () -> Void) throws(PostgresError) {
        for group in lent.dropFirst() {
            let answer = try connection.awaitLent(patienceMilliseconds: patienceMilliseconds, whileWaiting: whileWaiting)
            if case .success = answer {
                throw .protocolViolation("a transaction took effect that was sent behind one that was refused")
            }
            _ = try? transaction.handleLent(answer, to: group.ending)
            whileWaiting()
        }
    }
}
