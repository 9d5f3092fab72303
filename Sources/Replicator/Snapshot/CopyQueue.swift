import ReplicationCore
import Synchronization

/// The parts still to copy, taken by several jobs, largest table first, and the sum of what the jobs have done.
final class CopyQueue: Sendable {
    struct Item: Sendable {
        var part: CopyPart
        fileprivate var number: Int
    }

    private struct State {
        /// The next part is the last.
        var items: [Item] = []
        /// Parts of each table that are not finished.
        var left: [QualifiedName: Int] = [:]
        /// Copied of parts that are under way.
        var underway: [Int: Int] = [:]
        var sizeFinished: Int
        var progress: CopyProgress
    }

    private let state: Mutex<State>
    private let startedAtMilliseconds = Monotonic.milliseconds()
    private let report: @Sendable (CopyProgress) -> Void

    /// - Parameter progress: what earlier runs have done.
    init(_ parts: [CopyPart], after progress: CopyProgress, report: @escaping @Sendable (CopyProgress) -> Void) {
        var progress = progress
        progress.sizeBefore = progress.sizeDone
        progress.sizeTotal = progress.sizeDone + parts.reduce(0) { $0 + $1.sizeBytes }
        var state = State(sizeFinished: progress.sizeDone, progress: progress)
        var sizes: [QualifiedName: Int] = [:]
        for part in parts {
            sizes[part.table.name, default: 0] += part.sizeBytes
            state.left[part.table.name, default: 0] += 1
        }
        let order = parts.indices.sorted { left, right in
            let (one, other) = (parts[left].table.name, parts[right].table.name)
            return one == other ? left < right : (sizes[one] ?? 0, one) > (sizes[other] ?? 0, other)
        }
        state.items = order.reversed().map { Item(part: parts[$0], number: $0) }
        self.state = Mutex(state)
        self.report = report
        report(progress)
    }

    var count: Int { state.withLock { $0.items.count } }

    /// A part that nobody has taken; `nil` when all are.
    func next() -> Item? { state.withLock { $0.items.popLast() } }

    func add(bytes: Int, of item: Item) {
        update { state in
            state.progress.bytes += bytes
            // A heap and its copy differ in size; the part counts in full when it is finished.
            state.underway[item.number] = min((state.underway[item.number] ?? 0) + bytes, item.part.sizeBytes)
        }
    }

    /// - Returns: whether it was its table's last part.
    func finish(_ item: Item, rows: Int) -> Bool {
        update { state in
            state.progress.rows += rows
            state.underway[item.number] = nil
            state.sizeFinished += item.part.sizeBytes
            let left = (state.left[item.part.table.name] ?? 0) - 1
            state.left[item.part.table.name] = left
            return left == 0
        }
    }

    func finishTable() { update { $0.progress.tablesDone += 1 } }

    private func update<Value: Sendable>(_ body: (inout State) -> Value) -> Value {
        let (value, progress) = state.withLock { state in
            let value = body(&state)
            state.progress.sizeDone = state.underway.values.reduce(state.sizeFinished, +)
            state.progress.elapsedMilliseconds = Monotonic.milliseconds() - startedAtMilliseconds
            return (value, state.progress)
        }
        report(progress)
        return value
    }
}
