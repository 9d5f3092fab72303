@testable import ReplicationCore

/// The appliers of the reference simulation: ask the source, hold the rows, wait for the barrier, decide.
extension ReferenceSimulation {
    /// False when there was nothing to do, or something to wait for.
    mutating func stepApplier(from side: Int) throws -> Bool {
        guard let group = groups[side] else { return ask(from: side, nil) }
        if group.barrierLSN == nil { return try hold(group, from: side) }
        return try finish(group, from: side)
    }

    // MARK: asking and holding

    /// Asks the source whose numbers a group's references are.
    ///
    /// - Parameter again: the same group, when it begins again.
    private mutating func ask(from side: Int, _ again: Group?) -> Bool {
        guard let count = again?.count ?? nextCount(from: side) else { return false }
        var meanings = ReferenceMeanings(rules: options.rules)
        for pending in pending[side][..<count] {
            for operation in pending.transaction.operations {
                guard let number = number(operation, pending.chunk, from: side), meanings.note(number, in: operation) else { continue }
                guard let place = databases[side].rows.place(of: SimulatedRow.value(number.bytes), in: number.table) else { continue }
                meanings.answer(number, place.rowKey, ownBytes: number.bytes)
            }
        }
        groups[side] = Group(
            count: count, meanings: meanings, sourceLSN: databases[side].endLSN, attempt: (again?.attempt ?? 0) + 1)
        note("\(side)->\(1 - side) asks for \(count)")
        return true
    }

    /// Some whole transactions, of which the last one may end rows that others refer to.
    private mutating func nextCount(from side: Int) -> Int? {
        let limit = 1 + random.below(3)
        var (count, transactions, isLast) = (0, 0, false)
        for (index, pending) in pending[side].enumerated() {
            isLast = isLast || pending.transaction.operations.contains(where: endsReferenced)
            guard pending.transaction.progress != nil else { continue }
            (count, transactions) = (index + 1, transactions + 1)
            if isLast || transactions == limit { break }
        }
        return count > 0 ? count : nil
    }

    private func endsReferenced(_ operation: RowOperation) -> Bool {
        guard shape.tables[operation.relation].isReferenced else { return false }
        switch operation.kind {
        case .delete, .move: return true
        case .insert, .update, .echo: return false
        }
    }

    /// The number that an operation gives a row as its reference.
    private func number(_ operation: RowOperation, _ chunk: ChangeChunk, from side: Int) -> ReferenceMeanings.Number? {
        guard let parent = shape.tables[operation.relation].parent, operation.kind != .delete,
            !layouts[side][operation.relation].references.isEmpty
        else { return nil }
        return chunk.arena.withCell(operation.new.firstCell + 2) { cell, bytes in
            cell.kind == .null ? nil : ReferenceMeanings.Number(table: parent, bytes: Array(bytes))
        }
    }

    private mutating func hold(_ asked: Group, from side: Int) throws -> Bool {
        var group = asked
        let target = 1 - side
        if !group.meanings.isEmpty {
            if !options.faults.skipsSourceBarrier {
                guard try hasPassed(group.sourceLSN, side) else { return false }
            }
            try group.meanings.goBack(in: readers[side].history)
            _ = try group.meanings.follow(in: readers[target].history)
        }
        var created: [RowKey: Bool] = [:]
        for pending in pending[side][..<group.count] {
            for operation in pending.transaction.operations {
                let mayWait = shape.tables[operation.relation].isRequired && !options.faults.forgetsWaitingRows
                created[operation.key] = created[operation.key] ?? false || operation.kind == .insert || mayWait
                if case .move(let newKey) = operation.kind { created[newKey] = true }
            }
        }
        let written = databases[target].writer?.written ?? []
        var (held, kept): (Set<ReferencePlace>, Set<ReferencePlace>) = ([], [])
        for (key, isCreated) in created {
            let place = ReferencePlace(key)
            let row = databases[target].rows[place]
            group.effects.note(key, isPresent: row != nil)
            if shape.tables[place.table].isReferenced { group.ended.note(key, number: row.map { String($0.number) }) }
            // What is not there, and is not to be, cannot be held.
            guard row != nil || isCreated else { continue }
            if written.contains(place) { return false }
            held.insert(place)
        }
        for key in group.meanings.rows where created[key] == nil {
            let place = ReferencePlace(key)
            group.effects.note(key, isPresent: databases[target].rows[place] != nil)
            guard databases[target].rows[place] != nil else { continue }
            if written.contains(place) { return false }
            kept.insert(place)
        }
        (databases[target].held, databases[target].kept) = (held, kept)
        group.barrierLSN = databases[target].endLSN
        groups[side] = group
        note("\(side)->\(target) holds \(held.count) rows, keeps \(kept.map(\.description).sorted())")
        return true
    }

    // MARK: deciding

    private mutating func finish(_ held: Group, from side: Int) throws -> Bool {
        var group = held
        let target = 1 - side
        guard let barrierLSN = group.barrierLSN, try hasPassed(barrierLSN, target) else { return false }
        if !group.meanings.isEmpty, !options.faults.neverFollows {
            let news = try group.meanings.follow(in: readers[target].history)
            if news.hasRows, group.attempt < (options.faults.followsOnce ? 2 : Self.attempts) {
                note("\(side)->\(target) begins again")
                release(target)
                return ask(from: side, group)
            }
        }
        var work = ReferenceWork(edit: ReferenceEdit(rows: databases[target].rows), database: databases[target])
        for pending in pending[side][..<group.count] {
            for operation in pending.transaction.operations {
                try apply(operation, of: pending, &group, &work, from: side)
            }
        }
        let applied = work.edit.changes.count
        guard try settle(&group, &work, from: side), work.isFree(hasForeignKeys: hasForeignKeys) else { return false }
        commit(group, work, applied, from: side)
        // Where keys change on both sides, it may meet another row for a while, and is told again.
        if !hasMoves { try checkArrived(work.edit.changes[..<applied], on: target) }
        return true
    }

    private mutating func apply(
        _ operation: RowOperation, of pending: Pending, _ group: inout Group, _ work: inout ReferenceWork, from side: Int
    ) throws {
        let target = 1 - side
        let context = pending.transaction.context
        let layout = layouts[side][operation.relation]
        let moment = group.meanings.moment(in: context, after: group.effects)
        let number = self.number(operation, pending.chunk, from: side)
        let key = number.flatMap { moment.key(of: $0, in: operation) }
        var required: RequiredReferences?
        if shape.tables[operation.relation].isRequired {
            let isMissing = number != nil && key.map { !group.effects.isPresent($0) } ?? true
            required = RequiredReferences(
                missing: isMissing ? Set(layout.references.keys) : [], of: operation, table: layout, arena: pending.chunk.arena)
        }
        let met = try metRow(operation, context, group.effects, side: target)
        let resolution = try resolvers[target].resolve(
            operation, of: pending.transaction, table: layout, against: readers[target].history, effects: &group.effects,
            required: required)
        if let row = group.ended.note(operation, resolution, layout, in: context) {
            work.made[row] = work.edit.rows[ReferencePlace(operation.key)]?.number
        }
        note("    \(operation.id.commitLSN) \(layout.name.name) \(operation.kind) \(ReferencePlace(operation.key)): \(resolution.steps.count) steps")
        let row = databases[side].row(of: operation.id)
        let reference = (key, row?.meant)
        for step in resolution.steps { try perform(step, row?.identity, reference, layout, &work) }
        let other = met.former ?? met.key.flatMap { work.edit.rows[ReferencePlace($0)] }
        if let other, let identity = row?.identity { work.joined.append((identity, other.identity)) }
    }

    /// The row that one which an operation brings is from now on: both sides have made it, or one has moved it onto the
    /// other's.
    ///
    /// - Returns: its key, or, if the target has ended that row or given it another key, that row as it was.
    private func metRow(
        _ operation: RowOperation, _ context: CausalContext, _ effects: GroupEffects, side: Int
    ) throws -> (key: RowKey?, former: ReferenceDatabase.Row?) {
        guard shape.tables[operation.relation].isReferenced else { return (nil, nil) }
        let key: RowKey
        switch operation.kind {
        case .insert: key = operation.key
        case .move(let newKey): key = newKey
        case .update, .echo, .delete: return (nil, nil)
        }
        let former = try readers[side].history.formerRows(of: [key])[key]?.first { former in
            !context.includes(commitLSN: former.id.commitLSN) && !effects.matched.contains(former.id)
        }
        if let former { return (nil, databases[side].formerRow(of: former.id)) }
        return (effects.isPresent(key) ? key : nil, nil)
    }

    private mutating func perform(
        _ step: RowStep, _ identity: Int?, _ reference: (key: RowKey?, meant: Int?), _ layout: SplitTable, _ work: inout ReferenceWork
    ) throws {
        let parent = shape.tables[layout.id].parent
        func refer(_ row: inout ReferenceDatabase.Row, _ writes: [ColumnWrite], at place: ReferencePlace) {
            guard parent != nil, writes.contains(where: { layout.columns[$0.column].name == "up" }) else { return }
            row.meant = reference.meant
            let referred = reference.key.map { ReferencePlace($0) }
            // One that refers to itself.
            row.reference = referred == place ? row.number : referred.flatMap { work.edit.rows[$0]?.number }
        }
        switch step {
        case .insert(let key, let writes):
            let place = ReferencePlace(key)
            if work.edit.rows[place] != nil, !options.faults.forgetsWaitingRows { throw failure("\(place) is there already") }
            var row = ReferenceDatabase.Row(number: 0, identity: identity ?? -1)
            if shape.tables[place.table].isReferenced {
                work.database.nextNumber += 1
                row.number = work.database.nextNumber
                if identity == nil { row.identity = identities.make() }
            }
            refer(&row, writes, at: place)
            if shape.tables[place.table].isRequired, row.reference == nil { throw failure("\(place) is made with an empty reference") }
            work.edit.insert(place, row)
        case .update(let key, let writes):
            let place = ReferencePlace(key)
            guard var row = work.edit.rows[place] else { throw failure("\(place) is not there to be updated") }
            refer(&row, writes, at: place)
            work.edit.update(place) { $0 = row }
        case .delete(let key):
            work.delete(ReferencePlace(key), shape)
        case .move(let key, let newKey, let writes):
            let place = ReferencePlace(key)
            guard var row = work.edit.rows[place] else { throw failure("\(place) is not there to be moved") }
            refer(&row, writes, at: ReferencePlace(newKey))
            if shape.tables[place.table].isReferenced { work.ended.insert(place) }
            work.edit.update(place, to: ReferencePlace(newKey).key) { $0 = row }
        }
    }
}
