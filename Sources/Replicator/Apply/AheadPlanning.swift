import Synchronization

/// Takes and plans the next group, on another thread, while the target works on what it has been sent.
///
/// It begins late, when the target has all of the current group: what has come by then goes together, and the more
/// changes a group has, the more of them net out. A group that is full need not wait so long.
final class AheadPlanning<Outcome: Sendable>: Sendable {
    /// Takes what waits, if it is worth it; what it returns plans that.
    typealias Taking = @Sendable () -> (@Sendable () async -> Outcome)?

    private enum State {
        case open
        case begun(Task<Outcome, Never>)
        case over
    }

    private let state = Mutex(State.open)

    /// Does nothing once it has begun or is over.
    func begin(_ take: Taking) {
        state.withLock { state in
            guard case .open = state, let plan = take() else { return }
            state = .begun(Task { await plan() })
        }
    }

    /// Nothing begins from here on; what came of what has, `nil` if nothing had.
    func end() async -> Outcome? {
        let task = state.withLock { state -> Task<Outcome, Never>? in
            defer { state = .over }
            guard case .begun(let task) = state else { return nil }
            return task
        }
        guard let task else { return nil }
        return await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
    }
}
