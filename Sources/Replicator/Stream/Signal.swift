import Dispatch
import Synchronization

/// Lets one task wait until another has news, or until a time is up.
final class Signal: Sendable {
    private struct State {
        var waiter: (id: UInt64, continuation: CheckedContinuation<Void, Never>)?
        var isSet = false
        /// A thread waits, rather than a task.
        var isBlocked = false
        var nextID: UInt64 = 0
        /// The newest wait whose time was up before it began.
        var expiredID: UInt64 = 0
    }

    private let state = Mutex(State())
    private let semaphore = DispatchSemaphore(value: 0)

    /// Wakes the waiter, or lets the next `wait` return at once.
    func notify() {
        let (continuation, isBlocked) = state.withLock { state -> (CheckedContinuation<Void, Never>?, Bool) in
            if state.isBlocked {
                state.isBlocked = false
                return (nil, true)
            }
            guard let waiter = state.waiter else {
                state.isSet = true
                return (nil, false)
            }
            state.waiter = nil
            return (waiter.continuation, false)
        }
        if isBlocked { semaphore.signal() }
        continuation?.resume()
    }

    /// Blocks the thread until a notification: for code that has a thread of its own. A task that waits is resumed on
    /// Swift's pool first, whatever its actor, and that is another thread to wake. Cancellation must notify.
    ///
    /// - Parameter timeoutMilliseconds: after which it goes on in any case, however busy that pool is.
    func block(timeoutMilliseconds: Int? = nil) {
        let isDone = state.withLock { state -> Bool in
            defer { state.isSet = false }
            state.isBlocked = !state.isSet
            return state.isSet
        }
        if isDone { return }
        guard let timeoutMilliseconds else { return semaphore.wait() }
        if semaphore.wait(timeout: .now() + .milliseconds(timeoutMilliseconds)) == .timedOut {
            // Notified just now, the next wait ends at once: it looks, and waits again.
            state.withLock { $0.isBlocked = false }
        }
    }

    /// Returns after a notification, after the timeout, or when the task is cancelled.
    func wait(timeoutMilliseconds: Int? = nil) async {
        let id = state.withLock { state -> UInt64 in
            state.nextID += 1
            return state.nextID
        }
        let timer = timeoutMilliseconds.map { limit in
            Task {
                try? await Task.sleep(for: .milliseconds(limit))
                self.expire(id)
            }
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isDone = state.withLock { state -> Bool in
                    if state.isSet || Task.isCancelled || state.expiredID == id {
                        state.isSet = false
                        return true
                    }
                    state.waiter = (id, continuation)
                    return false
                }
                if isDone { continuation.resume() }
            }
        } onCancel: {
            expire(id)
        }
        timer?.cancel()
    }

    private func expire(_ id: UInt64) {
        let continuation = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard let waiter = state.waiter, waiter.id == id else {
                // Timers end in any order: one that was cancelled must not undo what a later wait is told.
                state.expiredID = max(state.expiredID, id)
                return nil
            }
            state.waiter = nil
            return waiter.continuation
        }
        continuation?.resume()
    }
}
