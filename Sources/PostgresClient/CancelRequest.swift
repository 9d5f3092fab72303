import CLibPQ
import Synchronization

/// A request to stop what a session runs, on its way to the server.
///
/// It travels over a connection of its own, which may hang just as the first one; so it has its own thread.
final class CancelRequest: Sendable {
    /// Held while `wake` is raised: who sees it finished knows that no raise comes any more.
    private let finished = Mutex(false)

    /// Whether the server has acted on it, or will never get it. Until then it may still hit a later statement.
    var isFinished: Bool { finished.withLock { $0 } }

    /// Sends the request; `wake` is raised when it is finished.
    init(for handle: OpaquePointer, raising wake: WakeEvent) {
        // The address and the key of the session, copied: independent of the connection, owned by the thread.
        guard let address = PQgetCancel(handle) else {
            finished.withLock { $0 = true }
            return
        }
        nonisolated(unsafe) let cancel = address
        let isStarted = DetachedThread.start {
            var reason = [CChar](repeating: 0, count: 256)
            _ = PQcancel(cancel, &reason, CInt(reason.count))
            PQfreeCancel(cancel)
            self.finished.withLock { isFinished in
                isFinished = true
                wake.raise()
            }
        }
        if !isStarted {
            PQfreeCancel(cancel)
            finished.withLock { $0 = true }
        }
    }
}
