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

    var isFull: Bool { state.withLock { $0.sizeBytes >= limitBytes } }

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
    func waitForSpace(timeoutMilliseconds: Int) async {
        guard isFull else { return }
        await space.wait(timeoutMilliseconds: timeoutMilliseconds)
    }

    /// The waiting chunks up to a limit, at least one; `nil` at the end.
    ///
    /// Never returns whole transactions together with a piece of a large one, so that they don't wait for it.
    func take(limitBytes: Int) async -> [ChangeChunk]? {
        while true {
            let (taken, isAtEnd) = state.withLock { state in
                let taken = Self.take(&state, limitBytes)
                state.isAwaited = taken.isEmpty
                return (taken, state.isClosed)
            }
            if !taken.isEmpty {
                space.notify()
                return taken
            }
            if isAtEnd || Task.isCancelled { return nil }
            await arrival.wait()
        }
    }

    /// The waiting chunks up to a limit; `nil` when there are none.
    func takeNow(limitBytes: Int) -> [ChangeChunk]? {
        let taken = state.withLock { Self.take(&$0, limitBytes) }
        if taken.isEmpty { return nil }
        space.notify()
        return taken
    }

    private static func take(_ state: inout State, _ limitBytes: Int) -> [ChangeChunk] {
        var count = 0
        var sizeBytes = 0
        for chunk in state.chunks {
            if count > 0 && (chunk.isOpenEnded || sizeBytes + chunk.sizeBytes > limitBytes) { break }
            count += 1
            sizeBytes += chunk.sizeBytes
            if chunk.isOpenEnded { break }
        }
        guard count > 0 else { return [] }
        let taken = Array(state.chunks[..<count])
        state.chunks.removeFirst(count)
        state.sizeBytes -= sizeBytes
        return taken
    }
}
