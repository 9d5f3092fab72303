@testable import ReplicationCore

/// What becomes of references to rows that the source has ended, and the end of the target's transaction.
extension ReferenceSimulation {
    /// False while something is waited for.
    mutating func settle(_ group: inout Group, _ work: inout ReferenceWork, from side: Int) throws -> Bool {
        let target = 1 - side
        // Whoever has those keys by now, the history knows of it.
        if !options.faults.skipsLastBarrier, !group.ended.unheldKeys(after: group.effects).isEmpty {
            guard try hasPassed(databases[target].endLSN, target) else { return false }
        }
        for ended in group.ended.rows {
            let number: Int
            switch ended.row {
            case .number(let known): number = Int(known) ?? -1
            case .made(let row): number = options.faults.forgetsMadeRows ? -1 : work.made[row] ?? -1
            case .rival(let key):
                let place = ReferencePlace(key)
                guard let row = work.edit.rows[place] else { continue }
                work.touched.insert(place)
                work.ended.insert(place)
                number = row.number
            case .left(let left): number = SimulatedRow.value(left.number.bytes) ?? -1
            }
            let other = ended.other.flatMap { work.edit.rows[ReferencePlace($0)]?.number }
            for table in shape.referrers(to: ended.table) {
                let writer = options.faults.forgetsOwners ? .both : shape.writer(of: table, on: target)
                let settlement = ended.settlement(number: String(number), otherNumber: other.map(String.init), writer: writer)
                note("    settles \(ended) \(number), \(table): \(settlement)")
                let places = work.edit.rows.places(referringTo: number, in: table)
                guard try carryOut(settlement, ended, places, in: table, other, &work, target) else { return false }
            }
        }
        return true
    }

    private mutating func carryOut(
        _ settlement: EndedRow.Settlement, _ ended: EndedRow, _ places: [ReferencePlace], in table: Int, _ other: Int?,
        _ work: inout ReferenceWork, _ target: Int
    ) throws -> Bool {
        let onDelete = shape.tables[table].onDelete
        switch settlement {
        case .leave:
            break
        case .move:
            if options.faults.omitsMoves { break }
            for place in places { work.write(place) { $0.reference = other } }
        case .moveUnused:
            if options.faults.omitsLeft { break }
            for place in places where work.edit.rows.place(of: work.edit.rows[place]?.reference, in: ended.table) == nil {
                work.write(place) { $0.reference = other }
            }
        case .tellAll:
            if options.faults.omitsTellingAll { break }
            for place in places { work.write(place) }
        case .tellAgain:
            return try tellAgain(places, ended, &work, target)
        case .end:
            if onDelete == .keep { return try tellAgain(places, ended, &work, target) }
            if options.faults.omitsOnDelete { break }
            for place in places { end(place, &work) }
        }
        return true
    }

    /// Carries out `on_delete`.
    private func end(_ place: ReferencePlace, _ work: inout ReferenceWork) {
        switch shape.tables[place.table].onDelete {
        case .keep: break
        case .nullify: work.write(place) { ($0.reference, $0.meant) = (nil, nil) }
        case .delete:
            guard let number = work.edit.rows[place]?.number else { return }
            if shape.tables[place.table].isReferenced {
                for referrer in shape.referrers(to: place.table) {
                    for row in work.edit.rows.places(referringTo: number, in: referrer) { end(row, &work) }
                }
            }
            work.touched.insert(place)
            work.delete(place, shape)
        }
    }

    /// Those whose references the target itself has written unseen; false while that is not known.
    private mutating func tellAgain(
        _ places: [ReferencePlace], _ ended: EndedRow, _ work: inout ReferenceWork, _ target: Int
    ) throws -> Bool {
        guard !places.isEmpty, !options.faults.omitsTellingAgain else { return true }
        guard readers[target].history.hasWrittenReferences(since: ended.context) else { return true }
        guard try hasPassed(databases[target].endLSN, target) else { return false }
        for place in places where try readers[target].history.hasWrittenReferences(of: place.rowKey, since: ended.context) {
            work.write(place)
        }
        return true
    }

    mutating func commit(_ group: Group, _ work: ReferenceWork, _ applied: Int, from side: Int) {
        let target = 1 - side
        guard let last = pending[side][..<group.count].last?.transaction, let progress = last.progress else { return }
        let changes = work.edit.changes
        var notes: [(position: Int, note: [SplitNote])] = [(0, [last.appliedNote])]
        if changes.count > applied, !options.faults.omitsConsequencesNote { notes.append((applied, [.consequences])) }
        if !group.effects.notes.isEmpty { notes.append((changes.count, group.effects.notes)) }
        for (first, second) in work.joined { identities.join(first, second) }
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
    /// Rows that nobody may come to refer to meanwhile: it deletes them, changes their keys, or moves what refers to them.
    var ended: Set<ReferencePlace> = []
    /// Numbers of rows that it has made and ended again, as they are known in `EndedRow`.
    var made: [Int: Int] = [:]
    /// Rows that have become one.
    var joined: [(Int, Int)] = []
    /// Rows that it did not hold before.
    var touched: Set<ReferencePlace> = []

    init(edit: ReferenceEdit, database: ReferenceDatabase) {
        self.edit = edit
        self.database = database
    }

    mutating func delete(_ place: ReferencePlace, _ shape: ReferenceShape) {
        guard let row = edit.rows[place] else { return }
        if shape.tables[place.table].isReferenced {
            ended.insert(place)
            database.freed[place.table].append(row.number)
        }
        edit.delete(place)
    }

    /// Writes a row that refers to another once more, or otherwise.
    mutating func write(_ place: ReferencePlace, _ change: (inout ReferenceDatabase.Row) -> Void = { _ in }) {
        touched.insert(place)
        edit.update(place, change)
    }

    /// Whether no client's open transaction is in its way.
    func isFree(hasForeignKeys: Bool) -> Bool {
        guard let writer = database.writer else { return true }
        return writer.written.isDisjoint(with: touched) && (!hasForeignKeys || writer.referred.isDisjoint(with: ended))
    }
}
