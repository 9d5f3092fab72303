@testable import ReplicationCore

/// The appliers of the reference simulation: ask the source, hold the rows, wait for the barrier, decide, settle, commit.
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
        guard !pending[side].isEmpty else { return false }
        var count = 0
        let limit = again?.count ?? 1 + random.below(3)
        while count < min(limit, pending[side].count) {
            count += 1
            // A row has gone that others refer to.
            if pending[side][count - 1].transaction.operations.contains(where: Self.endsHotel) { break }
        }
        var meanings = ReferenceMeanings(rules: options.rules)
        for pending in pending[side][..<count] {
            for operation in pending.transaction.operations {
                guard let number = Self.number(operation, pending.chunk), meanings.note(number, at: operation.id) else { continue }
                guard let code = databases[side].rows.code(of: SimulatedRow.value(number.bytes)) else { continue }
                meanings.answer(number, ReferenceTables.key(ReferenceTables.hotels, code), ownBytes: number.bytes)
            }
        }
        var group = Group(count: count, meanings: meanings, sourceLSN: databases[side].endLSN)
        if let again { group.hasFollowed = again.hasFollowed }
        groups[side] = group
        note("\(side)->\(1 - side) asks for \(count)")
        return true
    }

    private static func endsHotel(_ operation: RowOperation) -> Bool {
        guard operation.relation == ReferenceTables.hotels else { return false }
        switch operation.kind {
        case .delete, .move: return true
        case .insert, .update, .echo: return false
        }
    }

    /// The number that an operation gives a room.
    private static func number(_ operation: RowOperation, _ chunk: ChangeChunk) -> ReferenceMeanings.Number? {
        guard operation.relation == ReferenceTables.rooms, operation.kind != .delete else { return nil }
        return chunk.arena.withCell(operation.new.firstCell + 1) { cell, bytes in
            cell.kind == .null ? nil : ReferenceMeanings.Number(table: ReferenceTables.hotels, bytes: Array(bytes))
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
                created[operation.key] = (created[operation.key] ?? false) || operation.kind == .insert
                if case .move(let newKey) = operation.kind { created[newKey] = true }
            }
        }
        var (held, kept): (Set<RowKey>, Set<Int>) = ([], [])
        let written = databases[target].writer?.written ?? []
        for (key, isCreated) in created {
            let number = numberIfThere(key, databases[target].rows)
            group.effects.note(key, isPresent: number.isThere)
            group.ended.note(key, number: number.value)
            // What is not there, and is not to be, cannot be held.
            guard number.isThere || isCreated else { continue }
            if written.contains(key) { return false }
            held.insert(key)
        }
        for key in group.meanings.rows where created[key] == nil {
            let code = ReferenceTables.value(key)
            group.effects.note(key, isPresent: databases[target].rows.hotels[code] != nil)
            guard databases[target].rows.hotels[code] != nil else { continue }
            if written.contains(key) { return false }
            kept.insert(code)
        }
        (databases[target].held, databases[target].kept) = (held, kept)
        group.barrierLSN = databases[target].endLSN
        groups[side] = group
        note("\(side)->\(target) holds \(held.count) rows, keeps \(kept.sorted())")
        return true
    }

    private func numberIfThere(_ key: RowKey, _ rows: ReferenceDatabase.Rows) -> (isThere: Bool, value: String?) {
        let value = ReferenceTables.value(key)
        if key.table == ReferenceTables.rooms { return (rows.rooms[value] != nil, nil) }
        return (rows.hotels[value] != nil, rows.hotels[value].map { String($0.number) })
    }

    private mutating func beginAgain(_ group: Group, from side: Int) -> Bool {
        note("\(side)->\(1 - side) begins again")
        release(1 - side)
        groups[side] = nil
        return ask(from: side, group)
    }

    // MARK: deciding

    private mutating func finish(_ held: Group, from side: Int) throws -> Bool {
        var group = held
        let target = 1 - side
        guard let barrierLSN = group.barrierLSN, try hasPassed(barrierLSN, target) else { return false }
        if !group.meanings.isEmpty, !options.faults.neverFollows, try group.meanings.follow(in: readers[target].history).hasRows,
            !group.hasFollowed
        {
            group.hasFollowed = true
            return beginAgain(group, from: side)
        }
        var work = ReferenceWork(edit: ReferenceEdit(rows: databases[target].rows), database: databases[target])
        for pending in pending[side][..<group.count] {
            for operation in pending.transaction.operations {
                let context = pending.transaction.context
                let moment = group.meanings.moment(in: context, after: group.effects)
                let met = try metHotel(operation, context, group.effects, side: target)
                let layout = layouts[side][operation.relation]
                let resolution = try resolvers[target].resolve(
                    operation, of: pending.transaction, table: layout, against: readers[target].history, effects: &group.effects)
                if let row = group.ended.note(operation, resolution, layout, in: context) {
                    work.made[row] = work.edit.rows.hotels[ReferenceTables.value(operation.key)]?.number
                }
                note("    \(operation.id.commitLSN) \(layout.name.name) \(operation.kind) \(ReferenceTables.value(operation.key)): \(resolution.steps.count) steps")
                let key = Self.number(operation, pending.chunk).flatMap { moment.key(of: $0, at: operation.id) }
                let identity = databases[side].identity(of: operation.id)
                for step in resolution.steps { perform(step, key, identity, &work) }
                if let met, let identity, let hotel = work.edit.rows.hotels[ReferenceTables.value(met)] {
                    identities.join(identity, hotel.identity)
                }
            }
        }
        let applied = work.edit.changes.count
        switch try settle(&group, &work, from: side) {
        case .waits: return false
        case .done: break
        }
        guard work.isFree(hasForeignKeys: hasForeignKeys) else { return false }
        commit(group, work, applied, from: side)
        // Where codes change on both sides, it may meet another hotel for a while, and is told again.
        if !hasMoves { try checkArrived(work.edit.changes[..<applied], on: target) }
        return true
    }

    private static func newKey(_ operation: RowOperation) -> RowKey {
        if case .move(let newKey) = operation.kind { newKey } else { operation.key }
    }

    /// The hotel that one which an operation brings is from now on: both sides have made it, or one has moved it onto the
    /// other's; also when that has gone on to another key since.
    private func metHotel(
        _ operation: RowOperation, _ context: CausalContext, _ effects: GroupEffects, side: Int
    ) throws -> RowKey? {
        guard operation.relation == ReferenceTables.hotels, operation.kind != .delete else { return nil }
        let key = Self.newKey(operation)
        let former = try readers[side].history.formerRows(of: [key])[key]?.first { former in
            !context.includes(commitLSN: former.id.commitLSN) && !effects.matched.contains(former.id)
        }
        if let former { return former.key.flatMap(effects.key(ofRowFrom:)) }
        return effects.isPresent(key) ? key : nil
    }

    private mutating func perform(_ step: RowStep, _ hotel: RowKey?, _ identity: Int?, _ work: inout ReferenceWork) {
        let number = hotel.flatMap { work.edit.rows.hotels[ReferenceTables.value($0)]?.number }
        let room = ReferenceDatabase.Room(number: number, meant: identity)
        switch step {
        case .insert(let key, _) where key.table == ReferenceTables.hotels:
            work.database.nextNumber += 1
            let hotel = ReferenceDatabase.Hotel(number: work.database.nextNumber, identity: identity ?? identities.make())
            work.edit.insertHotel(ReferenceTables.value(key), hotel)
        case .insert(let key, _):
            work.edit.insertRoom(ReferenceTables.value(key), room)
        case .update(let key, _):
            if key.table == ReferenceTables.rooms { work.edit.updateRoom(ReferenceTables.value(key), room) }
        case .delete(let key):
            let value = ReferenceTables.value(key)
            if key.table == ReferenceTables.hotels {
                work.free(value)
                work.edit.deleteHotel(value)
            } else {
                work.edit.deleteRoom(value)
            }
        case .move(let key, let newKey, _):
            let (value, newValue) = (ReferenceTables.value(key), ReferenceTables.value(newKey))
            if key.table == ReferenceTables.hotels {
                work.ended.insert(value)
                work.edit.updateHotel(value, to: newValue)
            } else {
                work.edit.updateRoom(value, to: newValue, room)
            }
        }
    }

    // MARK: settling

    private enum Settled { case done, waits }

    private mutating func settle(_ group: inout Group, _ work: inout ReferenceWork, from side: Int) throws -> Settled {
        let target = 1 - side
        // Whoever has those keys by now, the history knows of it.
        if !options.faults.skipsLastBarrier, !group.ended.unheldKeys(after: group.effects).isEmpty {
            guard try hasPassed(databases[target].endLSN, target) else { return .waits }
        }
        for ended in group.ended.rows {
            let number: Int
            switch ended.row {
            case .number(let known): number = Int(known) ?? -1
            case .made(let row): number = options.faults.forgetsMadeRows ? -1 : work.made[row] ?? -1
            case .rival(let key):
                guard let row = work.edit.rows.hotels[ReferenceTables.value(key)] else { continue }
                work.touched.insert(key)
                work.ended.insert(ReferenceTables.value(key))
                number = row.number
            }
            let other = ended.other.flatMap { work.edit.rows.hotels[ReferenceTables.value($0)]?.number }
            let rooms = work.edit.rows.rooms(with: number)
            note("    settles \(ended) \(number): \(ended.settlement(number: String(number), otherNumber: other.map(String.init)))")
            switch ended.settlement(number: String(number), otherNumber: other.map(String.init)) {
            case .move:
                if options.faults.omitsMoves { break }
                for room in rooms { write(room, ReferenceDatabase.Room(number: other, meant: work.edit.rows.rooms[room]?.meant), &work) }
            case .tellAll:
                if options.faults.omitsTellingAll { break }
                for room in rooms { tell(room, &work) }
            case .tellAgain:
                guard try tellAgain(rooms, ended, &work, target) else { return .waits }
            case .end:
                if onDelete == .keep {
                    guard try tellAgain(rooms, ended, &work, target) else { return .waits }
                }
                if options.faults.omitsOnDelete { break }
                for room in rooms {
                    if onDelete == .nullify { write(room, ReferenceDatabase.Room(), &work) }
                    if onDelete == .delete {
                        work.touched.insert(ReferenceTables.key(ReferenceTables.rooms, room))
                        work.edit.deleteRoom(room)
                    }
                }
            }
        }
        return .done
    }

    /// Those whose references the target itself has written unseen; false while that is not known.
    private mutating func tellAgain(_ rooms: [Int], _ ended: EndedRow, _ work: inout ReferenceWork, _ target: Int) throws -> Bool {
        guard !rooms.isEmpty, !options.faults.omitsTellingAgain else { return true }
        guard readers[target].history.hasWrittenReferences(since: ended.context) else { return true }
        guard try hasPassed(databases[target].endLSN, target) else { return false }
        for room in rooms {
            let key = ReferenceTables.key(ReferenceTables.rooms, room)
            if try readers[target].history.hasWrittenReferences(of: key, since: ended.context) { tell(room, &work) }
        }
        return true
    }

    private func tell(_ room: Int, _ work: inout ReferenceWork) {
        guard let row = work.edit.rows.rooms[room] else { return }
        write(room, row, &work)
    }

    private func write(_ room: Int, _ row: ReferenceDatabase.Room, _ work: inout ReferenceWork) {
        work.touched.insert(ReferenceTables.key(ReferenceTables.rooms, room))
        work.edit.updateRoom(room, row)
    }

    private mutating func commit(_ group: Group, _ work: ReferenceWork, _ applied: Int, from side: Int) {
        let target = 1 - side
        guard let last = pending[side][..<group.count].last?.transaction, let progress = last.progress else { return }
        let changes = work.edit.changes
        var notes: [(position: Int, note: [SplitNote])] = [(0, [last.appliedNote])]
        if changes.count > applied, !options.faults.omitsConsequencesNote { notes.append((applied, [.consequences])) }
        if !group.effects.notes.isEmpty { notes.append((changes.count, group.effects.notes)) }
        databases[target] = work.database
        databases[target].rows = work.edit.rows
        let commitLSN = databases[target].append(
            changes, commitTime: databases[target].clock, origin: Self.origin(into: target), notes: notes)
        release(target)
        pending[side].removeFirst(group.count)
        groups[side] = nil
        note("\(side)->\(target) commits \(commitLSN): \(changes)")
        record(progress, from: side)
    }
}

/// What a target's transaction of the reference simulation has done.
struct ReferenceWork {
    var edit: ReferenceEdit
    var database: ReferenceDatabase
    /// Hotels that nobody may come to refer to meanwhile: it deletes them, changes their keys, or moves what refers to them.
    var ended: Set<Int> = []
    /// Numbers of rows that it has made and ended again, as they are known in `EndedRow`.
    var made: [Int: Int] = [:]
    /// Rows that it did not hold before.
    var touched: Set<RowKey> = []

    init(edit: ReferenceEdit, database: ReferenceDatabase) {
        self.edit = edit
        self.database = database
    }

    mutating func free(_ code: Int) {
        ended.insert(code)
        if let hotel = edit.rows.hotels[code] { database.freed.append(hotel.number) }
    }

    /// Whether no client's open transaction is in its way.
    func isFree(hasForeignKeys: Bool) -> Bool {
        guard let writer = database.writer else { return true }
        return writer.written.isDisjoint(with: touched) && (!hasForeignKeys || writer.referred.isDisjoint(with: ended))
    }
}
