import Synchronization

/// What the runs of a history say of the rows that were asked for last: a row that many writers are at is asked for with every
/// change, and each time thousands of operations would be read from files and put together.
///
/// It changes no answer: runs do not change, and whoever asks leaves out what has been seen. Copies of a history share it, as
/// they share the files.
final class HistoryMemo: Sendable {
    private struct State {
        var rows: [RowKey: (run: Int, entry: LocalHistory.Entry?)] = [:]
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
        let known = state.withLock { state in state.rows[key].flatMap { $0.run == run ? $0 : nil } }
        if let known { return known.entry }
        let entry = try read()
        let size = Self.size(of: key, entry)
        state.withLock { state in
            if let older = state.rows.removeValue(forKey: key) { state.sizeBytes -= Self.size(of: key, older.entry) }
            if size > limitBytes { return }
            if state.sizeBytes + size > limitBytes { state = State() }
            state.rows[key] = (run, entry)
            state.sizeBytes += size
        }
        return entry
    }

    /// Nobody will ask for these any more.
    func clear() { state.withLock { $0 = State() } }

    private static func size(of key: RowKey, _ entry: LocalHistory.Entry?) -> Int {
        // Rooms of a table that is half full.
        2 * (MemoryLayout<RowKey>.stride + MemoryLayout<(run: Int, entry: LocalHistory.Entry?)>.stride) + 32 + key.bytes.count
            + (entry?.contentBytes ?? 0)
    }
}
