import ReplicationCore
import Testing

@Suite struct LabelOrderTests {
    @Test func twoLabelsThatStandTheOtherWayRoundAreNamed() throws {
        let difference = try #require(LabelOrder.difference(["low", "mid", "high"], ["low", "high", "mid"]))
        #expect(difference == ("mid", "high"))
        // However far apart they are.
        #expect(try #require(LabelOrder.difference(["a", "b", "c", "d"], ["d", "a", "b", "c"])) == ("c", "d"))
    }

    @Test func labelsOfOneSideAloneHaveNoPlaceOnTheOther() {
        #expect(LabelOrder.difference(["low", "high"], ["none", "low", "mid", "high"]) == nil)
        #expect(LabelOrder.difference(["low", "mid", "high"], ["low", "high"]) == nil)
        #expect(LabelOrder.difference(["one"], ["two"]) == nil)
        #expect(LabelOrder.difference([], []) == nil)
    }
}
