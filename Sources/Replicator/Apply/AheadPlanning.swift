import Synchronization

/// Takes and plans the next group, on another thread, while the target works on what it has been sent.
///
/// It begins late, when the target has all of the current group: what has come by then goes together, and the more
/// changes a group has, the more of them net out.
final class AheadPlanning<Outcome: Sendable>: Sendable {
    private let take: @Sendable () -> (@Sendable () -> Outcome)?
    private let task = Mutex<Task<Outcome, Never>?>(nil)

    /// - Parameter take: takes what waits, if it is worth it; what it returns plans that.
    init(take: @escaping @Sendable () -> (@Sendable () -> Outcome)?) { self.take = take }

    func begin() {
        task.withLock { task in
            guard task == nil, let plan = take() else { return }
            task = Task { plan() }
        }
    }

    /// What came of it; `nil` if it was not begun.
    var outcome: Outcome? {
        get async { await task.withLock { $0 }?.value }
    }
}
