@testable import ReplicationCore

/// Runs whose steps are told one by one.
extension ReferenceSimulation {
    /// With hotels that clients give other codes and delete, foreign keys, and `last_write`.
    static func scripted(_ onDelete: OnDelete, options: ReferenceOptions) throws -> ReferenceSimulation {
        for seed: UInt64 in 0..<1_000 {
            let simulation = try ReferenceSimulation(seed: seed, length: 0, options: options)
            if simulation.onDelete == onDelete, simulation.hasMoves, simulation.hasDeletes { return simulation }
        }
        throw SimulationFailure(seed: 0, length: 0, what: "no seed brings \(onDelete)", trace: [])
    }

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

extension ReferenceEdit {
    mutating func insertRoom(_ key: Int, in code: Int) {
        guard let hotel = rows.hotels[code] else { return }
        insertRoom(key, ReferenceDatabase.Room(number: hotel.number, meant: hotel.identity))
    }
}
