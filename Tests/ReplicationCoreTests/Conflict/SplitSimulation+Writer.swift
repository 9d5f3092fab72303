@testable import ReplicationCore

/// Clients: transactions of one to four changes, open for a while, on few rows.
extension SplitSimulation {
    static let keyCount = 3

    mutating func stepWriter(_ side: Int) {
        if databases[side].writer != nil {
            switch random.below(10) {
            case ..<4: return commitWriter(side)
            case 4:
                note("\(side) rolls back")
                return databases[side].rollBackWriter()
            default: break
            }
        } else {
            databases[side].writer = SimulatedDatabase.OpenTransaction()
        }
        let key = random.below(Self.keyCount)
        // A row that the applier holds makes clients wait.
        guard databases[side].isFree(key) else { return }
        if let change = makeChange(side, key) {
            databases[side].change(change)
            note("\(side) \(change.kind) \(Self.words(change.old)) -> \(Self.words(change.new))")
        }
        if random.chance(40) { commitWriter(side) }
    }

    private mutating func makeChange(_ side: Int, _ key: Int) -> SimulatedChange? {
        guard let old = databases[side].visibleRow(key) else {
            var row = databases[side].defaults
            row[SimulatedRow.key] = key
            for column in moves.writable[side] {
                if random.chance(60) { row[column] = value(for: column, was: row[column]) }
            }
            return SimulatedChange(kind: .insert, old: nil, new: row)
        }
        switch random.below(10) {
        case ..<2: return SimulatedChange(kind: .delete, old: old, new: nil)
        case 2:
            let newKey = random.below(Self.keyCount)
            guard databases[side].isFree(newKey), databases[side].visibleRow(newKey) == nil else {
                return nil
            }
            var row = old
            row[SimulatedRow.key] = newKey
            if random.chance(50) { row[SimulatedRow.lastWrite] = random.below(valueCount) }
            return SimulatedChange(kind: .update, old: old, new: row)
        default:
            var row = old
            let earlier = random.chance(20) ? databases[side].replaced[key] : nil
            for column in moves.writable[side] {
                if let earlier {
                    row[column] = earlier[column]
                } else if random.chance(25) {
                    row[column] = value(for: column, was: row[column])
                }
            }
            return SimulatedChange(kind: .update, old: old, new: row)
        }
    }

    private mutating func value(for column: Int, was: Int?) -> Int? {
        if random.chance(6) { return nil }
        return column == SimulatedRow.delta ? (was ?? 0) + random.below(9) - 4 : random.below(valueCount)
    }

    mutating func commitWriter(_ side: Int) {
        // Now and then by a subscription from elsewhere, with a time of its own.
        let isForeign = random.chance(10)
        let commitTime = isForeign ? Int64(random.below(100)) : databases[side].clock
        guard
            let done = databases[side].commitWriter(
                origin: isForeign ? "elsewhere" : nil, commitTime: commitTime)
        else { return }
        truth.commitLocal(
            side: side, changes: done.changes, commitLSN: done.commitLSN, commitTime: commitTime)
        note("\(side) commits \(done.commitLSN) at \(commitTime)")
    }
}
