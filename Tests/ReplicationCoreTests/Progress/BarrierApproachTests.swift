import ReplicationCore
import Testing

@Suite struct BarrierApproachTests {
    /// Passes with empty hands until rows are held; `nil` if that takes more than a thousand.
    private static func passes(_ approach: inout BarrierApproach, costing next: () -> Int64) -> [Int64]? {
        approach.begin()
        var costs: [Int64] = []
        while approach.goesOn {
            guard costs.count < 1_000 else { return nil }
            costs.append(next())
            approach.notePass(milliseconds: costs[costs.count - 1])
        }
        return costs
    }

    @Test func aBacklogIsReadBeforeRowsAreHeld() {
        var approach = BarrierApproach()
        var costs: [Int64] = [60_000, 5_000, 400, 30, 7]
        #expect(Self.passes(&approach) { costs.removeFirst() } == [60_000, 5_000, 400, 30])
        // The way is short now.
        #expect(Self.passes(&approach) { 1 } == [])
    }

    /// Neither direction moved for minutes while each pass took 6 to 18 s: rows were to be held for 5 s at most.
    @Test(arguments: [250, 4_000, 6_000, 18_000, 600_000] as [Int64])
    func aSideThatIsWrittenAsFastAsItIsReadKeepsNoGroupWaitingForEver(cost: Int64) {
        var approach = BarrierApproach()
        #expect(Self.passes(&approach) { cost } == [cost, cost])
        for _ in 1...10 {
            approach.notePass(milliseconds: cost)
            #expect(Self.passes(&approach) { cost } == [cost])
        }
    }

    /// Whatever a pass costs: there are no more than halvings of the first, and together they take no more than thrice the
    /// longest.
    @Test func everyApproachEnds() throws {
        let seed = UInt64.random(in: 0...999_999)
        var random = SplitMix(state: seed)
        for _ in 1...2_000 {
            var approach = BarrierApproach()
            let scale = Int64(1) << Int64.random(in: 1...22, using: &random)
            for _ in 1...20 {
                let costs = try #require(
                    Self.passes(&approach) { Int64.random(in: 1...scale, using: &random) }, "seed \(seed)")
                #expect(costs.count <= 18 && costs.reduce(0, +) <= 3 * (costs.max() ?? 0), "seed \(seed): \(costs)")
                approach.notePass(milliseconds: Int64.random(in: 1...scale, using: &random))
            }
        }
    }
}
