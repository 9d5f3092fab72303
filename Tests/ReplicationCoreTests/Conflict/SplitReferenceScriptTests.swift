import Testing

@testable import ReplicationCore

/// What the model check of references has found, in as few steps as it takes.
@Suite struct SplitReferenceScriptTests {
    /// Seed 438672 of length 80. One side deletes a hotel while the other one gives it another code, and once more to another
    /// hotel after its writes have been read and before the delete is applied: references to the one with that code now
    /// were told again, and those to the hotel in question were lost on one side.
    private func deleteMeetsCodeThatPassesOn(_ options: ReferenceOptions) throws {
        var run = try ReferenceSimulation.scripted(.nullify, options: options)
        let (first, second) = (run.identities.make(), run.identities.make())
        run.client(0) {
            $0.insertHotel(3, ReferenceDatabase.Hotel(number: 1, identity: first))
            $0.insertHotel(1, ReferenceDatabase.Hotel(number: 2, identity: second))
        }
        try run.carry(from: 0)
        run.client(0) { $0.insertRoom(0, in: 3) }
        run.client(1) { $0.deleteHotel(3) }
        run.client(0) { $0.updateHotel(3, to: 0) }
        for side in [0, 0, 1] { #expect(try run.read(side)) }
        // Asks, and has the barrier behind it.
        for _ in 0..<2 { #expect(try run.stepApplier(from: 1)) }
        run.client(0) {
            $0.updateHotel(0, to: 4)
            $0.updateHotel(1, to: 0)
            $0.updateHotel(4, to: 1)
        }
        _ = try run.stepApplier(from: 1)
        try run.drain()
        try run.check()
        #expect(run.databases[1].rows.code(of: run.databases[1].rows.rooms[0]?.number) == 1)
    }

    @Test func aDeleteMeetsACodeThatPassesOnUnseen() throws {
        try deleteMeetsCodeThatPassesOn(ReferenceOptions(isTraced: true))
        var options = ReferenceOptions()
        options.faults.skipsLastBarrier = true
        #expect(throws: SimulationFailure.self) { try deleteMeetsCodeThatPassesOn(options) }
    }

    /// Seed 587673 of length 80. One side gives a hotel another code, the other one makes a hotel of that code, which is the
    /// same one from then on, and moves it on; only then it gives the hotel that it knows under the old code another one.
    /// What the first side knew of its own change led to whoever had that code by then.
    @Test(arguments: [false, true]) func aMovedRowIsMovedOnByTheOtherSide(inOneTransaction: Bool) throws {
        var run = try ReferenceSimulation.scripted(.keep, options: ReferenceOptions(isTraced: true))
        let (first, second) = (run.identities.make(), run.identities.make())
        let third = run.identities.make()
        run.client(0) {
            $0.insertHotel(1, ReferenceDatabase.Hotel(number: 1, identity: first))
            $0.insertHotel(3, ReferenceDatabase.Hotel(number: 2, identity: second))
            $0.insertRoom(0, in: 3)
        }
        try run.carry(from: 0)
        run.client(0) { $0.updateHotel(1, to: 2) }
        let steps: [(inout ReferenceEdit) -> Void] = [
            { $0.insertHotel(2, ReferenceDatabase.Hotel(number: 3, identity: third)) },
            { $0.updateHotel(2, to: 0) },
            { $0.updateHotel(3, to: 2) },
            { $0.insertRoom(1, in: 1) },
            { $0.updateHotel(1, to: 3) },
        ]
        if inOneTransaction {
            run.client(1) { edit in for step in steps { step(&edit) } }
            try run.carry(from: 1)
        } else {
            for step in steps {
                run.client(1, step)
                try run.carry(from: 1)
                try run.checkReferences(run.databases[0].rows, 0)
            }
        }
        try run.checkReferences(run.databases[0].rows, 0)
        try run.drain()
        try run.check()
    }
}
