import Testing

@testable import ReplicationCore

@Suite struct FeedbackScheduleTests {
    private let start: Int64 = 1_000_000
    private var schedule: FeedbackSchedule {
        FeedbackSchedule(senderTimeoutMilliseconds: 60_000, startedAtMilliseconds: start)
    }

    @Test func nothingIsDueWhileNothingHappens() {
        #expect(!schedule.isDue(durableLSN: .zero, atMilliseconds: start + 9_999))
    }

    @Test func statusIsDueAtASixthOfTheSenderTimeout() {
        #expect(schedule.isDue(durableLSN: .zero, atMilliseconds: start + 10_000))
    }

    @Test func statusIsDueAtOnceWhenTheServerAsks() {
        var schedule = schedule
        schedule.handleReplyRequest()
        #expect(schedule.isDue(durableLSN: .zero, atMilliseconds: start))
        schedule.handleSent(durableLSN: .zero, atMilliseconds: start)
        #expect(!schedule.isDue(durableLSN: .zero, atMilliseconds: start))
    }

    @Test func progressIsReportedAtMostTenTimesASecond() {
        var schedule = schedule
        #expect(!schedule.isDue(durableLSN: LSN(5), atMilliseconds: start + 99))
        #expect(schedule.isDue(durableLSN: LSN(5), atMilliseconds: start + 100))
        schedule.handleSent(durableLSN: LSN(5), atMilliseconds: start + 100)
        #expect(!schedule.isDue(durableLSN: LSN(5), atMilliseconds: start + 9_000))
        #expect(schedule.isDue(durableLSN: LSN(6), atMilliseconds: start + 9_000))
    }

    @Test func aPositionThatGoesBackIsNoProgress() {
        var schedule = schedule
        schedule.handleSent(durableLSN: LSN(9), atMilliseconds: start)
        schedule.handleSent(durableLSN: LSN(4), atMilliseconds: start)
        #expect(!schedule.isDue(durableLSN: LSN(8), atMilliseconds: start + 1_000))
    }

    @Test func aClockThatGoesBackMakesAStatusDueInsteadOfSilence() {
        #expect(schedule.isDue(durableLSN: .zero, atMilliseconds: start - 1))
    }

    @Test func aServerWithoutTimeoutStillHearsEveryTenSeconds() {
        let schedule = FeedbackSchedule(senderTimeoutMilliseconds: 0, startedAtMilliseconds: start)
        #expect(!schedule.isDue(durableLSN: .zero, atMilliseconds: start + 9_999))
        #expect(schedule.isDue(durableLSN: .zero, atMilliseconds: start + 10_000))
    }
}
