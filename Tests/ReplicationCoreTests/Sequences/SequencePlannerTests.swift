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

    /// Draws numbers on both sides at random, with rows copied over and explicit numbers in between, goes back and
    /// forth, and looks for a number given twice.
    @Test(arguments: [UInt64(20_261_125), 7, 99, 4_242])
    func noNumberIsEverGivenTwice(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        for round in 0..<400 {
            let step: Int64 = [1, 1, 1, 2, 50, -1, -7].randomElement(using: &random) ?? 1
            let low: Int64 = step > 0 ? 1 : -10_000_000
            var sides = [0, 1].map { _ in
                state(
                    last: step > 0 ? 1 : -1, increment: step, minimum: low, maximum: step > 0 ? 10_000_000 : -1,
                    range: -10_000_000...10_000_000)
            }
            var given: Set<Int64> = []
            func draw(_ side: Int) throws {
                let value = try #require(sides[side].nextValue, "seed \(seed) round \(round)")
                let isFresh = given.insert(value).inserted
                #expect(isFresh, "seed \(seed) round \(round): \(value) twice")
                (sides[side].lastValue, sides[side].isCalled) = (value, true)
                // The row reaches the other side sooner or later.
                for holder in [side] + (Bool.random(using: &random) ? [1 - side] : []) {
                    let used = sides[holder].usedValue ?? value
                    sides[holder].usedValue = step > 0 ? max(used, value) : min(used, value)
                }
            }
            // Before the split one side alone gives numbers.
            for _ in 0..<Int.random(in: 0...9, using: &random) { try draw(0) }
            for _ in 0..<3 {
                let mode = ReplicationSettings.Sequences.allCases.randomElement(using: &random) ?? .interleave
                let planner = SequencePlanner(mode: mode)
                for _ in 0..<Int.random(in: 1...2, using: &random) {
                    let plan = try planner.plan(pair(sides[0], sides[1]))
                    sides = [applied(plan?.origin, to: sides[0], mode: mode), applied(plan?.other, to: sides[1], mode: mode)]
                    // Once more changes nothing.
                    #expect(try planner.plan(pair(sides[0], sides[1])) == nil, "seed \(seed) round \(round)")
                    for _ in 0..<Int.random(in: 0...12, using: &random) { try draw(Int.random(in: 0...1, using: &random)) }
                }
                let back = try #require(try planner.restore(pair(sides[0], sides[1])))
                sides = [applied(back.origin, to: sides[0], mode: nil), applied(back.other, to: sides[1], mode: nil)]
                #expect(sides[0].settings.increment == step && sides[1].settings.increment == step)
                for _ in 0..<Int.random(in: 0...5, using: &random) { try draw(0) }
            }
        }
    }
}
