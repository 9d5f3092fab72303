import PostgresClient
import ReplicationCore
import Synchronization

/// Chunks between the reader and the applier, bounded by bytes.
///
/// The reader asks `isFull` before it reads on; so the bound is passed by one read at most.
final class StreamMailbox: Sendable {
    private struct State {
        private(set) var chunks: [ChangeChunk] = []
        private(set) var sizeBytes = 0
        private var changeCount = 0
        /// How many of them are groups of their own.
        private var aloneCount = 0
        var isClosed = false
        /// The applier waits for the next chunk.
        var isAwaited = false
        /// It wants to know when none comes for a while, and is told so.
        var wantsQuiet = false
        var isQuiet = false
        /// What comes is old, and more of it is on its way.
        var isBacklog = false
        /// The applier could go on, and waits for a group that reaches one of these.
        var filling: GroupLimits?
        /// Wants to know once that is so.
        var onFull: (limits: GroupLimits, call: @Sendable () -> Void)?
        /// Lends the applier to the reader; there while it waits for what comes next.
        var lending: Lending?
        /// The reader has it, and whether the applier has looked meanwhile and is to look again.
        var isLent: Bool { lent != nil }
        var lent: Lending?
        var mustWake = false
        /// The reader has left something with the applier that it must see to itself.
        var hasLeft = false

        mutating func append(_ chunk: ChangeChunk) {
            count(chunk, 1)
            chunks.append(chunk)
        }

        mutating func removeLast() { count(chunks.removeLast(), -1) }

        mutating func removeFirst(_ number: Int) -> [ChangeChunk] {
            let first = Array(chunks[..<number])
            chunks.removeFirst(number)
            for chunk in first { count(chunk, -1) }
            return first
        }

        private mutating func count(_ chunk: borrowing ChangeChunk, _ sign: Int) {
            sizeBytes += sign * chunk.sizeBytes
            changeCount += sign * chunk.changes.count
            if chunk.standsAlone { aloneCount += sign }
        }

        /// Whether a group taken now would end at a limit, or at something that stands alone.
        func isFull(_ limits: GroupLimits, _ limitBytes: Int) -> Bool {
            sizeBytes >= min(limits.bytes, limitBytes) || aloneCount > 0 || changeCount >= limits.changes
        }
    }

    /// What the reader may do in the applier's place, on its own thread.
    struct Lending: Sendable {
        /// Where the target's answers come.
        var connection: PostgresConnection?
        /// Sends a chunk to the target, behind those whose answers are not taken yet.
        var send: @Sendable (_ chunk: ChangeChunk, _ whileWaiting: () -> Void) -> LentOutcome
        /// Takes the answers that have come, or waits for one.
        var take: @Sendable (_ isAwaited: Bool, _ whileWaiting: () -> Void) -> LentOutcome
    }

    enum LentOutcome {
        /// Some are still on their way.
        case onItsWay
        /// The same, and the rest of them is to be waited for.
        case refused
        /// And whether nothing of it is left to be asked for.
        case applied(isSettled: Bool)
        case leftToApplier
    }

    /// What a take comes to.
    enum Taken {
        case chunks([ChangeChunk])
        /// None has come for a while.
        case quiet
        /// The reader has left what was lent to it: that goes first.
        case left
        /// No more will come, or the task is cancelled.
        case over
    }

    private static let gatheringBytes = 32 << 10
    private static let lentChanges = 32
    private let limitBytes: Int
    private let state = Mutex(State())
    private let arrival = Signal()
    private let space = Signal()

    init(limitBytes: Int) { self.limitBytes = limitBytes }

    var isFull: Bool { holds(limitBytes) }

    /// Whether so many bytes wait, at least.
    func holds(_ bytes: Int) -> Bool { state.withLock { $0.sizeBytes >= bytes } }

    /// Whether the applier has not come for what is here, or wants more of it: then messages may gather. A few transactions
    /// are no reason: it may come for them while the reader rests, and find only what had been read before.
    var isBehind: Bool {
        state.withLock { $0.filling != nil || !$0.isAwaited && $0.sizeBytes >= Self.gatheringBytes }
    }

    func put(_ chunk: ChangeChunk) {
        let (isNews, onFull) = state.withLock { state -> (Bool, (@Sendable () -> Void)?) in
            if chunk.isPosition, let last = state.chunks.last, last.isPosition { state.removeLast() }
            // What is to be taken back need not be applied first.
            while chunk.retracts, let last = state.chunks.last, last.isEarly { state.removeLast() }
            state.append(chunk)
            let onFull = takeOnFull(&state)
            // Who waits for a full group would look, and wait again.
            if let limits = state.filling, !state.isFull(limits, limitBytes) { return (false, onFull) }
            // The server tells its position after each transaction that it has sent.
            return (state.lending == nil || !chunk.isPosition, onFull)
        }
        if isNews { arrival.notify() }
        onFull?()
    }

    /// Calls once there is a full group, here and now if there is.
    func callWhenFull(_ limits: GroupLimits, _ call: (@Sendable () -> Void)?) {
        let call = state.withLock { state in
            state.onFull = call.map { (limits, $0) }
            return takeOnFull(&state)
        }
        call?()
    }

    private func takeOnFull(_ state: inout State) -> (@Sendable () -> Void)? {
        guard let (limits, call) = state.onFull, state.isFull(limits, limitBytes) else { return nil }
        state.onFull = nil
        return call
    }

    /// Has a chunk sent to the target here and now, on the reader's thread, if the applier does nothing but wait for it and it is
    /// small: waking a thread for it takes a good part of the time in which the target applies it. The applier is lent from
    /// then on, until all the answers are taken.
    ///
    /// - Parameter whileWaiting: called now and then while the target does not answer.
    /// - Returns: whether it is taken; else it is to be put.
    func offer(_ chunk: ChangeChunk, whileWaiting: () -> Void) -> Bool {
        guard Self.mayBeLent(chunk) else { return false }
        let lending = state.withLock { state -> Lending? in
            guard let lending = state.lent ?? state.lending, state.chunks.allSatisfy(\.isPosition), !state.hasLeft,
                !state.isBacklog, !state.isClosed
            else { return nil }
            // The chunk's own is later.
            _ = state.removeFirst(state.chunks.count)
            state.lent = lending
            return lending
        }
        guard let lending else { return false }
        handle(lending.send(chunk, whileWaiting))
        return true
    }

    /// Whether the reader has the applier.
    var isLent: Bool { state.withLock { $0.isLent } }

    /// The session whose answers the reader has to take, if any are to come.
    var lentConnection: PostgresConnection? { state.withLock { $0.lent?.connection } }

    /// Takes the answers that have come.
    ///
    /// - Returns: whether others may be waited for beside something else; if not, and any are to come, then by `settleLent`.
    @discardableResult func takeLent() -> Bool {
        guard let lent = state.withLock({ $0.lent }) else { return false }
        let outcome = lent.take(false, {})
        handle(outcome)
        if case .onItsWay = outcome { return true }
        return false
    }

    /// Gives the applier back: waits until nothing that the reader has sent is on its way.
    func settleLent(whileWaiting: () -> Void) {
        while let lent = state.withLock({ $0.lent }) {
            handle(lent.take(true, whileWaiting))
            // Each wait may be too short for that.
            whileWaiting()
        }
    }

    private func handle(_ outcome: LentOutcome) {
        let isAwaited = state.withLock { state in
            switch outcome {
            case .onItsWay, .refused: return false
            case .applied(let isSettled): state.wantsQuiet = state.wantsQuiet || !isSettled
            case .leftToApplier: state.hasLeft = true
            }
            state.lent = nil
            defer { state.mustWake = false }
            return state.mustWake || state.hasLeft
        }
        if isAwaited { arrival.notify() }
    }

    /// Whether a chunk is one that the reader may apply, whatever the applier does.
    static func mayBeLent(_ chunk: ChangeChunk) -> Bool {
        !chunk.standsAlone && !chunk.isEarly && chunk.heartbeat == nil && !chunk.changes.isEmpty
            && chunk.changes.count <= lentChanges && chunk.sizeBytes <= GroupApplier.lentBytes
    }

    /// What the reader sees of the stream: whether what comes is old, and comes without a break.
    func note(isBacklog: Bool) {
        let isWaitedFor = state.withLock { state in
            state.isBacklog = isBacklog
            return state.filling != nil && !isBacklog
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
            switch attempt(limits, untilQuiet: false) {
            case .chunks(let chunks): return chunks
            case .over: return nil
            case .quiet, .left, nil: await arrival.wait()
            }
        }
    }

    /// The same for the applier, whose thread waits itself.
    ///
    /// - Parameter untilQuiet: whether to return once the reader says that none has come for a while. No timer is set
    ///   for that: setting and stopping one for each transaction cost more than the rest of the wait.
    /// - Parameter lending: what the reader may do in the applier's place, from when it waits until it returns.
    /// - Parameter patienceMilliseconds: how long to wait for a full group while there is a backlog and it keeps coming. The
    ///   stream is what is slow then: the target, doing less for more changes at once, leaves the machine to it.
    func takeBlocking(
        _ limits: GroupLimits, untilQuiet: Bool, patienceMilliseconds: Int = 0, lending: Lending? = nil
    ) -> Taken {
        let end = patienceMilliseconds == 0 ? 0 : Monotonic.milliseconds() + Int64(patienceMilliseconds)
        while true {
            if end != 0, case let left = end - Monotonic.milliseconds(), left > 0, mustFill(limits) {
                arrival.block(timeoutMilliseconds: Int(left))
            } else if let taken = attempt(limits, untilQuiet: untilQuiet, lending: lending) {
                return taken
            } else {
                arrival.block()
            }
        }
    }

    /// Whether there is a backlog, and less of it here than makes a group.
    private func mustFill(_ limits: GroupLimits) -> Bool {
        let isCancelled = Task.isCancelled
        return state.withLock { state in
            let mustWait =
                state.isBacklog && !state.isClosed && !state.hasLeft && !isCancelled && !state.isFull(limits, limitBytes)
            state.filling = mustWait ? limits : nil
            return mustWait
        }
    }

    /// Lets who waits for a chunk look whether it is cancelled.
    func wake() { arrival.notify() }

    /// - Returns: what a take comes to; `nil` when it has to wait.
    private func attempt(_ limits: GroupLimits, untilQuiet: Bool, lending: Lending? = nil) -> Taken? {
        let isCancelled = Task.isCancelled
        let taken = state.withLock { state -> Taken? in
            // The applier is not its own until the reader gives it back.
            state.mustWake = state.isLent
            if state.isLent { return nil }
            let taken = Self.attempt(&state, limits, isCancelled: isCancelled)
            (state.filling, state.isQuiet, state.hasLeft) = (nil, false, false)
            state.isAwaited = taken == nil
            state.wantsQuiet = taken == nil && (state.wantsQuiet || untilQuiet)
            // In one step with the look: lent before it, it would find there what the reader has left for later.
            state.lending = taken == nil ? lending : nil
            return taken
        }
        if case .chunks = taken { space.notify() }
        return taken
    }

    private static func attempt(_ state: inout State, _ limits: GroupLimits, isCancelled: Bool) -> Taken? {
        if state.hasLeft { return .left }
        let chunks = take(&state, limits)
        if !chunks.isEmpty { return .chunks(chunks) }
        if state.isClosed || isCancelled { return .over }
        return state.isQuiet ? .quiet : nil
    }

    /// Some time has passed: an applier that has nothing to do may have something else to see to.
    func noteQuiet() {
        let isWanted = state.withLock { state in
            // One that was told may not have been seen yet.
            if state.wantsQuiet { (state.isQuiet, state.wantsQuiet) = (true, false) }
            return state.isQuiet || !state.chunks.isEmpty
        }
        if isWanted { arrival.notify() }
    }

    /// The waiting chunks up to the limits; `nil` when there are fewer bytes than asked for, or a group that is not full
    /// should become fuller.
    ///
    /// - Parameter mustBeFull: whether only a full group will do, whatever its bytes.
    func takeNow(_ limits: GroupLimits, leastBytes: Int = 0, mustBeFull: Bool = false) -> [ChangeChunk]? {
        let taken = state.withLock { state -> [ChangeChunk] in
            if mustBeFull {
                guard state.isFull(limits, limitBytes) else { return [] }
            } else {
                guard state.sizeBytes >= leastBytes, !state.isBacklog || state.isFull(limits, limitBytes) else { return [] }
            }
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
        return state.removeFirst(count)
    }
}

extension ChangeChunk {
    /// Whether it says how far the stream is, and nothing more.
    var isPosition: Bool { transactions.isEmpty && changes.isEmpty && heartbeat == nil && !retracts }

    /// Whether it is a group of its own.
    fileprivate var standsAlone: Bool { isOpenEnded || isTwoPhase || retracts }
}
