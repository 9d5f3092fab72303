import ReplicationCore
import Synchronization

/// What the two directions of a split share while their streams last: both readers, what waits to be applied, and how
/// far each side's changes are on the other side's disk.
///
/// Intakes bring chunks in, appliers take groups out. An applier that waits for its barrier is waited for by nobody: the
/// intake of the side that it writes then reads on, whatever the bounds say; what is over them waits in files.
final class SplitLedger: Sendable {
    private struct Direction {
        var reader: SplitReader
        /// From this side, not yet applied.
        var queue: SplitQueue
        /// What appliers wait for on this side.
        var barriers: [LSN] = []
        var barrierLSN: LSN { barriers.max() ?? .zero }
        /// What the direction that reads this side waits to see read of the other one within the bounds, before it asks
        /// for more than these allow, in bytes.
        var approachBytes: UInt64?
        /// Committed on the other side, not known to be on its disk.
        var committed: [(note: LSN, progress: SplitProgress)] = []
        var applied: SplitProgress
        var durable: SplitProgress
        /// Groups that were given out and have not committed; a transaction in parts is one from its last part on.
        var groupsAtWork = 0
        var isInParts = false
        /// What comes is old, and more of it is on its way.
        var isBacklog = false
        /// The applier could go on, and waits for a group that reaches one of these.
        var filling: GroupLimits?
        var isAtRest: Bool { queue.isEmpty && groupsAtWork == 0 && !isInParts }

        /// Whether there is a backlog, and less of it here than makes a group.
        func mustFill(_ limits: GroupLimits?) -> Bool {
            guard isBacklog, let limits else { return false }
            return !queue.makesFullGroup(limits)
        }
    }

    private struct Signals {
        let readable = Signal()
        let arrival = Signal()
        /// A signal has one waiter: by the side that the waiting applier reads.
        let passage = SidePair { _ in Signal() }
    }

    /// What a stream's reader asks all the time without waiting: its server ends a stream that is silent, and an applier may
    /// look for long.
    private final class Hints: Sendable {
        private let queued = Atomic(false), awaited = Atomic(false), backlog = Atomic(false)
        var isQueued: Bool { queued.load(ordering: .relaxed) }
        var isAwaited: Bool { awaited.load(ordering: .relaxed) }

        func set(isQueued: Bool, isAwaited: Bool) {
            queued.store(isQueued, ordering: .relaxed)
            awaited.store(isAwaited, ordering: .relaxed)
        }
        /// - Returns: whether that is news.
        func set(isBacklog: Bool) -> Bool { backlog.exchange(isBacklog, ordering: .relaxed) != isBacklog }
    }

    private let state: Mutex<SidePair<Direction>>
    private let hints = SidePair { _ in Hints() }
    private let isStopped = Mutex(false)
    private let signals: SidePair<Signals>
    private let files: SplitFiles
    private let pendingLimitBytes: Int
    private let historyBytes: Int
    private let stopBytes: Int

    /// - Parameter whole: a transaction that has to be applied in one piece.
    init(
        readers: SidePair<SplitReader>, progress: SidePair<SplitProgress>, settings: SplitSettings, files: SplitFiles,
        whole: SidePair<LSN?> = SidePair(origin: nil, other: nil)
    ) {
        state = Mutex(
            SidePair { side in
                Direction(
                    reader: readers[side],
                    queue: SplitQueue(
                        limitBytes: settings.pendingBytes, stopBytes: settings.stopBytes, wholeLSN: whole[side],
                        groupChanges: settings[reading: side].replication.groupLimits.changes),
                    applied: progress[side], durable: progress[side])
            })
        signals = SidePair { _ in Signals() }
        self.files = files
        pendingLimitBytes = settings.pendingBytes
        historyBytes = settings.historyBytes
        stopBytes = settings.stopBytes
    }

    // MARK: reading

    /// Waits until the next chunk of a side may be read.
    func waitUntilReadable(_ side: Side) async throws {
        while !state.withLock({ Self.mayRead($0[side]) }) {
            await signals[side].readable.wait()
            try Task.checkCancellation()
        }
    }

    private static func mayRead(_ direction: Direction) -> Bool {
        if direction.reader.readLSN < direction.barrierLSN || !direction.queue.isFull { return true }
        return direction.queue.waitsForWhole && direction.reader.isInTransaction
    }

    /// Whether what comes from a side may gather: changes of it wait to be applied; or, where an applier waits for the side to
    /// be read, more waits behind what it is at, which is worth more than the moment that is lost.
    func isBehind(_ side: Side) -> Bool {
        hints[side].isAwaited ? hints[side.opposite].isQueued : hints[side].isQueued
    }

    /// Whether most of what comes from a side is what was written there for the other one, of which more is to come, and nobody
    /// waits for the side to be read.
    func isEchoing(_ side: Side) -> Bool {
        !hints[side].isAwaited && !hints[side].isQueued && hints[side.opposite].isQueued
    }

    /// For `isBehind` and `isEchoing`.
    private func noteHints(_ state: SidePair<Direction>) {
        for side in Side.allCases {
            hints[side].set(isQueued: !state[side].queue.isEmpty, isAwaited: !state[side].barriers.isEmpty)
        }
    }

    /// Reads a chunk of a side.
    ///
    /// - Parameter sign: what in the chunk makes its position worth recording.
    /// - Throws: `SplitError` for what a split cannot carry, `SplitOverflow` for what does not fit in memory, `SpillError`.
    func read(_ chunk: SplitChunk, of side: Side, sign: SplitSign?) async throws {
        let isNews = try state.withLock { state -> Bool in
            var transactions = try state[side].reader.read(chunk.chunk) { chunk.tables[$0] }
            let smaller = NeededValues.only(of: chunk.chunk, for: &transactions) { chunk.tables[$0] }
            let kept = smaller.map { SplitChunk($0, tables: chunk.tables) } ?? chunk
            Self.keep(transactions, kept, sign, &state[side])
            try shareHistoryBytes(&state)
            guard state[side].reader.history.sizeBytes < stopBytes else { throw SplitOverflow.history(side) }
            Self.noteDurable(&state[side.opposite], seen: state[side].reader)
            Self.trim(&state, seenBy: side)
            noteHints(state)
            // Who waits for a full group would look, and wait again.
            return !state[side].mustFill(state[side].filling)
        }
        if isNews { signals[side].arrival.notify() }
        for reading in Side.allCases { signals[side].passage[reading].notify() }
        while let spill = state.withLock({ $0[side].queue.nextSpill() }) {
            let spilled = try await files.write(spill.chunks)
            guard state.withLock({ $0[side].queue.replace(spill, by: spilled) }) else {
                await files.remove(spilled)
                break
            }
            signals[side].arrival.notify()
        }
    }

    /// What one side's history does not take the other's may: a run in a file costs more than to remember.
    private func shareHistoryBytes(_ state: inout SidePair<Direction>) throws {
        for side in Side.allCases {
            let rest = 2 * historyBytes - state[side.opposite].reader.history.sizeBytes
            try state[side].reader.history.keep(within: max(historyBytes, rest))
        }
    }

    private static func keep(
        _ transactions: [SplitTransaction], _ chunk: SplitChunk, _ sign: SplitSign?, _ mine: inout Direction
    ) {
        mine.queue.append(transactions, of: chunk)
        // What is read again for the history alone lies behind what is applied, and progress never goes back: what follows
        // would be applied twice.
        if let sign, let position = mine.reader.position, position.appliedLSN >= mine.applied.appliedLSN {
            let empty = SplitChunk(ChangeChunk(), tables: [:])
            mine.queue.append(SplitItem(content: .position(position, sign), chunk: empty, sizeBytes: 0))
        }
    }

    /// A reader gets only what is on its server's disk: so what it has seen of the other direction is.
    private static func noteDurable(_ direction: inout Direction, seen reader: SplitReader) {
        guard let seen = reader.position?.context.lsn else { return }
        while let first = direction.committed.first, first.note <= seen {
            direction.durable = first.progress
            direction.committed.removeFirst()
        }
    }

    /// While nothing of a side waits to be applied, whatever it writes next has seen all that it is known to have seen: the
    /// other one's history begins there.
    private static func trim(_ state: inout SidePair<Direction>, seenBy side: Side) {
        guard state[side].isAtRest else { return }
        let seen = state[side].reader.seen.lsn
        state[side.opposite].reader.history.trim(to: seen)
    }

    // MARK: applying

    /// Whole transactions from a side that wait, up to the limits but at least one; of one that is too large to be held, the
    /// first part. `nil` once it was stopped.
    ///
    /// - Parameter patienceMilliseconds: how long to wait for a full group while there is a backlog and it keeps coming.
    func nextGroup(from side: Side, limits: GroupLimits, patienceMilliseconds: Int = 0) async throws -> SplitGroup? {
        if patienceMilliseconds > 0 { await fill(limits, from: side, patienceMilliseconds) }
        return try await take(from: side) { queue in try queue.next(limits) }
    }

    /// Waits for a full group, as `StreamMailbox.takeBlocking` does.
    private func fill(_ limits: GroupLimits, from side: Side, _ patienceMilliseconds: Int) async {
        let end = Monotonic.milliseconds() + Int64(patienceMilliseconds)
        while !isStopped.withLock({ $0 }), !Task.isCancelled, case let left = end - Monotonic.milliseconds(), left > 0 {
            let mustWait = state.withLock { state in
                state[side].filling = state[side].mustFill(limits) ? limits : nil
                return state[side].filling != nil
            }
            if !mustWait { return }
            await signals[side].arrival.wait(timeoutMilliseconds: Int(left))
        }
        state.withLock { $0[side].filling = nil }
    }

    /// What the reader of a side sees: whether what comes is old, and comes without a break.
    func note(isBacklog: Bool, of side: Side) {
        guard hints[side].set(isBacklog: isBacklog) else { return }
        let isWaitedFor = state.withLock { state in
            state[side].isBacklog = isBacklog
            return state[side].filling != nil && !isBacklog
        }
        if isWaitedFor { signals[side].arrival.notify() }
    }

    /// Whether the applier waits for a fuller group, and so for a backlog's end.
    func isFilling(_ side: Side) -> Bool { state.withLock { $0[side].filling != nil } }

    /// What follows a part that was not the last one of its transaction. It may be long in coming: the source reads whatever
    /// else the transaction did in between.
    func nextPart(from side: Side, limits: GroupLimits, _ sign: SignOfLife) async throws -> SplitGroup? {
        try await take(from: side, sign) { queue in queue.nextPart(limits) }
    }

    private func take(
        from side: Side, _ sign: SignOfLife? = nil, _ next: (inout SplitQueue) throws -> SplitQueue.Next
    ) async throws -> SplitGroup? {
        var sign = sign
        while !isStopped.withLock({ $0 }) {
            let outcome = try state.withLock { state in
                let outcome = try next(&state[side].queue)
                if case .group(let group) = outcome { Self.note(group, &state[side]) }
                noteHints(state)
                return outcome
            }
            signals[side].readable.notify()
            switch outcome {
            case .group(let group):
                return group
            case .load(let spilled):
                let chunks = try await files.take(spilled)
                state.withLock { $0[side].queue.expand(spilled, to: chunks) }
            case .wait:
                await signals[side].arrival.wait()
                try await sign?.giveIfDue()
            }
            try Task.checkCancellation()
        }
        return nil
    }

    /// The same without waiting; `nil` when nothing is ready, or a group that is not full should become fuller.
    func nextGroupNow(from side: Side, limits: GroupLimits) -> SplitGroup? {
        if isStopped.withLock({ $0 }) { return nil }
        let group = state.withLock { state in
            let group = state[side].mustFill(limits) ? nil : state[side].queue.nextNow(limits)
            if let group { Self.note(group, &state[side]) }
            noteHints(state)
            return group
        }
        if group != nil { signals[side].readable.notify() }
        return group
    }

    private static func note(_ group: SplitGroup, _ direction: inout Direction) {
        direction.isInParts = group.progress == nil
        if !direction.isInParts { direction.groupsAtWork += 1 }
    }

    /// Waits until little is left to be read of a side: its backlog is read as it is applied, not ahead of it into memory.
    /// Should both directions wait so for each other, the one with less before it goes on.
    func waitUntilNear(_ lsn: LSN, on side: Side, reading: Side) async throws {
        // What an applier reads itself waits for it.
        if side == reading { return }
        defer { state.withLock { $0[reading].approachBytes = nil } }
        var isFirst = true
        while true {
            let mayGoOn = state.withLock { state -> Bool in
                let unread = lsn.lagBytes(behind: state[side].reader.readLSN)
                state[reading].approachBytes = unread
                if unread <= pendingLimitBytes { return true }
                guard let other = state[reading.opposite].approachBytes else { return false }
                return (unread, reading.rawValue) < (other, reading.opposite.rawValue)
            }
            if mayGoOn { return }
            try requireRunning()
            if isFirst { signals[reading].passage[reading.opposite].notify() }
            isFirst = false
            await signals[side].passage[reading].wait()
            try Task.checkCancellation()
        }
    }

    /// Waits until a side has been read past a position.
    ///
    /// - Parameters:
    ///   - reading: the side that the waiting applier reads.
    ///   - holdsRows: whether it has begun what it then ends, even if the worker is to stop.
    ///   - sign: given again and again while it waits, as `remind` allows.
    func waitForPassage(of lsn: LSN, on side: Side, reading: Side, holdsRows: Bool, _ sign: SignOfLife) async throws {
        // The position is that of the message; its commit lies behind it.
        let barrier = LSN(lsn.rawValue + 1)
        state.withLock { state in
            state[side].barriers.append(barrier)
            noteHints(state)
        }
        signals[side].readable.notify()
        defer {
            state.withLock { state in
                if let index = state[side].barriers.firstIndex(of: barrier) { state[side].barriers.remove(at: index) }
                noteHints(state)
            }
        }
        let passage = signals[side].passage[reading]
        var sign = sign
        while state.withLock({ $0[side].reader.readLSN <= lsn }) {
            if !holdsRows { try requireRunning() }
            await passage.wait()
            try Task.checkCancellation()
            try await sign.giveIfDue()
        }
    }

    /// Who waits looks at the clock: one timer for all costs less than one for each wait.
    func remind() {
        for side in Side.allCases {
            for reading in Side.allCases { signals[side].passage[reading].notify() }
            if state.withLock({ $0[side].isInParts }) { signals[side].arrival.notify() }
        }
    }

    /// What a side did itself lately, and how far that is known. Nothing changes while `body` looks.
    func withHistory<Result>(of side: Side, _ body: (LocalHistory, LSN) throws -> Result) rethrows -> Result {
        try state.withLock { try body($0[side].reader.history, $0[side].reader.readLSN) }
    }

    /// The same of both sides at once.
    func withHistories<Result>(_ body: ((Side) -> LocalHistory) throws -> Result) rethrows -> Result {
        try state.withLock { state in try body { state[$0].reader.history } }
    }

    /// The group's transaction has committed on the other side.
    func noteCommit(_ progress: SplitProgress, note: SplitNote?, from side: Side) {
        state.withLock { state in
            state[side].applied = progress
            if case .applied(let context)? = note { state[side].committed.append((context.lsn, progress)) }
            state[side].groupsAtWork -= 1
            state[side.opposite].reader.history.trim(to: progress.context.lsn)
            Self.trim(&state, seenBy: side)
        }
    }

    /// How far a side's changes are applied, and how far its slot may be confirmed.
    func positions(from side: Side) -> (applied: LSN, confirmable: LSN) {
        state.withLock {
            ($0[side].applied.appliedLSN, $0[side].durable.confirmableLSN(opposite: $0[side.opposite].durable))
        }
    }

    /// No further group is given out, and who holds no rows waits no longer.
    func stop() {
        isStopped.withLock { $0 = true }
        for side in Side.allCases { signals[side].arrival.notify() }
        remind()
    }

    /// - Throws: `SplitStopped`
    func requireRunning() throws {
        if isStopped.withLock({ $0 }) { throw SplitStopped() }
    }
}

/// The worker is to stop, and the applier has done nothing yet that it would have to end.
struct SplitStopped: Error {}

/// What does not fit in the memory that is configured.
enum SplitOverflow: Error, Equatable {
    /// One transaction that can't be applied in parts, by its commit.
    case transaction(LSN)
    /// What a side wrote itself and the other has not seen.
    case history(Side)
}
