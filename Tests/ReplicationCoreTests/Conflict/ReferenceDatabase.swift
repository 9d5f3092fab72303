@testable import ReplicationCore

/// The two tables of the reference simulation: hotels, known by a code on both sides and by a number of its own on each, and
/// rooms that hold such numbers.
enum ReferenceTables {
    static let sides = ["bot", "sync"]
    static let hotels = 0, rooms = 1
    static let names = ["hotels", "rooms"].map { QualifiedName(schema: "public", name: $0) }

    /// What a side sends, by table.
    static func layouts(_ policy: SharedColumnRule, source: Int) throws -> [SplitTable] {
        var ownerships = ["code", "key"].enumerated().map { table, key in
            TableOwnership(
                table: names[table], match: [key], insertOwners: Set(sides), deleteOwners: Set(sides), privateColumns: [],
                columns: [key: .shared(SharedColumnRule(policy: .queue))])
        }
        ownerships[hotels].surrogate = "id"
        ownerships[hotels].isReferenced = true
        ownerships[rooms].columns["hotel"] = .shared(policy)
        ownerships[rooms].references = ["hotel": names[hotels]]
        return try [["code", "id"], ["key", "hotel"]].enumerated().map { table, columns in
            let relation = RelationMessage(
                id: UInt32(table), name: names[table], replicaIdentity: .full,
                columns: columns.map { RelationMessage.Column(isKey: true, name: $0, typeOID: 21, typeModifier: -1) })
            return try SplitTable(
                id: table, relation: relation, ownership: ownerships[table], source: sides[source], target: sides[1 - source])
        }
    }

    static func bytes(_ value: Int) -> [UInt8] { [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)] }
    static func key(_ table: Int, _ value: Int) -> RowKey { RowKey(table: table, values: [bytes(value)]) }
    static func value(_ key: RowKey) -> Int { SimulatedRow.value(key.values[0]) ?? -1 }
}

/// A database of the reference simulation: committed rows, locks, a log, and what the incoming direction keeps in it.
///
/// Beside its columns each row has what nobody but the simulation sees: which hotel it is, and which one the writer of a
/// room's reference meant.
struct ReferenceDatabase {
    enum Holder { case writer, applier }

    struct Hotel: Equatable {
        var number: Int
        var identity: Int
    }

    struct Room: Equatable {
        var number: Int?
        var meant: Int?
    }

    struct Rows {
        var hotels: [Int: Hotel] = [:]
        var rooms: [Int: Room] = [:]

        func code(of number: Int?) -> Int? { number.flatMap { number in hotels.first { $0.value.number == number }?.key } }
        func rooms(with number: Int) -> [Int] { rooms.filter { $0.value.number == number }.keys.sorted() }
    }

    struct Change {
        var kind: Change.Kind
        var table: Int
        /// The row's columns before and after.
        var old: [Int?]?
        var new: [Int?]?
        /// Of the new row.
        var identity: Int?

        typealias Kind = ReplicationCore.Change.Kind
    }

    struct Logged {
        var endLSN: LSN
        var chunk: ChangeChunk
    }

    /// Rows that somebody has written, and hotels that a room in an open transaction refers to.
    struct OpenTransaction {
        var rows: Rows
        var changes: [Change] = []
        var written: Set<RowKey> = []
        var referred: Set<Int> = []
    }

    var rows = Rows()
    private(set) var log: [Logged] = []
    private(set) var endLSN = LSN(100)
    /// Of new rows, by operation.
    private var identities: [OperationID: Int] = [:]
    var clock: Int64 = 0
    var nextNumber: Int
    /// Numbers that rows have given up.
    var freed: [Int] = []
    var writer: OpenTransaction?
    /// Rows that the applier holds, and hotels that it keeps where they are.
    var held: Set<RowKey> = []
    var kept: Set<Int> = []
    // Durable, and written by the incoming direction with its data.
    var incoming = SplitProgress()
    var confirmedLSN = LSN.zero

    init(clock: Int64, nextNumber: Int) { (self.clock, self.nextNumber) = (clock, nextNumber) }

    /// Of an operation's new row.
    func identity(of id: OperationID) -> Int? { identities[id] }

    mutating func append(
        _ changes: [Change], commitTime: Int64, origin: String?, notes: [(position: Int, note: [SplitNote])]
    ) -> LSN {
        let commitLSN = LSN(endLSN.rawValue + 4)
        endLSN = LSN(endLSN.rawValue + 10)
        if changes.isEmpty, notes.isEmpty { return commitLSN }
        var chunk = ChangeChunk()
        for (position, change) in changes.enumerated() {
            let old = change.old.map { OldTuple(kind: .full, tuple: Self.put($0, into: &chunk.arena)) }
            let new = change.new.map { Self.put($0, into: &chunk.arena) }
            chunk.changes.append(
                .init(kind: change.kind, relation: change.table, old: old, new: new ?? TupleReference(firstCell: 0, count: 0)))
            identities[OperationID(commitLSN: commitLSN, position: position)] = change.identity
        }
        var span = TransactionSpan(
            xid: 1, commitLSN: commitLSN, endLSN: endLSN, commitTime: PostgresTime(microseconds: commitTime), origin: origin,
            notes: notes.map { SplitNote.encode($0.note) }, changes: 0..<changes.count)
        span.notePositions = notes.map(\.position)
        chunk.transactions = [span]
        chunk.endLSN = endLSN
        log.append(Logged(endLSN: endLSN, chunk: chunk))
        return commitLSN
    }

    private static func put(_ values: [Int?], into arena: inout ChangeArena) -> TupleReference {
        let first = arena.cells.count
        for value in values {
            guard let value else {
                arena.cells.append(Cell(kind: .null))
                continue
            }
            arena.cells.append(Cell(kind: .binary, offset: arena.bytes.count, length: 2))
            arena.bytes += ReferenceTables.bytes(value)
        }
        return TupleReference(firstCell: first, count: values.count)
    }
}

/// Changes of rows, as a database makes and logs them.
struct ReferenceEdit {
    var rows: ReferenceDatabase.Rows
    var changes: [ReferenceDatabase.Change] = []

    mutating func insertHotel(_ code: Int, _ hotel: ReferenceDatabase.Hotel) {
        rows.hotels[code] = hotel
        changes.append(.init(kind: .insert, table: ReferenceTables.hotels, new: [code, hotel.number], identity: hotel.identity))
    }

    mutating func deleteHotel(_ code: Int) {
        guard let hotel = rows.hotels.removeValue(forKey: code) else { return }
        changes.append(.init(kind: .delete, table: ReferenceTables.hotels, old: [code, hotel.number]))
    }

    mutating func updateHotel(_ code: Int, to newCode: Int, number: Int? = nil) {
        guard var hotel = rows.hotels.removeValue(forKey: code) else { return }
        let old = [code, hotel.number]
        hotel.number = number ?? hotel.number
        rows.hotels[newCode] = hotel
        changes.append(
            .init(kind: .update, table: ReferenceTables.hotels, old: old, new: [newCode, hotel.number], identity: hotel.identity))
    }

    mutating func insertRoom(_ key: Int, _ room: ReferenceDatabase.Room) {
        rows.rooms[key] = room
        changes.append(.init(kind: .insert, table: ReferenceTables.rooms, new: [key, room.number], identity: room.meant))
    }

    mutating func deleteRoom(_ key: Int) {
        guard let room = rows.rooms.removeValue(forKey: key) else { return }
        changes.append(.init(kind: .delete, table: ReferenceTables.rooms, old: [key, room.number]))
    }

    mutating func updateRoom(_ key: Int, to newKey: Int? = nil, _ room: ReferenceDatabase.Room) {
        guard let old = rows.rooms.removeValue(forKey: key) else { return }
        rows.rooms[newKey ?? key] = room
        changes.append(
            .init(
                kind: .update, table: ReferenceTables.rooms, old: [key, old.number], new: [newKey ?? key, room.number],
                identity: room.meant))
    }
}
