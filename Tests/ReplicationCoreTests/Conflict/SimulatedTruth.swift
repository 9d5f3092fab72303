@testable import ReplicationCore

/// What must come out, worked out with knowledge that no worker has: who had really seen what.
///
/// Independent of the code under test. Rows are counted in generations (odd: there; even: gone), as in a causal-length
/// set: the higher one wins. In the last generation a column is what the two latest writes, one of each side, make of it.
struct SimulatedTruth {
    struct Operation {
        var kind: Change.Kind
        var key: Int
        /// Of the row after it.
        var generation: Int
        /// For a changed key, and what begins there.
        var newKey: Int?
        var newGeneration = 0
        /// Columns that it writes and that travel, but the key.
        var columns: [Int]
        var old: SimulatedRow.Values?
        var new: SimulatedRow.Values?
    }

    struct Transaction {
        var commitLSN: LSN
        /// What its side had of the other one.
        var seenLSN: LSN
        var time: Int64
        var operations: [Operation]
    }

    private struct Write {
        var generation: Int
        var commitLSN: LSN
        var seenLSN: LSN
        var time: Int64
        var old: Int?
        var new: Int?
    }

    private struct Place: Hashable {
        var key: Int
        var column: Int
    }

    private(set) var generations: [[Int: Int]] = [[:], [:]]
    private var clocks: [Int64] = [0, 0]
    /// End of what a side has applied of the other one.
    private(set) var seen: [LSN] = [.zero, .zero]
    private(set) var transactions: [[UInt64: Transaction]] = [[:], [:]]
    private var writes: [[Place: [Write]]] = [[:], [:]]
    /// A side's own column in its own rows.
    private var owned: [[Int: Int?]] = [[:], [:]]
    /// Conflicts that a side must have recorded.
    private(set) var conflicts: [[SimulatedDatabase.LoggedConflict]] = [[], []]
    let defaults: [SimulatedRow.Values]

    init(defaults: [SimulatedRow.Values]) { self.defaults = defaults }

    // MARK: what sides do

    mutating func commitLocal(side: Int, changes: [SimulatedChange], commitLSN: LSN, commitTime: Int64) {
        clocks[side] = Swift.max(commitTime, clocks[side] + 1)
        var transaction = Transaction(
            commitLSN: commitLSN, seenLSN: seen[side], time: clocks[side], operations: [])
        for change in changes {
            let row = change.new ?? change.old ?? []
            let key = SimulatedRow.key(change.old ?? row)
            var operation = Operation(
                kind: change.kind, key: key, generation: generations[side][key, default: 0], columns: [],
                old: change.old, new: change.new)
            let travelling =
                [SimulatedRow.owned(by: side)] + Array(SimulatedRow.firstShared..<SimulatedRow.width)
            switch change.kind {
            case .insert:
                operation.generation += 1
                operation.columns = travelling
            case .delete, .truncate:
                operation.generation += 1
            case .update where SimulatedRow.key(row) != key:
                operation.generation += 1
                operation.newKey = SimulatedRow.key(row)
                operation.newGeneration = generations[side][SimulatedRow.key(row), default: 0] + 1
                operation.columns = travelling
            case .update:
                operation.columns = travelling.filter { change.old?[$0] != change.new?[$0] }
            }
            generations[side][key] = operation.generation
            if let newKey = operation.newKey { generations[side][newKey] = operation.newGeneration }
            note(operation, side: side, transaction)
            transaction.operations.append(operation)
        }
        transactions[side][commitLSN.rawValue] = transaction
    }

    private mutating func note(_ operation: Operation, side: Int, _ transaction: Transaction) {
        guard let new = operation.new else {
            owned[side][operation.key] = nil
            return
        }
        let isNewRow = operation.kind == .insert || operation.newKey != nil
        let key = operation.newKey ?? operation.key
        if operation.newKey != nil { owned[side][operation.key] = nil }
        owned[side][key] = .some(new[SimulatedRow.owned(by: side)])
        for column in operation.columns where column >= SimulatedRow.firstShared {
            writes[side][Place(key: key, column: column), default: []].append(
                Write(
                    generation: operation.newKey == nil ? operation.generation : operation.newGeneration,
                    commitLSN: transaction.commitLSN, seenLSN: transaction.seenLSN, time: transaction.time,
                    old: isNewRow ? nil : operation.old?[column], new: new[column]))
        }
    }

    /// The other side's transactions arrive, all at once.
    mutating func commitRemote(into side: Int, _ commitLSNs: [LSN], endLSN: LSN, as commitLSN: LSN) {
        for commitLSN in commitLSNs {
            guard let transaction = transactions[1 - side][commitLSN.rawValue] else { continue }
            clocks[side] = Swift.max(clocks[side], transaction.time)
            for (position, operation) in transaction.operations.enumerated() {
                arrive(operation, position: position, transaction, side: side)
            }
        }
        seen[side] = Swift.max(seen[side], endLSN)
        // What travels back from here has no operations of its own.
        transactions[side][commitLSN.rawValue] = Transaction(
            commitLSN: commitLSN, seenLSN: seen[side], time: clocks[side], operations: [])
    }

    /// The other side's stream has been read up to a position, and there was nothing more to apply.
    mutating func commitIdle(into side: Int, _ position: SplitProgress, as commitLSN: LSN) {
        clocks[side] = Swift.max(clocks[side], position.time.microseconds)
        seen[side] = Swift.max(seen[side], position.appliedLSN)
        transactions[side][commitLSN.rawValue] = Transaction(
            commitLSN: commitLSN, seenLSN: seen[side], time: clocks[side], operations: [])
    }

    private mutating func arrive(_ operation: Operation, position: Int, _ transaction: Transaction, side: Int)
    {
        var carried: Int??
        if operation.kind == .delete || operation.newKey != nil {
            let here = generations[side][operation.key, default: 0]
            if here < operation.generation {
                if here % 2 == 1 { carried = owned[side][operation.key] }
                owned[side][operation.key] = nil
                generations[side][operation.key] = operation.generation
            }
        } else {
            return arriveWrites(
                operation, operation.key, operation.generation, position, transaction, side, carried: nil)
        }
        guard let newKey = operation.newKey else { return }
        arriveWrites(
            operation, newKey, operation.newGeneration, position, transaction, side, carried: carried)
    }

    private mutating func arriveWrites(
        _ operation: Operation, _ key: Int, _ generation: Int, _ position: Int, _ transaction: Transaction,
        _ side: Int,
        carried: Int??
    ) {
        let here = generations[side][key, default: 0]
        if here < generation {
            // A new row; one that only got another key keeps what it had.
            owned[side][key] = carried ?? .some(defaults[side][SimulatedRow.owned(by: side)])
            generations[side][key] = generation
            return
        }
        for column in operation.columns {
            let isLost =
                here > generation
                || column >= SimulatedRow.firstShared
                    && isLost(operation.new?[column] ?? nil, column, key, generation, transaction, side)
            guard isLost else { continue }
            conflicts[side].append(
                .init(commitLSN: transaction.commitLSN.rawValue, position: position, column: column))
        }
    }

    /// Whether a write that arrives loses against the latest local one that it had not seen.
    private func isLost(
        _ new: Int?, _ column: Int, _ key: Int, _ generation: Int, _ transaction: Transaction, _ side: Int
    ) -> Bool {
        guard column != SimulatedRow.delta,
            let local = writes[side][Place(key: key, column: column)]?.last, local.generation == generation,
            local.commitLSN >= transaction.seenLSN
        else { return false }
        let remote = Write(
            generation: generation, commitLSN: transaction.commitLSN, seenLSN: transaction.seenLSN,
            time: transaction.time, new: new)
        let pair = side == 0 ? (local, remote) : (remote, local)
        return Self.outcome(column, pair.0, pair.1) != new
    }

    // MARK: what must come of it

    /// Of two concurrent writes: side 0's and side 1's.
    private static func outcome(_ column: Int, _ first: Write, _ second: Write) -> Int? {
        let isSecondLater = (second.time, 1) > (first.time, 0)
        switch column {
        case SimulatedRow.lastWrite: return isSecondLater ? second.new : first.new
        case SimulatedRow.preferFirst: return first.new
        case SimulatedRow.preferSecond: return second.new
        case SimulatedRow.max: return [first.new, second.new].compactMap { $0 }.max()
        case SimulatedRow.min: return [first.new, second.new].compactMap { $0 }.min()
        default: return isSecondLater ? first.new : second.new
        }
    }

    /// The rows that both sides must end with.
    func rows() -> [Int: SimulatedRow.Values] {
        var rows: [Int: SimulatedRow.Values] = [:]
        for key in Set(generations[0].keys).union(generations[1].keys) {
            let generation = Swift.max(generations[0][key, default: 0], generations[1][key, default: 0])
            guard generation % 2 == 1 else { continue }
            var row: SimulatedRow.Values = Array(repeating: nil, count: SimulatedRow.width)
            row[SimulatedRow.key] = key
            for side in 0..<2 { row[SimulatedRow.owned(by: side)] = owned[side][key] ?? nil }
            for column in SimulatedRow.firstShared..<SimulatedRow.width {
                let both = (0..<2).map { side in
                    (writes[side][Place(key: key, column: column)] ?? []).filter {
                        $0.generation == generation
                    }
                }
                row[column] = value(column, both[0], both[1])
            }
            rows[key] = row
        }
        return rows
    }

    private func value(_ column: Int, _ first: [Write], _ second: [Write]) -> Int? {
        if column == SimulatedRow.delta {
            return (first + second).reduce(0) { $0 + ($1.new ?? 0) - ($1.old ?? 0) }
        }
        guard let left = first.last else { return second.last?.new }
        guard let right = second.last else { return left.new }
        if left.commitLSN < right.seenLSN { return right.new }
        if right.commitLSN < left.seenLSN { return left.new }
        return Self.outcome(column, left, right)
    }
}
