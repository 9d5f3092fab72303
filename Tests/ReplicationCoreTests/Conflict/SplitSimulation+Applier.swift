@testable import ReplicationCore

/// The appliers: lock, wait for the barrier, decide, commit; each a step of its own.
extension SplitSimulation {
    /// False when there was nothing to do, or something to wait for.
    mutating func stepApplier(from side: Int) throws -> Bool {
        guard let group = worker.groups[side] else { return lockGroup(from: side) }
        let target = 1 - side
        if !options.faults.skipsBarrier,
            !(options.faults.trustsOldValues && holdsOldValues(group, from: side)),
            worker.readers[target].readLSN < group.barrierLSN
        {
            guard worker.hasRead(target, databases[target]) else { return false }
            try worker.noteIdle(target, databases[target])
        }
        try finish(group, from: side)
        return true
    }

    /// Whether every change finds what its old row says: what a guard in the `WHERE` clause would ask.
    private func holdsOldValues(_ group: SimulatedWorker.Group, from side: Int) -> Bool {
        worker.pending[side][group.range].allSatisfy { pending in
            pending.transaction.operations.allSatisfy { operation in
                guard operation.kind == .update, let row = row(Self.number(operation.key), asWrittenFrom: side)
                else { return false }
                return operation.columns.allSatisfy { column in
                    let old = operation.oldCell(column, table: layouts[side]).flatMap {
                        Self.value($0, pending.chunk)
                    }
                    return row[layouts[side].columns[column].sourceIndex] == old
                }
            }
        }
    }

    private mutating func lockGroup(from side: Int) -> Bool {
        guard let range = nextRange(from: side) else { return false }
        let target = 1 - side
        let parts = worker.parts[side]
        var effects = options.faults.forgetsEffectsOfParts ? GroupEffects() : parts?.effects.goingOn() ?? GroupEffects()
        var keys: [Int: (RowKey, isCreated: Bool)] = [:]
        for pending in worker.pending[side][range] {
            for operation in pending.transaction.operations {
                let old = Self.number(operation.key)
                keys[old] = (operation.key, (keys[old]?.isCreated ?? false) || operation.kind == .insert)
                if case .move(let newKey) = operation.kind { keys[Self.number(newKey)] = (newKey, true) }
            }
        }
        var held: [Int] = []
        for (number, key) in keys {
            let isPresent = row(number, asWrittenFrom: side) != nil
            effects.note(key.0, isPresent: isPresent)
            // What is not there, and is not to be, cannot be held.
            guard isPresent || key.isCreated && !options.faults.leavesNewKeysFree else { continue }
            if databases[target].locks[number] == .writer { return false }
            if databases[target].locks[number] == nil { held.append(number) }
        }
        for number in held { databases[target].locks[number] = .applier }
        let sharedLSN = options.faults.sharesBarrierOfParts ? parts?.barrierLSN : nil
        worker.groups[side] = SimulatedWorker.Group(
            range: range, barrierLSN: sharedLSN ?? databases[target].endLSN, effects: effects, held: held)
        note("\(side)->\(target) holds \(held.sorted()) for \(range)")
        return true
    }

    /// What is to be decided next: some whole transactions, now and then the first piece of one, or what follows it.
    private mutating func nextRange(from side: Int) -> Range<Int>? {
        let pending = worker.pending[side]
        if let parts = worker.parts[side] {
            return parts.count < pending.count ? parts.count..<(parts.count + 1) : nil
        }
        guard let first = pending.first else { return nil }
        if first.transaction.progress == nil, random.chance(50) { return 0..<1 }
        var count = min(1 + random.below(3), pending.count)
        // A transaction that is not here to its end waits for the rest.
        while pending[count - 1].transaction.progress == nil {
            count += 1
            if count > pending.count { return nil }
        }
        return 0..<count
    }

    /// A row of the target as the direction's own transaction sees it.
    private func row(_ key: Int, asWrittenFrom side: Int) -> SimulatedRow.Values? {
        if let own = worker.parts[side]?.rows[key] { return own }
        return databases[1 - side].rows[key]
    }

    private mutating func finish(_ group: SimulatedWorker.Group, from side: Int) throws {
        let target = 1 - side
        var effects = group.effects
        var written = worker.parts[side] ?? SimulatedWorker.Parts()
        var rows = databases[target].rows
        for (key, row) in written.rows { rows[key] = row }
        let batch = worker.pending[side][group.range]
        for pending in batch {
            try checkTime(of: pending.transaction, from: side)
            for operation in pending.transaction.operations {
                let before = effects
                let resolution = try resolvers[target].resolve(
                    operation, of: pending.transaction, table: layouts[side],
                    against: worker.readers[target].history, effects: &effects)
                note(
                    "\(side)->\(target) \(Self.words(operation, pending.transaction)): \(Self.words(resolution))"
                )
                try checkPlain(operation, pending.transaction, resolution, before, from: side)
                for step in resolution.steps {
                    guard let change = perform(step, of: operation, pending.chunk, from: side, on: &rows)
                    else {
                        // A unique key was taken meanwhile: everything of this part again.
                        worker.groups[side] = nil
                        for key in group.held { databases[target].locks[key] = nil }
                        return
                    }
                    written.changes.append(change)
                }
                written.conflicts += record(resolution.conflicts, of: operation, pending.chunk, from: side, rows)
            }
        }
        guard let last = batch.last?.transaction else { return }
        if !effects.notes.isEmpty, !options.faults.omitsNotes {
            written.messages.append(SplitNote.encode(effects.notes))
        }
        guard let progress = last.progress else { return goOn(after: group, written, effects, rows, from: side) }
        databases[target].rows = rows
        databases[target].conflicts += written.conflicts
        var first = last
        if options.faults.appliesUnderCommitTime { first.effectiveTime = last.commitTime }
        if !options.faults.omitsMessage || !written.changes.isEmpty {
            written.messages.insert(
                SplitNote.encode(isNotedWhole ? [first.appliedNote, .whole] : [first.appliedNote]), at: 0)
        }
        let commitLSN = databases[target].append(
            written.changes, commitTime: last.commitTime.microseconds, origin: SimulatedWorker.origin(into: target),
            notes: written.messages)
        truth.commitRemote(
            into: target, batch.filter { $0.transaction.progress != nil }.map(\.transaction.commitLSN),
            endLSN: progress.appliedLSN, as: commitLSN)
        worker.pending[side].removeFirst(group.range.upperBound)
        worker.groups[side] = nil
        worker.parts[side] = nil
        databases[target].release(.applier)
        note("\(side)->\(target) commits up to \(progress.appliedLSN)")
        if options.faults.losesProgress, random.chance(20) { return }
        try record(progress, from: side)
    }

    /// A part is written; more of its transaction is to come.
    private mutating func goOn(
        after group: SimulatedWorker.Group, _ written: SimulatedWorker.Parts, _ effects: GroupEffects,
        _ rows: [Int: SimulatedRow.Values], from side: Int
    ) {
        var written = written
        written.count = group.range.upperBound
        written.barrierLSN = group.barrierLSN
        written.effects = effects
        for change in written.changes {
            for row in [change.old, change.new].compactMap({ $0 }) {
                written.rows[SimulatedRow.key(row)] = .some(rows[SimulatedRow.key(row)])
            }
        }
        worker.parts[side] = written
        worker.groups[side] = nil
        if options.faults.releasesPartsEarly { databases[1 - side].release(.applier) }
        note("\(side)->\(1 - side) goes on after \(group.range)")
    }

    private var isNotedWhole: Bool { moves.isInTransition && !options.faults.omitsWhole }

    /// However often it was read, and from wherever: the same effective time.
    private func checkTime(of transaction: SplitTransaction, from side: Int) throws {
        guard let known = truth.transactions[side][transaction.commitLSN.rawValue] else { return }
        guard known.time == transaction.effectiveTime.microseconds else {
            throw failure(
                "\(transaction.commitLSN) of side \(side) has time \(transaction.effectiveTime.microseconds), not \(known.time)"
            )
        }
    }

    /// A row that the target left alone is treated as in one-way replication, if it is there, or is not, as it should.
    private func checkPlain(
        _ operation: RowOperation, _ transaction: SplitTransaction, _ resolution: Resolution,
        _ before: GroupEffects,
        from side: Int
    ) throws {
        let history = worker.readers[1 - side].history
        var newKey: RowKey?
        if case .move(let key) = operation.kind { newKey = key }
        guard try history.isUntouched(operation.key, since: transaction.context),
            try newKey.map({ try history.isUntouched($0, since: transaction.context) && !before.isPresent($0) })
                ?? true,
            before.isPresent(operation.key) == (operation.kind != .insert)
        else { return }
        var isPlain = resolution.conflicts.isEmpty && resolution.steps.count == 1
        switch (operation.kind, resolution.steps.first) {
        case (.insert, .insert(_, let writes)), (.move, .move(_, _, let writes)):
            isPlain = isPlain && writes.allSatisfy { $0.value == .remote }
        case (.update, .update(_, let writes)), (.echo, .update(_, let writes)):
            isPlain = isPlain && writes.allSatisfy { $0.value == .remote || $0.value == .sum }
        case (.delete, .delete): break
        default: isPlain = false
        }
        guard isPlain else { throw failure("an untouched row is not treated plainly: \(resolution)") }
    }

    /// Performs one statement; `nil` when a unique key is taken.
    private func perform(
        _ step: RowStep, of operation: RowOperation, _ chunk: ChangeChunk, from side: Int,
        on rows: inout [Int: SimulatedRow.Values]
    ) -> SimulatedChange? {
        switch step {
        case .insert(let key, let writes):
            let number = Self.number(key)
            guard rows[number] == nil else { return nil }
            var row = databases[1 - side].defaults
            row[SimulatedRow.key] = number
            write(writes, of: operation, chunk, from: side, to: &row)
            rows[number] = row
            return SimulatedChange(kind: .insert, old: nil, new: row)
        case .update(let key, let writes):
            guard let old = rows[Self.number(key)] else { return nil }
            var row = old
            write(writes, of: operation, chunk, from: side, to: &row)
            rows[Self.number(key)] = row
            return SimulatedChange(kind: .update, old: old, new: row)
        case .delete(let key):
            guard let old = rows.removeValue(forKey: Self.number(key)) else { return nil }
            return SimulatedChange(kind: .delete, old: old, new: nil)
        case .move(let key, let newKey, let writes):
            let number = Self.number(newKey)
            guard rows[number] == nil, let old = rows.removeValue(forKey: Self.number(key)) else {
                return nil
            }
            var row = old
            row[SimulatedRow.key] = number
            write(writes, of: operation, chunk, from: side, to: &row)
            rows[number] = row
            return SimulatedChange(kind: .update, old: old, new: row)
        }
    }

    private func write(
        _ writes: [ColumnWrite], of operation: RowOperation, _ chunk: ChangeChunk, from side: Int,
        to row: inout SimulatedRow.Values
    ) {
        for write in writes {
            let index = layouts[side].columns[write.column].sourceIndex
            let new = newValue(write.column, of: operation, chunk, from: side)
            switch write.value {
            case .remote: row[index] = new
            case .sum:
                let old = operation.oldCell(write.column, table: layouts[side]).flatMap {
                    Self.value($0, chunk)
                }
                row[index] = (row[index] ?? 0) + (new ?? 0) - (old ?? 0)
            case .local(let bytes): row[index] = SimulatedRow.value(bytes)
            case .greatest(let bytes): row[index] = extreme(new, bytes, isGreatest: !options.faults.swapsExtremes)
            case .least(let bytes): row[index] = extreme(new, bytes, isGreatest: options.faults.swapsExtremes)
            }
        }
    }

    private func extreme(_ new: Int?, _ bytes: [UInt8]?, isGreatest: Bool) -> Int? {
        let values = [new, SimulatedRow.value(bytes)].compactMap { $0 }
        return isGreatest ? values.max() : values.min()
    }

    private func record(
        _ records: [ConflictRecord], of operation: RowOperation, _ chunk: ChangeChunk, from side: Int,
        _ rows: [Int: SimulatedRow.Values]
    ) -> [SimulatedDatabase.LoggedConflict] {
        records.compactMap { record in
            // Every row of the simulation has columns beside its key.
            guard let column = record.column else { return nil }
            let index = layouts[side].columns[column].sourceIndex
            let new = newValue(column, of: operation, chunk, from: side)
            if record.isRecordedOnlyIfDistinct, rows[Self.number(record.key)]?[index] == new { return nil }
            return .init(
                commitLSN: record.remote.id.commitLSN.rawValue, position: record.remote.id.position,
                column: index)
        }
    }

    private func newValue(_ column: Int, of operation: RowOperation, _ chunk: ChangeChunk, from side: Int)
        -> Int?
    {
        Self.value(operation.newCell(column, table: layouts[side], arena: chunk.arena), chunk)
    }

    private static func value(_ cell: Int, _ chunk: ChangeChunk) -> Int? {
        let found = chunk.arena.cells[cell]
        guard found.kind != .null else { return nil }
        return SimulatedRow.value(chunk.arena.bytes[found.offset], chunk.arena.bytes[found.offset + 1])
    }

    private static func words(_ operation: RowOperation, _ transaction: SplitTransaction) -> String {
        var kind = "\(operation.kind)"
        if case .move(let newKey) = operation.kind { kind = "move to \(number(newKey))" }
        return
            "\(number(operation.key)) \(kind) of \(transaction.commitLSN), which saw \(transaction.context.lsn)"
    }

    private static func words(_ resolution: Resolution) -> String {
        let steps = resolution.steps.map { step in
            switch step {
            case .insert(_, let writes): "insert \(words(writes))"
            case .update(_, let writes): "update \(words(writes))"
            case .delete: "delete"
            case .move(_, _, let writes): "move \(words(writes))"
            }
        }
        return "\(steps.joined(separator: ", ")); \(resolution.conflicts.count) lost"
    }

    private static func words(_ writes: [ColumnWrite]) -> String {
        writes.map { write in
            let value =
                switch write.value {
                case .remote: "new"
                case .sum: "sum"
                case .local(let bytes): "\(SimulatedRow.value(bytes).map(String.init) ?? "NULL")"
                case .greatest(let bytes): ">\(SimulatedRow.value(bytes).map(String.init) ?? "NULL")"
                case .least(let bytes): "<\(SimulatedRow.value(bytes).map(String.init) ?? "NULL")"
                }
            return "\(write.column)=\(value)"
        }.joined(separator: " ")
    }

    /// The key column's value: after the kind and the length.
    private static func number(_ key: RowKey) -> Int { SimulatedRow.value(key.bytes[5], key.bytes[6]) }
}
