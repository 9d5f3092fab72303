@testable import ReplicationCore

/// Clients of the reference simulation: transactions that stay open for a while, on few rows.
extension ReferenceSimulation {
    private static let keyCount = 4

    mutating func stepWriter(_ side: Int) {
        if databases[side].writer != nil {
            switch random.below(10) {
            case ..<4: return commitWriter(side)
            case 4:
                note("\(side) rolls back")
                databases[side].writer = nil
                return
            default: break
            }
        } else {
            databases[side].writer = ReferenceDatabase.OpenTransaction(rows: databases[side].rows)
        }
        guard var open = databases[side].writer else { return }
        open.rows = visible(to: open, databases[side].rows)
        var edit = ReferenceEdit(rows: open.rows)
        let database = databases[side]
        if write(side, &edit), let touched = touched(edit, database) {
            open.written.formUnion(touched.rows)
            if hasForeignKeys { open.referred.formUnion(touched.referred) }
            open.rows = edit.rows
            open.changes += edit.changes
            for change in edit.changes { note("\(side) \(change)") }
            databases[side].writer = open
        } else {
            databases[side] = database
        }
        if random.chance(50) { commitWriter(side) }
    }

    /// What others have committed, and what it has written itself.
    private func visible(
        to open: ReferenceDatabase.OpenTransaction, _ committed: ReferenceDatabase.Rows
    ) -> ReferenceDatabase.Rows {
        var rows = committed
        for place in open.written { rows[place] = open.rows[place] }
        return rows
    }

    /// What the changes take hold of; `nil` where the applier does, which makes a client wait, or do something else.
    private func touched(
        _ edit: ReferenceEdit, _ database: ReferenceDatabase
    ) -> (rows: Set<ReferencePlace>, referred: Set<ReferencePlace>)? {
        var rows: Set<ReferencePlace> = []
        var referred: Set<ReferencePlace> = []
        for change in edit.changes {
            for key in [change.logged.old, change.logged.new].compactMap({ $0?[0] }) { rows.insert(ReferencePlace(change.table, key)) }
            if let parent = shape.tables[change.table].parent, let place = edit.rows.place(of: change.row?.reference, in: parent) {
                referred.insert(place)
            }
            if change.endsKey, let key = change.logged.old?[0], database.kept.contains(ReferencePlace(change.table, key)) { return nil }
        }
        return rows.isDisjoint(with: database.held) ? (rows, referred) : nil
    }

    private mutating func write(_ side: Int, _ edit: inout ReferenceEdit) -> Bool {
        // What refers to something is written more often.
        let index = random.chance(50) ? random.below(shape.tables.count) : 1 + random.below(shape.tables.count - 1)
        let place = ReferencePlace(index, random.below(Self.keyCount))
        let table = shape.tables[index]
        guard edit.rows[place] != nil else { return random.chance(70) && insert(side, place, &edit) }
        switch random.below(10) {
        case ..<2: return hasDeletes && delete(side, place, &edit)
        case ..<4: return move(side, place, &edit)
        case 4: return table.isReferenced && renumber(side, place, &edit)
        default: return table.mayRefer(side) && refer(place, &edit)
        }
    }

    private mutating func insert(_ side: Int, _ place: ReferencePlace, _ edit: inout ReferenceEdit) -> Bool {
        let table = shape.tables[place.table]
        let number = table.isReferenced ? takeNumber(side, place.table, edit.rows) : 0
        var row = ReferenceDatabase.Row(number: number, identity: identities.make())
        if table.mayRefer(side), table.isRequired || random.chance(90), let reference = reference(from: place.table, edit.rows) {
            (row.reference, row.meant) = reference
        }
        if table.isRequired, row.reference == nil { return false }
        edit.insert(place, row)
        return true
    }

    private mutating func refer(_ place: ReferencePlace, _ edit: inout ReferenceEdit) -> Bool {
        let isEmptied = !shape.tables[place.table].isRequired && random.chance(10)
        guard isEmptied || !edit.rows.tables[shape.tables[place.table].parent ?? 0].isEmpty else { return false }
        let reference = isEmptied ? nil : reference(from: place.table, edit.rows)
        edit.update(place) { ($0.reference, $0.meant) = (reference?.number, reference?.meant) }
        return true
    }

    /// Another number, and what refers to the row along with it.
    private mutating func renumber(_ side: Int, _ place: ReferencePlace, _ edit: inout ReferenceEdit) -> Bool {
        guard let old = edit.rows[place]?.number else { return false }
        let number = takeNumber(side, place.table, edit.rows)
        edit.update(place) { $0.number = number }
        for table in shape.referrers(to: place.table) {
            for referring in edit.rows.places(referringTo: old, in: table) {
                guard shape.tables[table].mayRefer(side) else { return false }
                edit.update(referring) { $0.reference = number }
            }
        }
        databases[side].freed[place.table].append(old)
        return true
    }

    /// A key that changes, or two rows that change places.
    private mutating func move(_ side: Int, _ place: ReferencePlace, _ edit: inout ReferenceEdit) -> Bool {
        let newPlace = ReferencePlace(place.table, random.below(Self.keyCount))
        let table = shape.tables[place.table]
        guard hasMoves || !table.isReferenced, place != newPlace else { return false }
        // A changed key may make a row, and nobody else can say what that refers to.
        if table.isRequired, !table.mayRefer(side) { return false }
        if edit.rows[newPlace] == nil {
            edit.update(place, to: newPlace.key)
        } else {
            let between = ReferencePlace(place.table, Self.keyCount + side)
            edit.update(place, to: between.key)
            edit.update(newPlace, to: place.key)
            edit.update(between, to: newPlace.key)
        }
        return true
    }

    // MARK: rows that go

    /// False where it can't go, because of what refers to it.
    private mutating func delete(_ side: Int, _ place: ReferencePlace, _ edit: inout ReferenceEdit) -> Bool {
        guard let number = edit.rows[place]?.number else { return false }
        // As CASCADE and SET NULL do: what refers to it goes afterwards.
        let comesFirst = random.chance(30)
        if comesFirst { edit.delete(place) }
        for table in shape.referrers(to: place.table) where hasForeignKeys {
            for referring in edit.rows.places(referringTo: number, in: table) where referring != place {
                guard leave(side, referring, number, &edit) else { return false }
            }
        }
        if !comesFirst { edit.delete(place) }
        if shape.tables[place.table].isReferenced { databases[side].freed[place.table].append(number) }
        return true
    }

    /// A row leaves one that is to go.
    private mutating func leave(_ side: Int, _ place: ReferencePlace, _ number: Int, _ edit: inout ReferenceEdit) -> Bool {
        let table = shape.tables[place.table]
        let way = random.below(3)
        // Of rows that refer to each other in a circle nobody would be the first.
        if way == 0 || !table.mayRefer(side) { return table.parent != place.table && delete(side, place, &edit) }
        let other = way == 1 ? nil : reference(from: place.table, edit.rows).flatMap { $0.number == number ? nil : $0 }
        if other == nil, table.isRequired { return delete(side, place, &edit) }
        edit.update(place) { ($0.reference, $0.meant) = (other?.number, other?.meant) }
        return true
    }

    private mutating func reference(from table: Int, _ rows: ReferenceDatabase.Rows) -> (number: Int, meant: Int)? {
        guard let parent = shape.tables[table].parent else { return nil }
        let keys = rows.tables[parent].keys.sorted()
        guard !keys.isEmpty, let row = rows[ReferencePlace(parent, keys[random.below(keys.count)])] else { return nil }
        return (row.number, row.identity)
    }

    /// A new number, or one that is free again, and that no row holds.
    private mutating func takeNumber(_ side: Int, _ table: Int, _ rows: ReferenceDatabase.Rows) -> Int {
        let all = [rows, databases[side].rows]
        let free = databases[side].freed[table].filter { number in
            all.allSatisfy { rows in
                rows.place(of: number, in: table) == nil
                    && shape.referrers(to: table).allSatisfy { rows.places(referringTo: number, in: $0).isEmpty }
            }
        }
        if random.chance(60), let number = free.last { return number }
        databases[side].nextNumber += 1
        return databases[side].nextNumber
    }

    mutating func commitWriter(_ side: Int) {
        guard let open = databases[side].writer else { return }
        databases[side].writer = nil
        if open.changes.isEmpty { return }
        databases[side].rows = visible(to: open, databases[side].rows)
        let time = databases[side].clock
        let commitLSN = databases[side].append(open.changes, commitTime: time, origin: nil, notes: [])
        note("\(side) commits \(commitLSN) at \(time)")
    }
}
