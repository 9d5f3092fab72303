import PostgresClient
import ReplicationCore

/// What the reader does in the applier's place, on its own thread: small groups, one behind the other.
///
/// A chunk that needs more than that, or is refused, becomes what is ahead, together with those behind it.
extension GroupApplier {
    /// How many may be on their way: of a thousand a second, those that come while an answer takes 16 ms over a network.
    private static let lentLimit = 16
    /// More than this is quicker applied in bulk than by a statement for each.
    static let lentBytes = 32 << 10

    enum LentState: Equatable {
        case onItsWay
        /// Nothing is on its way any more.
        case applied
        /// One was refused; those behind it will be, and are still to be waited for.
        case refused
        /// There is something ahead, for the applier itself.
        case left
    }

    /// Who waits for an answer has this to do meanwhile, and after each.
    struct LentDuties {
        var patienceMilliseconds = 100
        /// Called now and then while the target does not answer.
        var whileWaiting: () -> Void
        /// Called when chunks are applied.
        var whenApplied: ([ChangeChunk]) -> Void = { _ in }
    }

    /// Sends a small chunk to the target, behind what is on its way.
    func sendLent(_ chunk: ChangeChunk, _ duties: LentDuties) -> LentState {
        // Copied once: it is the list that is handed on.
        let chunks = [chunk]
        if !executor.lent.isEmpty, takeLent(isAwaited: false, duties) == .refused {
            return leaveBehind(PreparedGroup(chunks: chunks), duties)
        }
        while !executor.lent.isEmpty,
            executor.lent.count >= Self.lentLimit || executor.lentBytes + chunk.sizeBytes > Self.lentBytes
        {
            if takeLent(isAwaited: true, duties) == .left { return leave(PreparedGroup(chunks: chunks)) }
        }
        let sentLSN = executor.sentLSN
        guard !hasPiece, chunk.endLSN > sentLSN, chunks.mayGoInBulk(exactUpTo: exactUpTo),
            let group = builder.preparePlanned(chunks, skipUpTo: sentLSN)
        else { return leaveBehind(PreparedGroup(chunks: chunks), duties) }
        guard let batch = group.closedBatch else { return leaveBehind(group, duties) }
        do {
            try executor.sendLent(
                group, batch, patienceMilliseconds: duties.patienceMilliseconds, whileWaiting: duties.whileWaiting)
        } catch .parameter(let index, let problem) {
            // Found before anything of it was sent: a small chunk's parameters are known.
            return leaveBehind(group.failed(by: PostgresError.parameter(index: index, problem: problem)), duties)
        } catch {
            // Nor is known what the others have come to: the target's row will say.
            return leaveAll(because: error, and: chunks)
        }
        return .onItsWay
    }

    /// Takes the answers that have come.
    ///
    /// - Parameter isAwaited: whether to wait for one, or, where one was refused, for all.
    func takeLent(isAwaited: Bool, _ duties: LentDuties) -> LentState {
        if let lentFailure { return isAwaited ? fail(lentFailure, duties) : .refused }
        var isFirst = true
        do {
            while let group = try executor.takeLent(
                isAwaited: isAwaited && isFirst, patienceMilliseconds: duties.patienceMilliseconds, whileWaiting: duties.whileWaiting)
            {
                isFirst = false
                builder.counters.add(group.counters)
                duties.whenApplied(group.chunks)
            }
        } catch {
            if isAwaited { return fail(error, duties) }
            // Waiting is for who can see to his duties meanwhile.
            lentFailure = error
            return .refused
        }
        return executor.lent.isEmpty ? .applied : .onItsWay
    }

    /// The first of those on their way has failed.
    private func fail(_ error: any Error, _ duties: LentDuties) -> LentState {
        builder.statements.avoid(executor.lent.first?.batch.fusedParts ?? [])
        do {
            try executor.abandonLent(patienceMilliseconds: duties.patienceMilliseconds, whileWaiting: duties.whileWaiting)
            return leaveAll(because: error)
        } catch let loss {
            // What is only refused would be tried again.
            return leaveAll(because: error is ApplyError ? loss : error)
        }
    }

    private func leaveAll(because error: any Error, and more: [ChangeChunk] = []) -> LentState {
        ahead = PreparedGroup(chunks: executor.lent.flatMap(\.chunks) + more).failed(by: error)
        executor.lent = []
        lentFailure = nil
        return .left
    }

    /// Leaves a group to the applier, once all before it is applied.
    private func leaveBehind(_ group: PreparedGroup, _ duties: LentDuties) -> LentState {
        while !executor.lent.isEmpty {
            if takeLent(isAwaited: true, duties) == .left { return leave(group) }
        }
        return leave(group)
    }

    /// Leaves a group to the applier, behind what is left already.
    private func leave(_ group: PreparedGroup) -> LentState {
        guard let first = ahead else {
            ahead = group
            return .left
        }
        let both = PreparedGroup(chunks: first.chunks + group.chunks)
        ahead = first.failure.map { both.failed(by: $0) } ?? both
        return .left
    }
}
