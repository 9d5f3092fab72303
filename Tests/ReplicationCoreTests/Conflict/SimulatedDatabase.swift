@testable import ReplicationCore

/// A database: committed rows, row locks, a log, a clock, and what the incoming direction keeps in it.
struct SimulatedDatabase {
    enum Holder { case writer, applier }

    let side: Int
    var rows: [Int: SimulatedRow.Values] = [:]
    var locks: [Int: Holder] = [:]
    private(set) var log: [SimulatedTransaction] = []
    private(set) var endLSN = LSN(100)
    /// Microseconds; goes its own way, and steps back now and then.
    var clock: Int64
    /// What columns get that nobody gives a value.
    let defaults: SimulatedRow.Values
    var writer: OpenTransaction?
    /// What clients last replaced, by key: they may put it back.
    private(set) var replaced: [Int: SimulatedRow.Values] = [:]
    // Durable, and written by the incoming direction with its data.
    var incoming = SplitProgress()
    /// What came before may be gone from the log.
    var confirmedLSN = LSN.zero
    var conflicts: [LoggedConflict] = []
    /// Whether `EchoFilter` reads along.
    let leavesOutEchoes: Bool

    /// A client's transaction that has not committed yet. Nobody else sees what it did; its locks they do.
    struct OpenTransaction {
        var rows: [Int: SimulatedRow.Values?] = [:]
        var changes: [SimulatedChange] = []
    }

    struct LoggedConflict: Hashable {
        /// The remote operation that lost.
        var commitLSN: UInt64
        var position: Int
        var column: Int
    }

    init(side: Int, clock: Int64, defaults: SimulatedRow.Values, leavesOutEchoes: Bool) {
        self.side = side
        self.leavesOutEchoes = leavesOutEchoes
        self.clock = clock
        self.defaults = defaults
    }

    /// A row as the open transaction sees it.
    func visibleRow(_ key: Int) -> SimulatedRow.Values? {
        if let own = writer?.rows[key] { return own }
        return rows[key]
    }

    /// Whether the client may touch the key: a row that the applier holds makes it wait, which is to say: do it later.
    func isFree(_ key: Int) -> Bool { locks[key] != .applier }

    /// One change of the open transaction.
    mutating func change(_ change: SimulatedChange) {
        for row in [change.old, change.new].compactMap({ $0 }) { locks[SimulatedRow.key(row)] = .writer }
        if let old = change.old { writer?.rows[SimulatedRow.key(old)] = .some(nil) }
        if let new = change.new { writer?.rows[SimulatedRow.key(new)] = new }
        writer?.changes.append(change)
        if change.kind == .update, let old = change.old { replaced[SimulatedRow.key(old)] = old }
    }

    /// Commits the open transaction; its changes and its position, or `nil` when it did nothing.
    mutating func commitWriter(origin: String?, commitTime: Int64) -> (
        changes: [SimulatedChange], commitLSN: LSN
    )? {
        guard let done = writer else { return nil }
        writer = nil
        release(.writer)
        guard !done.changes.isEmpty else { return nil }
        for (key, row) in done.rows { rows[key] = row }
        let commitLSN = append(
            done.changes, commitTime: commitTime, origin: origin, notes: [])
        return (done.changes, commitLSN)
    }

    mutating func rollBackWriter() {
        writer = nil
        release(.writer)
    }

    mutating func release(_ holder: Holder) { locks = locks.filter { $0.value != holder } }

    @discardableResult
    mutating func append(
        _ changes: [SimulatedChange], commitTime: Int64, origin: String?, notes: [[UInt8]]
    ) -> LSN {
        let commitLSN = LSN(endLSN.rawValue + 4)
        endLSN = LSN(endLSN.rawValue + 10)
        // What has nothing to show is not in the stream.
        if changes.isEmpty, notes.isEmpty { return commitLSN }
        let isOwn = leavesOutEchoes && origin == SimulatedWorker.origin(into: side)
        let sent = isOwn ? changes.filter { !$0.keepsKey } : changes
        log.append(
            SimulatedTransaction(
                commitLSN: commitLSN, endLSN: endLSN, commitTime: commitTime, origin: origin, notes: notes,
                changes: sent))
        return commitLSN
    }
}
