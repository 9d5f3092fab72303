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
        /// Columns that it writes, but the key.
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
        /// Of its operation in the transaction.
        var position = 0
        /// What a database gave to its own column in a row that the other side made.
        var isEcho = false
    }

    /// A client's delete, or its changed key.
    private struct Ending {
        var generation: Int
        var seenLSN: LSN
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
    private var endings: [[Int: [Ending]]] = [[:], [:]]
    /// Conflicts that a side must have recorded.
    private(set) var conflicts: [[SimulatedDatabase.LoggedConflict]] = [[], []]
    let defaults: [SimulatedRow.Values]
    /// Whether every column travels both ways.
    var isInTransition = false
    var policies = SimulatedPolicies()

    init(defaults: [SimulatedRow.Values]) { self.defaults = defaults }

    // MARK: what sides do

    mutating func commitLocal(side: Int, changes: [SimulatedChange], commitLSN: LSN, commitTime: Int64) {
        clocks[side] = Swift.max(commitTime, clocks[side] + 1)
        var transaction = Transaction(
            commitLSN: commitLSN, seenLSN: seen[side], time: clocks[side], operations: [])
        for (position, change) in changes.enumerated() {
            let row = change.new ?? change.old ?? []
            let key = SimulatedRow.key(change.old ?? row)
            var operation = Operation(
                kind: change.kind, key: key, generation: generations[side][key, default: 0], columns: [],
                old: change.old, new: change.new)
            let all = Array(1..<SimulatedRow.width)
            switch change.kind {
            case .insert:
                operation.generation += 1
                operation.columns = all
            case .delete, .truncate:
                operation.generation += 1
            case .update where SimulatedRow.key(row) != key:
                operation.generation += 1
                operation.newKey = SimulatedRow.key(row)
                operation.newGeneration = generations[side][SimulatedRow.key(row), default: 0] + 1
                operation.columns = all
            case .update:
                operation.columns = all.filter { change.old?[$0] != change.new?[$0] }
            }
            generations[side][key] = operation.generation
            if let newKey = operation.newKey { generations[side][newKey] = operation.newGeneration }
            if change.kind == .delete || operation.newKey != nil {
                endings[side][key, default: []].append(Ending(generation: operation.generation - 1, seenLSN: transaction.seenLSN))
            }
            note(operation, side: side, transaction, position)
            transaction.operations.append(operation)
        }
        transactions[side][commitLSN.rawValue] = transaction
    }

    private mutating func note(_ operation: Operation, side: Int, _ transaction: Transaction, _ position: Int) {
        guard let new = operation.new else { return }
        let isNewRow = operation.kind == .insert || operation.newKey != nil
        let key = operation.newKey ?? operation.key
        for column in operation.columns {
            writes[side][Place(key: key, column: column), default: []].append(
                Write(
                    generation: operation.newKey == nil ? operation.generation : operation.newGeneration,
                    commitLSN: transaction.commitLSN, seenLSN: transaction.seenLSN, time: transaction.time,
                    old: isNewRow ? nil : operation.old?[column], new: new[column], position: position))
        }
    }

    /// The other side's transactions arrive, all at once.
    mutating func commitRemote(into side: Int, _ commitLSNs: [LSN], endLSN: LSN, as commitLSN: LSN) {
        for arriving in commitLSNs {
            guard let transaction = transactions[1 - side][arriving.rawValue] else { continue }
            clocks[side] = Swift.max(clocks[side], transaction.time)
            for (position, operation) in transaction.operations.enumerated() {
                arrive(
                    operation,
                    Arrival(side: side, position: position, transaction: transaction, commitLSN: commitLSN, endLSN: endLSN))
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

    private struct Arrival {
        var side: Int
        var position: Int
        var transaction: Transaction
        /// Of the transaction that applies it.
        var commitLSN: LSN
        var endLSN: LSN
    }

    /// Columns that an operation brings to a side.
    private func travelling(_ operation: Operation, to side: Int) -> [Int] {
        isInTransition
            ? operation.columns : operation.columns.filter { $0 != SimulatedRow.owned(by: side) }
    }

    private mutating func arrive(_ operation: Operation, _ arrival: Arrival) {
        let side = arrival.side
        guard operation.kind == .delete || operation.newKey != nil else {
            return arriveWrites(operation, operation.key, operation.generation, arrival, carried: nil)
        }
        var carried: Int??
        let here = generations[side][operation.key, default: 0]
        if here < operation.generation {
            let own = Place(key: operation.key, column: SimulatedRow.owned(by: side))
            if here % 2 == 1 { carried = latest(of: own, generation: here, on: side) }
            generations[side][operation.key] = operation.generation
        }
        guard let newKey = operation.newKey else { return }
        arriveWrites(operation, newKey, operation.newGeneration, arrival, carried: carried)
    }

    /// What a side's row holds in its own column.
    private func latest(of place: Place, generation: Int, on side: Int) -> Int? {
        let both = (0..<2).map { from in
            (writes[from][place] ?? []).filter { write in
                write.generation == generation && (from == side || write.commitLSN < seen[side])
            }
        }
        return value(place.column, both[0], both[1])
    }

    private mutating func arriveWrites(
        _ operation: Operation, _ key: Int, _ generation: Int, _ arrival: Arrival, carried: Int??
    ) {
        let side = arrival.side
        let here = generations[side][key, default: 0]
        if here < generation {
            generations[side][key] = generation
            if isInTransition { return }
            // A new row; one that only got another key keeps what it had.
            let own = SimulatedRow.owned(by: side)
            writes[side][Place(key: key, column: own), default: []].append(
                Write(
                    generation: generation, commitLSN: arrival.commitLSN, seenLSN: arrival.endLSN,
                    time: clocks[side], new: carried ?? defaults[side][own], isEcho: true))
            return
        }
        for column in travelling(operation, to: side) {
            let isLost =
                here > generation
                || (isInTransition || column >= SimulatedRow.firstShared)
                    && isLost(operation.new?[column] ?? nil, column, key, generation, arrival.transaction, side)
            guard isLost else { continue }
            conflicts[side].append(
                .init(
                    commitLSN: arrival.transaction.commitLSN.rawValue, position: arrival.position, column: column))
        }
    }

    /// Whether a write that arrives loses against the latest local one that it had not seen.
    private func isLost(
        _ new: Int?, _ column: Int, _ key: Int, _ generation: Int, _ transaction: Transaction, _ side: Int
    ) -> Bool {
        guard let local = writes[side][Place(key: key, column: column)]?.last, local.generation == generation,
            local.commitLSN >= transaction.seenLSN, !local.isEcho
        else { return false }
        let remote = Write(
            generation: generation, commitLSN: transaction.commitLSN, seenLSN: transaction.seenLSN,
            time: transaction.time, new: new)
        let pair = side == 0 ? (local, remote) : (remote, local)
        return !isCounter(column, pair.0, pair.1) && outcome(column, pair.0, pair.1) != new
    }

    // MARK: what must come of it

    /// Of two concurrent writes: side 0's and side 1's.
    private func outcome(_ column: Int, _ first: Write, _ second: Write) -> Int? {
        let isSecondLater = (second.time, 1) > (first.time, 0)
        if first.isEcho != second.isEcho { return first.isEcho ? second.new : first.new }
        switch column {
        case SimulatedRow.owned(by: 0): return first.new
        case SimulatedRow.owned(by: 1): return second.new
        default: break
        }
        let rule = policies.rule(column, [first.commitLSN, second.commitLSN])
        switch rule?.policy {
        case .lastWrite: return isSecondLater ? second.new : first.new
        case .prefer: return rule?.side == SimulatedRow.sides[0] ? first.new : second.new
        case .max: return [first.new, second.new].compactMap { $0 }.max()
        case .min: return [first.new, second.new].compactMap { $0 }.min()
        default: return isSecondLater ? first.new : second.new
        }
    }

    /// Whether two writes, one of each side, add up.
    private func isCounter(_ column: Int, _ first: Write, _ second: Write) -> Bool {
        policies.rule(column, [first.commitLSN, second.commitLSN])?.policy == .delta
    }

    /// The rows that both sides must end with.
    func rows() -> [Int: SimulatedRow.Values] {
        var rows: [Int: SimulatedRow.Values] = [:]
        for key in Set(generations[0].keys).union(generations[1].keys) {
            let generation = Swift.max(generations[0][key, default: 0], generations[1][key, default: 0])
            guard generation % 2 == 1 else { continue }
            var row: SimulatedRow.Values = Array(repeating: nil, count: SimulatedRow.width)
            row[SimulatedRow.key] = key
            for column in 1..<SimulatedRow.width {
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

    /// Values of shared columns that are neither in a row, nor in a log, nor replaced by somebody who knew them: nobody may
    /// lose any like this.
    ///
    /// - Parameter isRecorded: whether a side's log has it.
    func forgotten(_ isRecorded: (_ side: Int, SimulatedDatabase.LoggedConflict) -> Bool) -> [String] {
        let rows = rows()
        var forgotten: [String] = []
        for side in 0..<2 {
            for (place, all) in writes[side] where place.column >= SimulatedRow.firstShared && place.column != SimulatedRow.delta {
                for (index, write) in all.enumerated() where !write.isEcho {
                    let isReplaced =
                        index < all.count - 1
                        || (writes[1 - side][place] ?? []).contains { $0.seenLSN > write.commitLSN && !$0.isEcho }
                    let isEnded =
                        (endings[side][place.key] ?? []).contains { $0.generation == write.generation }
                        || (endings[1 - side][place.key] ?? []).contains {
                            $0.generation == write.generation && $0.seenLSN > write.commitLSN
                        }
                    let isThere = rows[place.key].map { $0[place.column] == write.new } ?? false
                    let name = SimulatedDatabase.LoggedConflict(
                        commitLSN: write.commitLSN.rawValue, position: write.position, column: place.column)
                    if !isReplaced, !isEnded, !isThere, !isRecorded(1 - side, name) {
                        forgotten.append("\(name) of side \(side), row \(place.key): \(write.new.map(String.init) ?? "NULL")")
                    }
                }
            }
        }
        return forgotten
    }

    private func value(_ column: Int, _ first: [Write], _ second: [Write]) -> Int? {
        guard let left = first.last else { return second.last?.new }
        guard let right = second.last else { return left.new }
        if isCounter(column, left, right) { return (first + second).reduce(0) { $0 + ($1.new ?? 0) - ($1.old ?? 0) } }
        if left.commitLSN < right.seenLSN { return right.new }
        if right.commitLSN < left.seenLSN { return left.new }
        return outcome(column, left, right)
    }
}
