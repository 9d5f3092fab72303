import ReplicationCore
import Synchronization

/// The tables still to copy, taken largest first by several jobs, and the sum of what the jobs have done.
final class CopyQueue: Sendable {
    struct Item: Sendable {
        var table: TableDescription
        /// On the source's disk, without indexes.
        var sizeBytes: Int
    }

    private struct State {
        var items: [Item]
        var progress: CopyProgress
    }

    private let state: Mutex<State>
    private let startedAtMilliseconds = Monotonic.milliseconds()
    private let report: @Sendable (CopyProgress) -> Void

    init(_ items: [Item], finished: [TableCopyState], report: @escaping @Sendable (CopyProgress) -> Void) {
        var progress = CopyProgress()
        progress.tablesTotal = items.count + finished.count
        progress.tablesDone = finished.count
        progress.estimatedBytes = items.reduce(0) { $0 + $1.sizeBytes }
        state = Mutex(State(items: items.sorted { $0.sizeBytes < $1.sizeBytes }, progress: progress))
        self.report = report
    }

    /// The largest table that nobody has taken; `nil` when all are.
    func next() -> TableDescription? { state.withLock { $0.items.popLast()?.table } }

    func add(bytes: Int) { update { $0.bytes += bytes } }

    func finishTable(rows: Int) {
        update {
            $0.rows += rows
            $0.tablesDone += 1
        }
    }

    private func update(_ body: (inout CopyProgress) -> Void) {
        let progress = state.withLock { state in
            body(&state.progress)
            state.progress.elapsedMilliseconds = Monotonic.milliseconds() - startedAtMilliseconds
            return state.progress
        }
        report(progress)
    }
}
