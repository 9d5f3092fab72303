import Testing

@testable import ReplicationCore

/// Shows that the simulation checks: broken on purpose, one piece at a time, it must fail soon.
@Suite struct SplitMutationTests {
    struct Mutation: Sendable, CustomTestStringConvertible {
        var name: String
        var options: SimulationOptions
        /// Of a rare meeting more runs are needed.
        var limit = SplitMutationTests.limit
        var testDescription: String { name }

        init(_ name: String, hasMoves: Bool = false, hasPolicies: Bool = false, rule: (inout ResolutionRules) -> Void) {
            self.name = name
            options = SimulationOptions(hasMoves: hasMoves, hasPolicies: hasPolicies)
            // Owners move now and then: what depends on the moment when they do is met more seldom.
            if hasMoves { limit *= 10 }
            rule(&options.rules)
        }

        init(_ name: String, hasMoves: Bool = false, isRare: Bool = false, fault: (inout WorkerFaults) -> Void) {
            self.name = name
            options = SimulationOptions(hasMoves: hasMoves)
            if hasMoves || isRare { limit *= 10 }
            fault(&options.faults)
        }
    }

    static let limit: UInt64 = 2_000

    static let mutations = [
        Mutation("the earlier write wins", rule: { $0.isLater = { $0 == $1 ? $2 : $0 < $1 } }),
        Mutation("both sides win a tie", rule: { $0.isLater = { remote, local, _ in remote >= local } }),
        Mutation("nothing is concurrent", rule: { $0.isConcurrent = { _, _ in false } }),
        Mutation("everything is concurrent", rule: { $0.isConcurrent = { _, _ in true } }),
        Mutation("the other side is preferred", rule: { $0.prefersRemote = { !$0.prefersSource } }),
        Mutation("a delete does not win", rule: { $0.deleteWins = false }),
        Mutation("a delete always deletes", rule: { $0.matchesDeletes = false }),
        Mutation("writes outlive their row", rule: { $0.endsGenerations = false }),
        Mutation("losers are not recorded", rule: { $0.recordCount = 0 }),
        Mutation("losers are recorded twice", rule: { $0.recordCount = 2 }),
        Mutation("a counter is overwritten", rule: { $0.addsDifference = false }),
        Mutation("the earlier value is not restored", rule: { $0.restoresLocal = false }),
        Mutation("the greater value is not merged", rule: { $0.mergesStoredValue = false }),
        Mutation("the smaller value stands for the greater one", fault: { $0.swapsExtremes = true }),
        Mutation("no barrier", fault: { $0.skipsBarrier = true }),
        Mutation("no barrier where the old value is still there", fault: { $0.trustsOldValues = true }),
        Mutation("keys of new rows are not held", fault: { $0.leavesNewKeysFree = true }),
        Mutation("the clock is not remembered", fault: { $0.forgetsClock = true }),
        Mutation("dropped transactions leave no trace", fault: { $0.omitsMessage = true }),
        Mutation("notes are not written", fault: { $0.omitsNotes = true }),
        Mutation("defaults do not travel back", fault: { $0.omitsEcho = true }),
        Mutation("a restart reads on from the progress", fault: { $0.restartsAtProgress = true }),
        Mutation("progress is lost", fault: { $0.losesProgress = true }),
        Mutation("applied under the commit time", fault: { $0.appliesUnderCommitTime = true }),
        Mutation("own writes are sent back", fault: { $0.forwardsOwn = true }),
        Mutation("the history forgets too early", fault: { $0.trimsTooFar = true }),
        Mutation("the history forgets what is waited for", fault: { $0.trimsWhileWaiting = true }),
        Mutation("a part forgets the one before it", isRare: true, fault: { $0.forgetsEffectsOfParts = true }),
        Mutation("a part lets go of its rows", fault: { $0.releasesPartsEarly = true }),
        Mutation("parts share a barrier", fault: { $0.sharesBarrierOfParts = true }),
        Mutation("ownership ends a transition too early", hasMoves: true, fault: { $0.narrowsEarly = true }),
        Mutation("rows that came whole travel back", hasMoves: true, fault: { $0.omitsWhole = true }),
        Mutation("writes are judged by the policy of now", hasPolicies: true, rule: { $0.asOf = { column, _, _ in column } }),
        Mutation("a loser of another policy is not restored", hasPolicies: true, rule: { $0.restoresFormer = false }),
        Mutation("what a row got by itself overwrites", hasMoves: true, rule: { $0.echoesYield = false }),
    ]

    /// A run that fails without it says nothing about a mutation.
    @Test func unbrokenItPasses() async throws {
        try await onItsOwnThread {
            for seed in 0..<Self.limit {
                try SplitSimulation.run(seed: seed, length: 80)
                try SplitSimulation.run(seed: seed, length: 80, options: SimulationOptions(hasMoves: true))
                try SplitSimulation.run(seed: seed, length: 80, options: SimulationOptions(hasPolicies: true))
            }
        }
    }

    /// The look for forgotten values knows nothing of what each arrival should have recorded.
    @Test func aLoserThatNobodyRecordedIsMissed() {
        let options = SimulationOptions(rules: { var rules = ResolutionRules(); rules.recordCount = 0; return rules }())
        var missed = 0
        for seed in UInt64(0)..<200 {
            do { try SplitSimulation.run(seed: seed, length: 80, options: options) } catch {
                if "\(error)".contains("is in no log") { missed += 1 }
            }
        }
        #expect(missed > 0)
    }

    @Test(arguments: mutations) func mutationIsCaught(mutation: Mutation) async {
        do {
            try await onItsOwnThread {
                for seed in 0..<mutation.limit { try SplitSimulation.run(seed: seed, length: 80, options: mutation.options) }
            }
        } catch { return }
        Issue.record("\(mutation.name): not caught in \(mutation.limit) runs")
    }
}
