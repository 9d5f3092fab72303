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
    }

    private let limitBytes: Int
    private let state = Mutex(State())
    private let arrival = Signal()
    private let space = Signal()

    init(limitBytes: Int) { self.limitBytes = limitBytes }

    var isFull: Bool { holds(limitBytes) }

    /// Whether so many bytes wait, at least.
    func holds(_ bytes: Int) -> Bool { state.withLock { $0.sizeBytes >= bytes } }

    /// Whether the applier has not come for what is here: then nobody waits for more.
    var isBehind: Bool { state.withLock { !$0.isAwaited && !$0.chunks.isEmpty } }

    func put(_ chunk: consuming ChangeChunk) {
        let sizeBytes = chunk.sizeBytes
        let boxed = chunk
        state.withLock {
            $0.chunks.append(boxed)
            $0.sizeBytes += sizeBytes
        }
        arrival.notify()
    }

    /// No more will come; what is here can still be taken.
    func close() {
        state.withLock { $0.isClosed = true }
        arrival.notify()
    }

    /// Waits for room, at most as long as the reader's next duty allows.
    func waitForSpace(below bytes: Int? = nil, timeoutMilliseconds: Int) async {
        guard holds(bytes ?? limitBytes) else { return }
        await space.wait(timeoutMilliseconds: timeoutMilliseconds)
    }

    /// The waiting chunks up to the limits, at least one; `nil` at the end. Never waits for more than there is: what
    /// comes while a group is applied is the next one, so an idle stream is applied at once and a backlog in bulk.
    ///
    /// Never returns whole transactions together with a piece of a large one, so that they don't wait for it, nor with a
    /// step of a prepared one.
    /// - Parameter waitMilliseconds: how long to wait for the first; then there are none.
    func take(_ limits: GroupLimits, waitMilliseconds: Int? = nil) async -> [ChangeChunk]? {
        var isLate = false
        while true {
            let (taken, isAtEnd) = state.withLock { state in
                let taken = Self.take(&state, limits)
                state.isAwaited = taken.isEmpty
                return (taken, state.isClosed)
            }
            if !taken.isEmpty {
                space.notify()
                return taken
            }
            if isAtEnd || Task.isCancelled { return nil }
            if isLate { return [] }
            await arrival.wait(timeoutMilliseconds: waitMilliseconds)
            isLate = waitMilliseconds != nil
        }
    }

    /// The waiting chunks up to the limits; `nil` when there are none.
    func takeNow(_ limits: GroupLimits) -> [ChangeChunk]? {
        let taken = state.withLock { Self.take(&$0, limits) }
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
            let isAlone = chunk.isOpenEnded || chunk.twoPhase != nil
            if count > 0 && (isOver || isAlone) { break }
            count += 1
            sizeBytes += chunk.sizeBytes
            changes += chunk.changes.count
            if isAlone { break }
        }
        guard count > 0 else { return [] }
        let taken = Array(state.chunks[..<count])
        state.chunks.removeFirst(count)
        state.sizeBytes -= sizeBytes
        return taken
    }
}
