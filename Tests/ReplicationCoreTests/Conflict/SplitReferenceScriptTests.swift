import Testing

@testable import ReplicationCore

/// What the model check of references has found, and what is too rare for it, in as few steps as it takes.
@Suite struct SplitReferenceScriptTests {
    private func scene(
        _ onDelete: ReferenceShape.OnDelete, _ options: ReferenceOptions = ReferenceOptions(isTraced: true), isRequired: Bool = false,
        owner: String? = nil
    ) throws -> ReferenceSimulation {
        var options = options
        options.shape = .pair(onDelete, isRequired: isRequired, owner: owner)
        return try ReferenceSimulation(seed: 0, length: 0, options: options)
    }

    /// Seed 438672 of length 80, of the check as it was then. One side deletes a hotel while the other one gives it another
    /// code, and once more to another hotel after its writes have been read and before the delete is applied: references to
    /// the one with that code now were told again, and those to the hotel in question were lost on one side.
    private func deleteMeetsCodeThatPassesOn(_ options: ReferenceOptions) throws {
        var run = try scene(.nullify, options)
        let (first, second) = (run.identities.make(), run.identities.make())
        run.client(0) {
            $0.insertHotel(3, number: 1, first)
            $0.insertHotel(1, number: 2, second)
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
        #expect(run.hotel(ofRoom: 0, on: 1) == 1)
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
        var run = try scene(.keep)
        let (first, second) = (run.identities.make(), run.identities.make())
        let third = run.identities.make()
        run.client(0) {
            $0.insertHotel(1, number: 1, first)
            $0.insertHotel(3, number: 2, second)
            $0.insertRoom(0, in: 3)
        }
        try run.carry(from: 0)
        run.client(0) { $0.updateHotel(1, to: 2) }
        let steps: [(inout ReferenceEdit) -> Void] = [
            { $0.insertHotel(2, number: 3, third) },
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

    /// Seed 25098 of length 80. One side moves a hotel onto one of the other side, which moves the first one elsewhere: of
    /// references to the row that has both by then only their owner knows which they mean.
    private func hotelsMergeThatOneOwnerRefersTo(_ options: ReferenceOptions) throws {
        var run = try scene(.keep, options, owner: "sync")
        let (first, second) = (run.identities.make(), run.identities.make())
        let third = run.identities.make()
        run.client(1) {
            $0.insertHotel(0, number: 2, first)
            $0.insertRoom(0, in: 0)
        }
        run.client(0) { $0.insertHotel(3, number: 1, second) }
        run.client(0) { $0.updateHotel(3, to: 0) }
        run.client(1) {
            $0.insertHotel(3, number: 3, third)
            $0.insertRoom(1, in: 3)
        }
        run.client(1) { $0.updateHotel(3, to: 1) }
        try run.drain()
        try run.check()
        for side in 0..<2 { #expect([0, 1].map { run.hotel(ofRoom: $0, on: side) } == [0, 1]) }
    }

    @Test func nobodyButTheirOwnerMovesReferences() throws {
        try hotelsMergeThatOneOwnerRefersTo(ReferenceOptions(isTraced: true))
        var options = ReferenceOptions()
        options.faults.forgetsOwners = true
        #expect(throws: SimulationFailure.self) { try hotelsMergeThatOneOwnerRefersTo(options) }
    }

    /// A room comes in a hotel whose code the target changes while rows are taken hold of, and again while they are taken hold
    /// of anew; a third time, and another hotel takes the code, once the group has looked.
    private func codesChangeAgainAndAgain(_ options: ReferenceOptions) throws {
        var run = try scene(.nullify, options)
        let (first, second) = (run.identities.make(), run.identities.make())
        run.client(0) {
            $0.insertHotel(0, number: 1, first)
            $0.insertHotel(9, number: 2, second)
        }
        try run.carry(from: 0)
        run.client(0) { $0.insertRoom(0, in: 0) }
        #expect(try run.read(0))
        // Asks.
        #expect(try run.stepApplier(from: 0))
        for (code, newCode) in [(0, 1), (1, 2)] {
            run.client(1) { $0.updateHotel(code, to: newCode) }
            // Holds what is known of, which is not there any more.
            #expect(try run.stepApplier(from: 0))
            #expect(run.databases[1].kept.isEmpty)
            #expect(try run.read(1))
            if options.faults.followsOnce, code == 1 { break }
            // Begins again.
            #expect(try run.stepApplier(from: 0))
        }
        if !options.faults.followsOnce { #expect(try run.stepApplier(from: 0)) }
        let hotel = ReferencePlace(ReferenceShape.hotels, 2)
        // A client waits for what is kept.
        if !run.databases[1].kept.contains(hotel) {
            run.client(1) {
                $0.updateHotel(2, to: 3)
                $0.updateHotel(9, to: 2)
            }
        }
        #expect(try run.stepApplier(from: 0))
        #expect(run.databases[1].rows.tables[ReferenceShape.rooms].count == 1)
        try run.checkReferences(run.databases[1].rows, 1)
        try run.drain()
        try run.check()
    }

    @Test func aRowThatIsMovedOnAgainAndAgainIsHeldInTheEnd() throws {
        try codesChangeAgainAndAgain(ReferenceOptions(isTraced: true))
        var options = ReferenceOptions()
        options.faults.followsOnce = true
        #expect(throws: SimulationFailure.self) { try codesChangeAgainAndAgain(options) }
    }

    /// Seeds 923490 (a new hotel) and 701215 (another number of one that was there) of length 80. A room keeps the number of a
    /// hotel that is gone, gets another key, which carries the number along, and goes; only then another hotel gets the number.
    @Test(arguments: [false, true]) func aNumberOfNobodysMeansNobodyWhoeverGetsItLater(isNewHotel: Bool) throws {
        var run = try scene(.keep)
        let identities = (0..<4).map { _ in run.identities.make() }
        run.client(0) {
            $0.insertHotel(3, number: 11, identities[0])
            $0.insertHotel(5, number: 12, identities[1])
            $0.insertHotel(0, number: 13, identities[2])
            $0.insertRoom(2, in: 3)
        }
        try run.carry(from: 0)
        run.client(0) { $0.deleteHotel(3) }
        run.client(0) {
            $0.updateRoom(2, to: 1)
            // With it the group ends.
            $0.deleteHotel(5)
        }
        run.client(0) { $0.deleteRoom(1) }
        run.client(0) {
            if isNewHotel {
                $0.deleteHotel(0)
                $0.insertHotel(0, number: 11, identities[3])
            } else {
                $0.renumberHotel(0, to: 11)
            }
        }
        while try run.read(0) {}
        var hasMoved = false
        while true {
            let hasRead = try run.read(1)
            if try !run.stepApplier(from: 0), !hasRead { break }
            hasMoved = hasMoved || run.databases[1].rows[ReferencePlace(ReferenceShape.rooms, 1)] != nil
            try run.checkReferences(run.databases[1].rows, 1)
        }
        #expect(hasMoved)
        try run.drain()
        try run.check()
    }

    /// Seed 446892 of length 80. A room waits, since its hotel is not there any more, and is deleted by its own side; while
    /// that arrives, the other side makes a room of the same key. There it stood, and on the first side it was the deleted one.
    private func aRoomIsMadeWhereOneWaits(_ options: ReferenceOptions) throws {
        var run = try scene(.delete, options, isRequired: true)
        let (first, second) = (run.identities.make(), run.identities.make())
        let third = run.identities.make()
        run.client(0) { $0.insertHotel(2, number: 1, third) }
        try run.carry(from: 0)
        run.client(1) {
            $0.insertHotel(1, number: 2, first)
            $0.insertRoom(3, in: 1)
        }
        run.client(0) { $0.insertHotel(1, number: 3, second) }
        run.client(0) { $0.deleteHotel(1) }
        try run.carry(from: 1)
        #expect(run.databases[0].rows.tables[ReferenceShape.rooms].isEmpty)
        run.client(1) {
            $0.deleteHotel(1)
            $0.deleteRoom(3)
        }
        #expect(try run.read(1))
        // Asks and holds.
        for _ in 0..<2 { #expect(try run.stepApplier(from: 1)) }
        let isHeld = run.databases[0].held.contains(ReferencePlace(ReferenceShape.rooms, 3))
        if !isHeld { run.client(0) { $0.insertRoom(3, in: 2) } }
        try run.carry(from: 1)
        if isHeld { run.client(0) { $0.insertRoom(3, in: 2) } }
        try run.drain()
        try run.check()
        for side in 0..<2 { #expect(run.hotel(ofRoom: 3, on: side) == 2) }
    }

    @Test func theKeyOfARowThatWaitsIsHeld() throws {
        try aRoomIsMadeWhereOneWaits(ReferenceOptions(isTraced: true))
        var options = ReferenceOptions()
        options.faults.forgetsWaitingRows = true
        #expect(throws: SimulationFailure.self) { try aRoomIsMadeWhereOneWaits(options) }
    }

    /// Seeds 42141 and 191830 of length 80, without foreign keys. One side deletes a hotel and leaves a room behind that holds its
    /// number; the other side has given the hotel another code. There the room is in it, and here it held a number of nobody's.
    @Test(arguments: [nil, "bot", "sync"]) func whatIsLeftBehindFollowsTheCodeOfTheOtherSide(owner: String?) throws {
        var run = try scene(.keep, owner: owner)
        let (first, maker) = (run.identities.make(), owner == "sync" ? 1 : 0)
        run.client(0) { $0.insertHotel(0, number: 1, first) }
        try run.carry(from: 0)
        run.client(maker) { $0.insertRoom(3, in: 0) }
        try run.carry(from: maker)
        run.client(1) { $0.updateHotel(0, to: 1) }
        run.client(0) { $0.deleteHotel(0) }
        try run.drain()
        try run.check()
        for side in 0..<2 { #expect(run.hotel(ofRoom: 3, on: side) == 1) }
    }

    /// The same where another hotel of its own side has the number by then: a room that holds it is in that.
    ///
    /// - Parameter goesAgain: that hotel goes in the end, by the same transaction that brings the code of the first one (seeds
    ///   194845 and 100266, as this was thought of first).
    @Test(arguments: [false, true]) func whatIsLeftBehindMeansWhoHasHadTheNumberSince(goesAgain: Bool) throws {
        var run = try scene(.keep)
        let (first, second) = (run.identities.make(), run.identities.make())
        run.client(0) { $0.insertHotel(0, number: 1, first) }
        try run.carry(from: 0)
        let third = run.identities.make()
        run.client(0) { $0.deleteHotel(0) }
        run.client(0) {
            $0.insertHotel(2, number: 1, second)
            $0.insertRoom(3, in: 2)
        }
        run.client(1) {
            $0.updateHotel(0, to: 1)
            if goesAgain {
                $0.insertHotel(2, number: 9, third)
                $0.updateHotel(2, to: 4)
            }
        }
        try run.drain()
        try run.check()
        for side in 0..<2 { #expect(run.hotel(ofRoom: 3, on: side) == (goesAgain ? 4 : 2)) }
    }

    /// Seeds 279304 and 279229 of length 80, without foreign keys. Both sides give a hotel another code, and the one deletes it then.
    private func whatIsLeftBehindFollows(_ side: Int, _ options: ReferenceOptions) throws {
        var run = try scene(.nullify, options)
        let first = run.identities.make()
        run.client(0) {
            $0.insertHotel(0, number: 1, first)
            $0.insertRoom(3, in: 0)
        }
        try run.carry(from: 0)
        run.client(1 - side) { $0.updateHotel(0, to: 1) }
        run.client(side) { $0.updateHotel(0, to: 2) }
        run.client(side) { $0.deleteHotel(2) }
        try run.drain()
        try run.check()
        #expect(run.hotel(ofRoom: 3, on: side) == 1)
    }

    @Test(arguments: 0..<2) func whatIsLeftBehindFollowsTheCodeThatIsLeft(side: Int) throws {
        try whatIsLeftBehindFollows(side, ReferenceOptions(isTraced: true))
        // Else the other one's rooms are in no hotel, on both sides.
        if side == 1 { return }
        var options = ReferenceOptions()
        options.faults.omitsLeft = true
        #expect(throws: SimulationFailure.self) { try whatIsLeftBehindFollows(side, options) }
    }

    /// What the other side tells of its own is no matter of the deleting side's: it would win over a later reference, which is
    /// on its way.
    @Test func theOtherSideTellsItsOwnAlone() throws {
        var run = try scene(.keep)
        let (first, second) = (run.identities.make(), run.identities.make())
        run.client(0) {
            $0.insertHotel(0, number: 1, first)
            $0.insertHotel(5, number: 2, second)
            $0.insertRoom(3, in: 0)
        }
        try run.carry(from: 0)
        run.client(1) { $0.updateHotel(0, to: 1) }
        run.client(1) { $0.referRoom(3, to: 5) }
        run.databases[0].clock += 100
        run.client(0) { $0.deleteHotel(0) }
        while try run.read(0) {}
        #expect(try run.read(1))
        // The changed key alone: asks, holds, and is done.
        for _ in 0..<3 { #expect(try run.stepApplier(from: 1)) }
        #expect(run.databases[0].rows[ReferencePlace(ReferenceShape.hotels, 1)] != nil)
        try run.drain()
        try run.check()
        for side in 0..<2 { #expect(run.hotel(ofRoom: 3, on: side) == 5) }
    }

    /// The deleted hotel's number is another one's from the beginning of the same transaction, and that goes with the group which
    /// brings the first one's code: a room in it was in neither.
    @Test func whatIsLeftBehindIsNoRoomOfAnotherHotel() throws {
        var run = try scene(.nullify)
        let (first, second) = (run.identities.make(), run.identities.make())
        run.client(0) { $0.insertHotel(0, number: 1, first) }
        try run.carry(from: 0)
        let third = run.identities.make()
        run.client(0) {
            $0.deleteHotel(0)
            $0.insertHotel(2, number: 1, second)
            $0.insertRoom(3, in: 2)
        }
        run.client(1) {
            $0.updateHotel(0, to: 1)
            $0.insertHotel(2, number: 9, third)
            $0.deleteHotel(2)
        }
        try run.drain()
        try run.check()
        for side in 0..<2 {
            #expect(run.databases[side].rows.tables[ReferenceShape.rooms].count == 1)
            #expect(run.hotel(ofRoom: 3, on: side) == nil)
        }
    }
}
