@testable import ReplicationCore

/// Runs whose steps are told one by one.
extension ReferenceSimulation {
    /// A client's transaction, from its first change to its commit.
    mutating func client(_ side: Int, _ write: (inout ReferenceEdit) -> Void) {
        var edit = ReferenceEdit(rows: databases[side].rows)
        write(&edit)
        databases[side].rows = edit.rows
        databases[side].clock += 1
        _ = databases[side].append(edit.changes, commitTime: databases[side].clock, origin: nil, notes: [])
        note("\(side) commits \(edit.changes)")
    }

    /// Reads both sides, and applies what the one has for the other, until nothing is left.
    mutating func carry(from side: Int) throws {
        while true {
            let hasReadOther = try read(1 - side)
            let hasRead = try read(side)
            if try !stepApplier(from: side), !hasRead, !hasReadOther { return }
        }
    }
}

/// In the words of hotels and their rooms.
extension ReferenceEdit {
    private static func hotel(_ code: Int) -> ReferencePlace { ReferencePlace(ReferenceShape.hotels, code) }

    mutating func insertHotel(_ code: Int, number: Int, _ identity: Int) {
        insert(Self.hotel(code), ReferenceDatabase.Row(number: number, identity: identity))
    }

    mutating func updateHotel(_ code: Int, to newCode: Int) { update(Self.hotel(code), to: newCode) }
    mutating func deleteHotel(_ code: Int) { delete(Self.hotel(code)) }

    mutating func insertRoom(_ key: Int, in code: Int) {
        let hotel = rows[Self.hotel(code)]
        insert(
            ReferencePlace(ReferenceShape.rooms, key),
            ReferenceDatabase.Row(number: 0, identity: -1, reference: hotel?.number, meant: hotel?.identity))
    }

    mutating func renumberHotel(_ code: Int, to number: Int) { update(Self.hotel(code)) { $0.number = number } }
    mutating func updateRoom(_ key: Int, to newKey: Int) { update(ReferencePlace(ReferenceShape.rooms, key), to: newKey) }
    mutating func referRoom(_ key: Int, to code: Int) {
        let hotel = rows[Self.hotel(code)]
        update(ReferencePlace(ReferenceShape.rooms, key)) { ($0.reference, $0.meant) = (hotel?.number, hotel?.identity) }
    }
    mutating func deleteRoom(_ key: Int) { delete(ReferencePlace(ReferenceShape.rooms, key)) }
}

extension ReferenceSimulation {
    /// The code of the hotel that a room is in.
    func hotel(ofRoom key: Int, on side: Int) -> Int? {
        let rows = databases[side].rows
        let room = rows[ReferencePlace(ReferenceShape.rooms, key)]
        return rows.place(of: room?.reference, in: ReferenceShape.hotels)?.key
    }
}
