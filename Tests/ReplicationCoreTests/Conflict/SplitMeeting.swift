@testable import ReplicationCore

/// What the bot's database makes of changes that come from sync, after changes of its own: the outcome in words.
struct SplitMeeting {
    /// Rows of both before anything else, by key; columns as in `SimulatedRow`.
    var rows: [SimulatedRow.Values] = []
    var local: [SimulatedChange] = []
    var remote: [SimulatedChange] = []
    var localTime: Int64 = 10
    var remoteTime: Int64 = 20
    /// Whether sync had applied the local changes before it made its own.
    var isSeen = false
    /// Whether the bot's stream has been read: what the barrier makes sure of.
    var isRead = true
    /// By side.
    var layouts: [SplitTable]?

    static let localLSN = LSN(200), remoteLSN = LSN(300)

    static func row(_ key: Int, _ values: [Int: Int] = [:]) -> SimulatedRow.Values {
        var row: SimulatedRow.Values = Array(repeating: 0, count: SimulatedRow.width)
        row[SimulatedRow.key] = key
        for (column, value) in values { row[column] = value }
        return row
    }

    static func insert(_ row: SimulatedRow.Values) -> SimulatedChange {
        .init(kind: .insert, old: nil, new: row)
    }
    static func delete(_ row: SimulatedRow.Values) -> SimulatedChange {
        .init(kind: .delete, old: row, new: nil)
    }
    static func update(_ old: SimulatedRow.Values, _ new: SimulatedRow.Values) -> SimulatedChange {
        .init(kind: .update, old: old, new: new)
    }

    func outcome() throws -> [String] {
        let layouts = try layouts ?? SimulatedRow.layouts(echoesInserts: false)
        var readers = (0..<2).map { side in
            SplitReader.restart(
                ownOrigin: SimulatedWorker.origin(into: side), outgoing: SplitProgress(),
                incoming: SplitProgress(),
                tableIDs: [SimulatedRow.ownership.table: 0], historyLimitBytes: 1 << 20, storage: .memory())
        }
        let done = SimulatedTransaction(
            commitLSN: Self.localLSN, endLSN: LSN(210), commitTime: localTime, origin: nil, notes: [],
            changes: local)
        if isRead { _ = try readers[0].read(done.chunk) { _ in layouts[0] } }
        if isSeen {
            let seen = SplitNote.applied(
                CausalContext(lsn: LSN(201), time: PostgresTime(microseconds: localTime)))
            let applied = SimulatedTransaction(
                commitLSN: LSN(250), endLSN: LSN(260), commitTime: localTime, origin: readers[1].ownOrigin,
                notes: [SplitNote.encode([seen])], changes: [])
            _ = try readers[1].read(applied.chunk) { _ in layouts[1] }
        }
        let coming = SimulatedTransaction(
            commitLSN: Self.remoteLSN, endLSN: LSN(310), commitTime: remoteTime, origin: nil, notes: [],
            changes: remote)
        var effects = GroupEffects()
        for key in keysAfterLocal() {
            effects.note(RowKey(table: 0, bytes: [1, 0, 0, 0, 2, 0, UInt8(key)]), isPresent: true)
        }
        let resolver = SplitResolver(local: "bot", remote: "sync")
        var words: [String] = []
        for transaction in try readers[1].read(coming.chunk, tableOf: { _ in layouts[1] }) {
            for operation in transaction.operations {
                let resolution = try resolver.resolve(
                    operation, of: transaction, table: layouts[1], against: readers[0].history,
                    effects: &effects)
                words += resolution.steps.map { Self.words($0, layouts[1]) }
                words += resolution.conflicts.map { Self.words($0, layouts[1]) }
            }
        }
        return words + effects.notes.map(Self.words)
    }

    private func keysAfterLocal() -> Set<Int> {
        var keys = Set(rows.map(SimulatedRow.key))
        for change in local {
            if let old = change.old { keys.remove(SimulatedRow.key(old)) }
            if let new = change.new { keys.insert(SimulatedRow.key(new)) }
        }
        return keys
    }

    private static func words(_ step: RowStep, _ table: SplitTable) -> String {
        func columns(_ writes: [ColumnWrite]) -> String {
            writes.map { write -> String in
                let name = table.columns[write.column].name
                switch write.value {
                case .remote: return name
                case .sum: return "\(name)+"
                case .local(let bytes): return "\(name)=\(SimulatedRow.value(bytes) ?? -1)"
                case .greatest(let bytes): return "\(name)>\(SimulatedRow.value(bytes) ?? -1)"
                case .least(let bytes): return "\(name)<\(SimulatedRow.value(bytes) ?? -1)"
                }
            }.joined(separator: " ")
        }
        switch step {
        case .insert(let key, let writes): return "insert \(number(key)): \(columns(writes))"
        case .update(let key, let writes): return "update \(number(key)): \(columns(writes))"
        case .delete(let key): return "delete \(number(key))"
        case .move(let key, let newKey, let writes):
            return "move \(number(key)) to \(number(newKey)): \(columns(writes))"
        }
    }

    private static func words(_ conflict: ConflictRecord, _ table: SplitTable) -> String {
        let name = conflict.column.map { table.columns[$0].name } ?? "the row"
        return
            "lost \(name) of \(number(conflict.key)) (\(conflict.kind.rawValue)\(conflict.isOpen ? ", open" : ""))"
    }

    private static func words(_ note: SplitNote) -> String {
        switch note {
        case .applied: "applied"
        case .matched: "matched"
        case .created: "created"
        case .consequences: "consequences"
        case .whole: "whole"
        case .mended: "mended"
        }
    }

    private static func number(_ key: RowKey) -> Int {
        key.values.first.flatMap { SimulatedRow.value($0) } ?? -1
    }
}
