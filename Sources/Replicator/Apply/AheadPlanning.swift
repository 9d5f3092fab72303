import ReplicationCore
import Synchronization

/// Takes and plans the next group, on another thread, while the target works on what it has been sent.
///
/// It begins late, when the target has all of the current group: what has come by then goes together, and the more
/// changes a group has, the more of them net out.
final class AheadPlanning: Sendable {
    typealias Outcome = (group: PreparedGroup, builder: StepBuilder)

    private let builder: StepBuilder
    private let skipUpTo: LSN
    private let exactUpTo: LSN
    private let take: @Sendable () -> [ChangeChunk]?
    private let task = Mutex<Task<Outcome, Never>?>(nil)

    /// - Parameter take: what waits, if it is worth it.
    init(builder: StepBuilder, skipUpTo: LSN, exactUpTo: LSN, take: @escaping @Sendable () -> [ChangeChunk]?) {
        self.builder = builder
        self.skipUpTo = skipUpTo
        self.exactUpTo = exactUpTo
        self.take = take
    }

    func begin() {
        task.withLock { task in
            guard task == nil, let chunks = take() else { return }
            let isBulk = chunks.mayGoInBulk(exactUpTo: exactUpTo)
            task = Task { [builder, skipUpTo] in builder.preparingAhead(chunks, skipUpTo: skipUpTo, isBulk: isBulk) }
        }
    }

    /// The next group, and the builder that knows its statements; `nil` if it was not begun.
    var outcome: Outcome? {
        get async { await task.withLock { $0 }?.value }
    }
}
