import ReplicationCore
import Testing

@Suite struct TimelineHistoryTests {
    static let file = """
        1\t0/3000148\tno recovery target specified

        2\t0/5000000\tbefore 2026-01-01 10:00:00+00

        """
    let history = TimelineHistory(text: file)

    @Test func historyFileGivesTheSwitchPointOfEachTimeline() throws {
        #expect(history.switchPoints == [1: try #require(LSN("0/3000148")), 2: try #require(LSN("0/5000000"))])
    }

    @Test func targetWithinTheSharedHistoryGoesOn() throws {
        let applied = try #require(LSN("0/3000148"))
        #expect(history.verdict(known: 1, current: 3, appliedLSN: applied) == .continued)
        #expect(history.verdict(known: 2, current: 3, appliedLSN: applied) == .continued)
        #expect(TimelineHistory().verdict(known: 3, current: 3, appliedLSN: applied) == .same)
    }

    @Test func targetBeyondTheSwitchIsRefusedHoweverFarTheServerIs() throws {
        let applied = try #require(LSN("0/3000149"))
        let switchPoint = try #require(LSN("0/3000148"))
        #expect(history.verdict(known: 1, current: 3, appliedLSN: applied) == .beyondSwitch(switchPoint))
    }

    @Test func serverThatNeverWasOnTheTimelineIsRefused() {
        #expect(history.verdict(known: 4, current: 3, appliedLSN: .zero) == .unrelated)
        #expect(TimelineHistory(text: "").verdict(known: 2, current: 1, appliedLSN: .zero) == .unrelated)
    }
}
