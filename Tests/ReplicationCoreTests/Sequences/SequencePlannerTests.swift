import ReplicationCore
import Testing

/// Two sides that never give the same number, nor one that the other holds; and the way back.
@Suite struct SequencePlannerTests {
    private static let table = QualifiedName(schema: "public", name: "t")
    private static let name = QualifiedName(schema: "public", name: "t_id_seq")

    private func state(
        last: Int64 = 1, called: Bool = false, used: Int64? = nil, increment: Int64 = 1, minimum: Int64 = 1,
        maximum: Int64 = .max, range: ClosedRange<Int64> = .min ... .max
    ) -> SequenceState {
        SequenceState(
            name: Self.name, settings: SequenceSettings(increment: increment, minimum: minimum, maximum: maximum),
            lastValue: last, isCalled: called, usedValue: used, columnRange: range)
    }

    private func pair(_ origin: SequenceState, _ other: SequenceState, isShared: Bool = true) -> SequencePair {
        SequencePair(
            columns: [.init(table: Self.table, column: "id")], origin: origin, other: other, isShared: isShared)
    }

    private func applied(_ change: SequenceChange?, to state: SequenceState, mode: ReplicationSettings.Sequences?) -> SequenceState {
        guard let change else { return state }
        var result = state
        result.settings = change.settings
        result.lastValue = change.restart
        result.isCalled = false
        result.record = mode.map { .init(before: state.record?.before ?? state.settings, mode: $0) }
        return result
    }

    @Test func interleavedNumbersLieAheadOfBothSides() throws {
        let plan = try #require(
            try SequencePlanner(mode: .interleave).plan(
                pair(state(last: 41, called: true, used: 40), state(last: 1, called: false, used: 57))))
        #expect(plan.origin?.restart == 58 && plan.other?.restart == 59)
        #expect(plan.origin?.settings.increment == 2 && plan.other?.settings.increment == 2)
        #expect(
            plan.origin?.sql
                == #"ALTER SEQUENCE "public"."t_id_seq" INCREMENT BY 2 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 58 RESTART WITH 58;"#)
        // Never used: the first number is not lost.
        let fresh = try #require(try SequencePlanner(mode: .interleave).plan(pair(state(), state())))
        #expect(fresh.origin?.restart == 1 && fresh.other?.restart == 2)
    }

    @Test func stepsOfOneSideStayApartFromTheOthers() throws {
        // Programs that take 50 numbers with each call.
        let plan = try #require(
            try SequencePlanner(mode: .interleave).plan(
                pair(state(last: 151, called: true, used: 180, increment: 50), state(increment: 50))))
        #expect(plan.origin?.settings.increment == 100)
        #expect(plan.origin?.restart == 230 && plan.other?.restart == 280)
    }

    @Test func rangesHalveWhatIsLeftAndStayExactForEveryProgram() throws {
        let planner = SequencePlanner(mode: .ranges)
        let plan = try #require(try planner.plan(pair(state(last: 100, called: true), state(range: 1...2_147_483_647))))
        #expect(plan.origin?.restart == 101)
        #expect(plan.other?.restart == (plan.origin?.settings.maximum ?? 0) + 1)
        #expect(plan.other?.restart == 1_073_741_874)
        #expect(plan.other?.settings.minimum == plan.other?.restart && plan.other?.settings.maximum == 2_147_483_647)
        let wide = try #require(try planner.plan(pair(state(), state())))
        #expect((wide.other?.settings.maximum ?? .max) == 9_007_199_254_740_991)
        // Until they were used, the far half is not lost by going back.
        let split = pair(
            applied(plan.origin, to: state(last: 100, called: true), mode: .ranges),
            applied(plan.other, to: state(range: 1...2_147_483_647), mode: .ranges))
        #expect(try planner.plan(split) == nil)
        let back = try #require(try planner.restore(split))
        #expect(back.origin?.restart == 101 && back.origin?.settings == SequenceSettings())
    }

    @Test func whatIsNotSharedIsOnlySetAheadWhereItIsBehind() throws {
        let planner = SequencePlanner(mode: .interleave)
        #expect(try planner.plan(pair(state(last: 9, called: true, used: 9), state(last: 9, called: true), isShared: false)) == nil)
        let plan = try #require(
            try planner.plan(pair(state(last: 9, called: true, used: 9), state(used: 9), isShared: false)))
        #expect(plan.origin == nil)
        #expect(plan.other == SequenceChange(name: Self.name, settings: SequenceSettings(), restart: 10))
    }

    @Test func sequencesThatCannotBeSharedAreNamed() {
        var cycling = state()
        cycling.cycles = true
        let planner = SequencePlanner(mode: .interleave)
        #expect(throws: SequenceProblem.cycles(Self.name)) { try planner.plan(pair(state(), cycling)) }
        #expect(throws: SequenceProblem.stepsDiffer(origin: 1, other: -1)) {
            try planner.plan(pair(state(), state(last: -1, increment: -1, minimum: -9, maximum: -1)))
        }
        for mode in ReplicationSettings.Sequences.allCases {
            #expect(throws: SequenceProblem.exhausted(Self.name)) {
                try SequencePlanner(mode: mode).plan(pair(state(last: 32_767, called: true, range: 1...32_767), state()))
            }
            #expect(throws: SequenceProblem.exhausted(Self.name)) {
                try SequencePlanner(mode: mode).plan(pair(state(last: .max, called: true), state()))
            }
        }
    }

    @Test func headroomIsWhatTheColumnCanHold() {
        let small = state(last: 32_757, called: true, range: -32_768...32_767)
        #expect(small.remaining == 10)
        #expect(small.headroom < 0.001)
        #expect(state(last: 32_758, called: true, increment: 2, range: -32_768...32_767).remaining == 4)
        #expect(state(last: 32_767, called: true, range: -32_768...32_767).remaining == 0)
        #expect(state().headroom == 1)
        #expect(state(last: -5, increment: -1, minimum: -9, maximum: -1).remaining == 5)
    }

    @Test func sidesThatShareAlreadyKeepTheirNumbers() throws {
        let planner = SequencePlanner(mode: .interleave)
        let first = try #require(try planner.plan(pair(state(last: 57, called: true), state())))
        var origin = applied(first.origin, to: state(last: 57, called: true), mode: .interleave)
        let other = applied(first.other, to: state(), mode: .interleave)
        #expect(origin.nextValue == 58 && other.nextValue == 59)
        // Somebody has written a number of their own choice.
        origin.usedValue = 1_000
        let again = try #require(try planner.plan(pair(origin, other)))
        #expect(again.origin?.restart == 1_002 && again.other?.restart == 1_001)
    }

    /// Draws numbers on both sides at random: some are rolled back, rows are carried over or not yet, people write numbers
    /// of their own choice, changes are cut off after the first of two, modes change, and sides come back together. Looks
    /// for a number given twice.
    @Test(arguments: [UInt64(20_261_125), 7, 99, 4_242])
    func noNumberIsEverGivenTwice(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        for round in 0..<600 {
            let step: Int64 = [1, 1, 1, 2, 50, -1, -7].randomElement(using: &random) ?? 1
            let place = "seed \(seed) round \(round)"
            var game = NumberGame(
                sides: [0, 1].map { _ in
                    state(
                        last: step > 0 ? 1 : -1, increment: step, minimum: step > 0 ? 1 : -10_000_000,
                        maximum: step > 0 ? 10_000_000 : -1, range: -10_000_000...10_000_000)
                })
            func draw(_ sides: ClosedRange<Int>, upTo count: Int) throws {
                for _ in 0..<Int.random(in: 0...count, using: &random) {
                    // nil: there is none left, which must not happen either.
                    #expect(game.draw(Int.random(in: sides, using: &random), using: &random) == true, "\(place)")
                }
            }
            // Before the split one side alone gives numbers.
            try draw(0...0, upTo: 9)
            for _ in 0..<3 {
                for turn in 0..<Int.random(in: 1...3, using: &random) {
                    let planner = SequencePlanner(mode: ReplicationSettings.Sequences.allCases.randomElement(using: &random) ?? .interleave)
                    // What is in use stays.
                    let mode = planner.mode(of: pair(game.sides[0], game.sides[1]))
                    if Int.random(in: 0...2, using: &random) == 0 {
                        game.writeChosen(Int.random(in: 0...1, using: &random), using: &random)
                    } else if Bool.random(using: &random), let plan = try planner.plan(pair(game.sides[0], game.sides[1])) {
                        game.sides[1] = applied(plan.other, to: game.sides[1], mode: mode)
                        try draw(turn == 0 ? 0...0 : 0...1, upTo: 12)
                    }
                    let plan = try planner.plan(pair(game.sides[0], game.sides[1]))
                    game.sides[0] = applied(plan?.origin, to: game.sides[0], mode: mode)
                    game.sides[1] = applied(plan?.other, to: game.sides[1], mode: mode)
                    // Once more changes nothing.
                    #expect(try planner.plan(pair(game.sides[0], game.sides[1])) == nil, "\(place)")
                    try draw(0...1, upTo: 40)
                }
                let back = try #require(try SequencePlanner(mode: .interleave).restore(pair(game.sides[0], game.sides[1])), "\(place)")
                game.sides[0] = applied(back.origin, to: game.sides[0], mode: nil)
                game.sides[1] = applied(back.other, to: game.sides[1], mode: nil)
                #expect(game.sides.allSatisfy { $0.settings.increment == step }, "\(place)")
                try draw(0...0, upTo: 5)
            }
        }
    }
}

/// Two sequences, the rows that hold their numbers, and every number that was ever given.
private struct NumberGame {
    var sides: [SequenceState]
    private var given: Set<Int64> = []

    init(sides: [SequenceState]) { self.sides = sides }

    /// - Returns: whether the number is a new one; `nil` when there is none left.
    mutating func draw(_ side: Int, using random: inout SplitMix) -> Bool? {
        guard let value = sides[side].nextValue else { return nil }
        (sides[side].lastValue, sides[side].isCalled) = (value, true)
        // A transaction that is rolled back keeps nothing.
        if Int.random(in: 0...3, using: &random) > 0 { hold(value, side, using: &random) }
        return given.insert(value).inserted
    }

    /// A number that nobody has given, ahead of all that were.
    mutating func writeChosen(_ side: Int, using random: inout SplitMix) {
        let ascends = sides[side].settings.increment > 0
        let farthest = (ascends ? given.max() : given.min()) ?? 0
        let value = farthest + (ascends ? 1 : -1) * Int64.random(in: 1...300, using: &random)
        guard abs(value) < 1_000_000 else { return }
        given.insert(value)
        hold(value, side, using: &random)
    }

    /// The row reaches the other side sooner or later.
    private mutating func hold(_ value: Int64, _ side: Int, using random: inout SplitMix) {
        for holder in [side] + (Bool.random(using: &random) ? [1 - side] : []) {
            let used = sides[holder].usedValue ?? value
            sides[holder].usedValue = sides[holder].settings.increment > 0 ? max(used, value) : min(used, value)
        }
    }
}
