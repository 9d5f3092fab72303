import Synchronization

/// What the runs of a history say of the rows that were asked for last: a row that many writers are at is asked for with every
/// change, and each time thousands of operations would be read from files and put together.
///
/// It changes no answer: runs do not change, and whoever asks leaves out what has been seen. Copies of a history share it, as
/// they share the files.
final class HistoryMemo: Sendable {
    private struct Row {
        var run: Int
        var entry: LocalHistory.Entry?
        var sizeBytes: Int
    }

    private struct State {
        var rows: [RowKey: Row] = [:]
        var sizeBytes = 0
    }

    static let leastBytes = 64 << 10

    private let state = Mutex(State())

    /// - Parameters:
    ///   - run: the last run that there is; what was known before it was made is read again.
    ///   - limitBytes: what may be kept, roughly.
    ///   - read: reads it from the runs.
    func entry(
        of key: RowKey, upToRun run: Int, limitBytes: Int, _ read: () throws -> LocalHistory.Entry?
    ) rethrows -> LocalHistory.Entry? {
        if let known = state.withLock({ $0.rows[key] }), known.run == run { return known.entry }
        let entry = try read()
        // A table that is half full.
        let head = 2 * (MemoryLayout<RowKey>.stride + MemoryLayout<Row>.stride) + 32
        let size = head + key.bytes.count + (entry?.contentBytes ?? 0)
        state.withLock { state in
            if let older = state.rows.removeValue(forKey: key) { state.sizeBytes -= older.sizeBytes }
            if size > limitBytes { return }
            if state.sizeBytes + size > limitBytes { state = State() }
            state.rows[key] = Row(run: run, entry: entry, sizeBytes: size)
            state.sizeBytes += size
        }
        return entry
    }

    /// Nobody will ask for these any more.
    func clear() { state.withLock { $0 = State() } }
}
