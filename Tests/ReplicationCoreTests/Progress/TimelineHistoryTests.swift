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

    @Test func promotedStandbyLeftWhereItsHistorySaysSo() throws {
        let first = try #require(LSN("0/3000148"))
        let second = try #require(LSN("0/5000000"))
        let promoted = TimelineHistory(switchPoints: [1: first])
        #expect(TimelineHistory().parting(current: 1, of: promoted, serverCurrent: 2) == .left(first))
        // Promoted once more, elsewhere: it left the source at the first place.
        #expect(TimelineHistory().parting(current: 1, of: history, serverCurrent: 3) == .left(first))
        // The source itself was failed over before, at the same place.
        #expect(promoted.parting(current: 2, of: history, serverCurrent: 3) == .left(second))
        // Both were promoted from one standby at one place, to timelines of different numbers.
        #expect(promoted.parting(current: 2, of: promoted, serverCurrent: 4) == .left(first))
        // Both call it timeline 2, and it is not the same.
        let later = TimelineHistory(switchPoints: [1: second])
        #expect(later.parting(current: 2, of: promoted, serverCurrent: 2) == .left(first))
    }

    @Test func serverThatWentOnWhereTheSourceTurnedOffHasWhatTheSourceLost() throws {
        let first = try #require(LSN("0/3000148"))
        let second = try #require(LSN("0/5000000"))
        let source = TimelineHistory(switchPoints: [1: first])
        #expect(source.parting(current: 2, of: TimelineHistory(switchPoints: [1: second]), serverCurrent: 2) == .beyond(first))
        #expect(source.parting(current: 2, of: TimelineHistory(), serverCurrent: 1) == .beyond(first))
    }

    @Test func serversOnOneTimelineDidNotPart() {
        #expect(TimelineHistory().parting(current: 1, of: TimelineHistory(), serverCurrent: 1) == .none)
        #expect(history.parting(current: 3, of: history, serverCurrent: 3) == .none)
        #expect(TimelineHistory().parting(current: 1, of: TimelineHistory(), serverCurrent: 2) == .none)
    }
}
