@testable import ReplicationCore

/// Clients of the reference simulation: transactions that stay open for a while, on few rows.
extension ReferenceSimulation {
    static let codeCount = 4, roomCount = 3

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
            if hasForeignKeys { open.referred.formUnion(touched.hotels) }
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
        for key in open.written {
            let value = ReferenceTables.value(key)
            if key.table == ReferenceTables.hotels {
                rows.hotels[value] = open.rows.hotels[value]
            } else {
                rows.rooms[value] = open.rows.rooms[value]
            }
        }
        return rows
    }

    /// What the changes take hold of; `nil` where the applier does, which makes a client wait, or do something else.
    private func touched(
        _ edit: ReferenceEdit, _ database: ReferenceDatabase
    ) -> (rows: Set<RowKey>, hotels: Set<Int>)? {
        var rows: Set<RowKey> = []
        var hotels: Set<Int> = []
        for change in edit.changes {
            for key in [change.old, change.new].compactMap({ $0?[0] }) { rows.insert(ReferenceTables.key(change.table, key)) }
            if change.table == ReferenceTables.rooms { edit.rows.code(of: change.new?[1]).map { _ = hotels.insert($0) } }
            if change.table == ReferenceTables.hotels, change.old?[0].map(database.kept.contains) == true { return nil }
        }
        return rows.isDisjoint(with: database.held) ? (rows, hotels) : nil
    }

    private mutating func write(_ side: Int, _ edit: inout ReferenceEdit) -> Bool {
        let (code, room) = (random.below(Self.codeCount), random.below(Self.roomCount))
        switch random.below(13) {
        case 0, 1:
            guard edit.rows.hotels[code] == nil else { return false }
            edit.insertHotel(code, ReferenceDatabase.Hotel(number: takeNumber(side, edit.rows), identity: identities.make()))
        case 2, 3:
            guard hasDeletes, let hotel = edit.rows.hotels[code] else { return false }
            if hasForeignKeys { leave(hotel.number, &edit) }
            edit.deleteHotel(code)
            databases[side].freed.append(hotel.number)
        case 4, 5: return move(side, code, &edit)
        case 6:
            guard let hotel = edit.rows.hotels[code] else { return false }
            // Another number, and rooms along with it.
            let number = takeNumber(side, edit.rows)
            edit.updateHotel(code, to: code, number: number)
            for room in edit.rows.rooms(with: hotel.number) {
                edit.updateRoom(room, ReferenceDatabase.Room(number: number, meant: edit.rows.rooms[room]?.meant))
            }
            databases[side].freed.append(hotel.number)
        case 7:
            guard hasDeletes, edit.rows.rooms[room] != nil else { return false }
            edit.deleteRoom(room)
        case 8:
            let newRoom = random.below(Self.roomCount)
            guard let old = edit.rows.rooms[room], edit.rows.rooms[newRoom] == nil else { return false }
            edit.updateRoom(room, to: newRoom, old)
        default:
            let value = random.chance(90) ? reference(edit.rows) : ReferenceDatabase.Room()
            guard let value else { return false }
            if edit.rows.rooms[room] == nil { edit.insertRoom(room, value) } else { edit.updateRoom(room, value) }
        }
        return true
    }

    /// A key that changes, or two rows that change places.
    private mutating func move(_ side: Int, _ code: Int, _ edit: inout ReferenceEdit) -> Bool {
        let newCode = random.below(Self.codeCount)
        guard hasMoves, edit.rows.hotels[code] != nil, code != newCode else { return false }
        if edit.rows.hotels[newCode] == nil {
            edit.updateHotel(code, to: newCode)
        } else {
            let between = Self.codeCount + side
            edit.updateHotel(code, to: between)
            edit.updateHotel(newCode, to: code)
            edit.updateHotel(between, to: newCode)
        }
        return true
    }

    /// Rooms leave a hotel that is to go.
    private mutating func leave(_ number: Int, _ edit: inout ReferenceEdit) {
        for room in edit.rows.rooms(with: number) {
            switch random.below(3) {
            case 0: edit.deleteRoom(room)
            case 1: edit.updateRoom(room, ReferenceDatabase.Room())
            default:
                let other = reference(edit.rows).flatMap { $0.number == number ? nil : $0 }
                edit.updateRoom(room, other ?? ReferenceDatabase.Room())
            }
        }
    }

    private mutating func reference(_ rows: ReferenceDatabase.Rows) -> ReferenceDatabase.Room? {
        let codes = rows.hotels.keys.sorted()
        guard !codes.isEmpty, let hotel = rows.hotels[codes[random.below(codes.count)]] else { return nil }
        return ReferenceDatabase.Room(number: hotel.number, meant: hotel.identity)
    }

    /// A new number, or one that is free again, and that no room holds.
    private mutating func takeNumber(_ side: Int, _ rows: ReferenceDatabase.Rows) -> Int {
        let free = databases[side].freed.filter { number in
            (rows.code(of: number) ?? databases[side].rows.code(of: number)) == nil && rows.rooms(with: number).isEmpty
                && databases[side].rows.rooms(with: number).isEmpty
        }
        if random.chance(60), let number = free.last { return number }
        databases[side].nextNumber += 1
        return databases[side].nextNumber
    }

    mutating func commitWriter(_ side: Int) {
        guard let open = databases[side].writer else { return }
        databases[side].writer = nil
        if open.changes.isEmpty { return }
        let rows = visible(to: open, databases[side].rows)
        databases[side].rows = rows
        let time = databases[side].clock
        let commitLSN = databases[side].append(open.changes, commitTime: time, origin: nil, notes: [])
        note("\(side) commits \(commitLSN) at \(time)")
    }
}
