import ReplicationCore
import Synchronization

/// Chunks between the reader and the applier, bounded by bytes.
///
/// The reader asks `isFull` before it reads on; so the bound is passed by one read at most.
final class StreamMailbox: Sendable {
    private struct State {
        var chunks: [ChangeChunk] = []
        var sizeBytes = 0
        var isClosed = false
        /// The applier waits for the next chunk.
        var isAwaited = false
        /// It wants to know when none comes for a while, and is told so.
        var wantsQuiet = false
        var isQuiet = false
        /// What comes is old, and more of it is on its way.
        var isBacklog = false
        /// The applier could go on, and waits for a fuller group.
        var isFilling = false

        /// Whether a group taken now would end at a limit, or at something that stands alone.
        func isFull(_ limits: GroupLimits, _ limitBytes: Int) -> Bool {
            sizeBytes >= min(limits.bytes, limitBytes) || chunks.contains(where: \.standsAlone)
                || chunks.reduce(0) { $0 + $1.changes.count } >= limits.changes
        }
    }

    private static let gatheringBytes = 32 << 10
    private let limitBytes: Int
    private let state = Mutex(State())
    private let arrival = Signal()
    private let space = Signal()

    init(limitBytes: Int) { self.limitBytes = limitBytes }

    var isFull: Bool { holds(limitBytes) }

    /// Whether so many bytes wait, at least.
    func holds(_ bytes: Int) -> Bool { state.withLock { $0.sizeBytes >= bytes } }

    /// Whether the applier waits for a fuller group, and so for the end of the backlog.
    var isFilling: Bool { state.withLock { $0.isFilling } }

    /// Whether the applier has not come for what is here, or wants more of it: then messages may gather. A few transactions
    /// are no reason: it may come for them while the reader rests, and find only what had been read before.
    var isBehind: Bool { state.withLock { $0.isFilling || !$0.isAwaited && $0.sizeBytes >= Self.gatheringBytes } }

    func put(_ chunk: consuming ChangeChunk) {
        let sizeBytes = chunk.sizeBytes
        let boxed = chunk
        state.withLock { state in
            // What is to be taken back need not be applied first.
            while boxed.retracts, let last = state.chunks.last, last.isEarly {
                state.sizeBytes -= last.sizeBytes
                state.chunks.removeLast()
            }
            state.chunks.append(boxed)
            state.sizeBytes += sizeBytes
        }
        arrival.notify()
    }

    /// What the reader sees of the stream: whether what comes is old, and comes without a break.
    func note(isBacklog: Bool) {
        let isWaitedFor = state.withLock { state in
            state.isBacklog = isBacklog
            return state.isFilling && !isBacklog
        }
        if isWaitedFor { arrival.notify() }
    }

    /// No more will come; what is here can still be taken.
    func close() {
        state.withLock { $0.isClosed = true }
        arrival.notify()
    }

    /// Waits for room, at most as long as the reader's next duty allows: on its own thread, since the server ends a stream
    /// whose reader says nothing, and a timer of Swift's pool may be late by as much.
    func waitForSpaceBlocking(below bytes: Int? = nil, timeoutMilliseconds: Int) {
        guard holds(bytes ?? limitBytes) else { return }
        space.block(timeoutMilliseconds: timeoutMilliseconds)
    }

    /// The waiting chunks up to the limits, at least one; `nil` at the end. What comes while a group is applied is the next
    /// one, so an idle stream is applied at once and a backlog in bulk.
    ///
    /// Never returns whole transactions together with a piece of a large one, so that they don't wait for it, nor with a
    /// step of a prepared one.
    func take(_ limits: GroupLimits) async -> [ChangeChunk]? {
        while true {
            if let outcome = attempt(limits, untilQuiet: false) { return outcome.chunks }
            await arrival.wait()
        }
    }

    /// The same for the applier, whose thread waits itself.
    ///
    /// - Parameter untilQuiet: whether to return none once the reader says that none has come for a while. No timer is set
    ///   for that: setting and stopping one for each transaction cost more than the rest of the wait.
    /// - Parameter patienceMilliseconds: how long to wait for a full group while there is a backlog and it keeps coming. The
    ///   stream is what is slow then: the target, doing less for more changes at once, leaves the machine to it.
    func takeBlocking(_ limits: GroupLimits, untilQuiet: Bool, patienceMilliseconds: Int = 0) -> [ChangeChunk]? {
        let end = patienceMilliseconds == 0 ? 0 : Monotonic.milliseconds() + Int64(patienceMilliseconds)
        while true {
            if end != 0, case let left = end - Monotonic.milliseconds(), left > 0, mustFill(limits) {
                arrival.block(timeoutMilliseconds: Int(left))
            } else if let outcome = attempt(limits, untilQuiet: untilQuiet) {
                return outcome.chunks
            } else {
                arrival.block()
            }
        }
    }

    /// Whether there is a backlog, and less of it here than makes a group.
    private func mustFill(_ limits: GroupLimits) -> Bool {
        let isCancelled = Task.isCancelled
        return state.withLock { state in
            state.isFilling = state.isBacklog && !state.isClosed && !isCancelled && !state.isFull(limits, limitBytes)
            return state.isFilling
        }
    }

    /// Lets who waits for a chunk look whether it is cancelled.
    func wake() { arrival.notify() }

    private struct Outcome {
        /// `nil` at the end.
        var chunks: [ChangeChunk]?
    }

    /// - Returns: what a take comes to; `nil` when it has to wait.
    private func attempt(_ limits: GroupLimits, untilQuiet: Bool) -> Outcome? {
        let (taken, isAtEnd, isQuiet) = state.withLock { state in
            let taken = Self.take(&state, limits)
            let isQuiet = state.isQuiet
            state.isFilling = false
            state.isAwaited = taken.isEmpty
            state.isQuiet = false
            state.wantsQuiet = untilQuiet && taken.isEmpty
            return (taken, state.isClosed, isQuiet)
        }
        if !taken.isEmpty {
            space.notify()
            return Outcome(chunks: taken)
        }
        if isAtEnd || Task.isCancelled { return Outcome(chunks: nil) }
        return untilQuiet && isQuiet ? Outcome(chunks: []) : nil
    }

    /// Some time has passed: an applier that has nothing to do may have something else to see to.
    func noteQuiet() {
        let isWanted = state.withLock { state in
            guard state.wantsQuiet else { return false }
            state.wantsQuiet = false
            state.isQuiet = true
            return true
        }
        if isWanted { arrival.notify() }
    }

    /// The waiting chunks up to the limits; `nil` when there are fewer bytes than asked for, or a group that is not full
    /// should become fuller.
    func takeNow(_ limits: GroupLimits, leastBytes: Int = 0) -> [ChangeChunk]? {
        let taken = state.withLock { state -> [ChangeChunk] in
            guard state.sizeBytes >= leastBytes, !state.isBacklog || state.isFull(limits, limitBytes) else { return [] }
            return Self.take(&state, limits)
        }
        if taken.isEmpty { return nil }
        space.notify()
        return taken
    }

    private static func take(_ state: inout State, _ limits: GroupLimits) -> [ChangeChunk] {
        var count = 0
        var sizeBytes = 0
        var changes = 0
        for chunk in state.chunks {
            let isOver = sizeBytes + chunk.sizeBytes > limits.bytes || changes + chunk.changes.count > limits.changes
            if count > 0 && (isOver || chunk.standsAlone) { break }
            count += 1
            sizeBytes += chunk.sizeBytes
            changes += chunk.changes.count
            if chunk.standsAlone { break }
        }
        guard count > 0 else { return [] }
        let taken = Array(state.chunks[..<count])
        state.chunks.removeFirst(count)
        state.sizeBytes -= sizeBytes
        return taken
    }
}

extension ChangeChunk {
    /// Whether it is a group of its own.
    fileprivate var standsAlone: Bool { isOpenEnded || twoPhase != nil || retracts }
}
