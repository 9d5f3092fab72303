import Testing

@testable import ReplicationCore

@Suite struct LagMeterTests {
    @Test func nothingIsKnownBeforeTheFirstHeartbeat() {
        let meter = LagMeter()
        #expect(meter.lagSeconds(atMilliseconds: 5_000) == nil)
        #expect(meter.endToEndMilliseconds(at: 0.5) == nil)
        #expect(meter.etaSeconds == 0)
    }

    @Test func anIdleHourStaysAtTheHeartbeatsOwnTime() throws {
        var meter = LagMeter()
        for second in 0..<3_600 {
            let now = Int64(second) * 1_000
            meter.handleHeartbeatSent(sequence: Int64(second), atMilliseconds: now)
            meter.handleHeartbeatSeen(sequence: Int64(second), atMilliseconds: now + 20)
            meter.handlePositions(sourceLSN: LSN(100), appliedLSN: LSN(100), atMilliseconds: now + 20)
            #expect(meter.lagSeconds(atMilliseconds: now + 999) == 0.02)
        }
        #expect(meter.lagBytes == 0)
        #expect(meter.endToEndMilliseconds(at: 0.99) == 20)
    }

    @Test func aStoppedTargetMakesTheLagGrowSecondBySecond() throws {
        var meter = LagMeter()
        meter.handleHeartbeatSent(sequence: 0, atMilliseconds: 0)
        meter.handleHeartbeatSeen(sequence: 0, atMilliseconds: 10)
        for second in 1...7_200 {
            let now = Int64(second) * 1_000
            meter.handleHeartbeatSent(sequence: Int64(second), atMilliseconds: now)
            #expect(meter.lagSeconds(atMilliseconds: now + 500) == Double(second) - 0.5)
        }
        // It goes on: the newest heartbeat is seen, and the long wait is over.
        meter.handleHeartbeatSeen(sequence: 7_200, atMilliseconds: 7_200_250)
        #expect(meter.lagSeconds(atMilliseconds: 7_200_300) == 0.25)
    }

    @Test func aPausedWorkerShowsThePauseAsLag() {
        var meter = LagMeter()
        meter.handleHeartbeatSent(sequence: 1, atMilliseconds: 0)
        // The process sleeps for a minute between sending and seeing.
        #expect(meter.lagSeconds(atMilliseconds: 60_000) == 60)
        meter.handleHeartbeatSeen(sequence: 1, atMilliseconds: 60_000)
        #expect(meter.lagSeconds(atMilliseconds: 60_001) == 60)
        meter.handleHeartbeatSent(sequence: 2, atMilliseconds: 60_010)
        meter.handleHeartbeatSeen(sequence: 2, atMilliseconds: 60_015)
        #expect(meter.lagSeconds(atMilliseconds: 60_020) == 0.005)
    }

    /// No heartbeat is sent while a direction is paused or reconnects, so that none is missed.
    @Test func theLagGrowsWhileNoStreamRuns() {
        var meter = LagMeter()
        meter.handleStreaming(false, atMilliseconds: 0)
        #expect(!meter.isStanding && meter.lagSeconds(atMilliseconds: 9_000) == nil)
        meter.handleStreaming(true, atMilliseconds: 9_000)
        meter.handleHeartbeatSent(sequence: 1, atMilliseconds: 9_000)
        meter.handleHeartbeatSeen(sequence: 1, atMilliseconds: 9_010)
        for now in [Int64](arrayLiteral: 10_000, 40_000) { meter.handleStreaming(false, atMilliseconds: now) }
        // Not even where nothing is known to have come since.
        #expect(meter.isStanding && meter.lagSeconds(atMilliseconds: 70_000) == 60 && meter.etaSeconds == nil)
        meter.handleStreaming(true, atMilliseconds: 70_000)
        #expect(!meter.isStanding && meter.lagSeconds(atMilliseconds: 70_000) == 0.01)
    }

    @Test func aHeartbeatNobodySentChangesNothing() {
        var meter = LagMeter()
        meter.handleHeartbeatSeen(sequence: 77, atMilliseconds: 10)
        #expect(meter.lagSeconds(atMilliseconds: 20) == nil)
    }

    @Test func aBacklogIsAsOldAsWhatTheTargetShows() {
        var meter = LagMeter()
        let second: Int64 = 1_000_000
        // Where the clocks of worker and source stand does not matter.
        meter.handleSourceClock(PostgresTime(microseconds: 5_000 * second), atMilliseconds: 100)
        meter.handleStreamStart(shown: PostgresTime(microseconds: 1_000 * second))
        #expect(meter.lagSeconds(atMilliseconds: 100) == 4_000)
        meter.handleApplied(PostgresTime(microseconds: 3_000 * second))
        // One that was sent and seen on the way says nothing about what is still to come.
        meter.handleHeartbeatSent(sequence: 1, atMilliseconds: 1_000)
        meter.handleHeartbeatSeen(sequence: 1, atMilliseconds: 1_100)
        #expect(meter.lagSeconds(atMilliseconds: 1_100) == 2_001)
        meter.handleCaughtUp()
        #expect(meter.lagSeconds(atMilliseconds: 1_100) == 0.1)
    }

    @Test func heartbeatsOfAnEarlierStreamStayOnTheirWay() {
        var meter = LagMeter()
        meter.handleHeartbeatSent(sequence: 1, atMilliseconds: 0)
        meter.handleStreamStart(shown: nil)
        #expect(meter.lagSeconds(atMilliseconds: 90_000) == 90)
    }

    @Test func aClockThatGoesBackGivesNoNegativeLag() {
        var meter = LagMeter()
        meter.handleHeartbeatSent(sequence: 1, atMilliseconds: 1_000)
        #expect(meter.lagSeconds(atMilliseconds: 400) == 0)
        meter.handleHeartbeatSeen(sequence: 1, atMilliseconds: 400)
        #expect(meter.endToEndMilliseconds(at: 0.5) == 0)
    }

    @Test func percentilesAreThoseOfTheRecentHeartbeats() {
        var meter = LagMeter()
        for number in 1...(LagMeter.sampleLimit + 100) {
            // The first hundred are slow, and have left the window at the end.
            let latency: Int64 = number <= 100 ? 9_000 : Int64(number % 100 + 1)
            meter.handleHeartbeatSent(sequence: Int64(number), atMilliseconds: 0)
            meter.handleHeartbeatSeen(sequence: Int64(number), atMilliseconds: latency)
        }
        // 1,024 samples: 1 ten times, 2 to 25 eleven times, 26 to 100 ten times.
        let percentiles = [0.5, 0.95, 0.99, 1].map { meter.endToEndMilliseconds(at: $0) }
        #expect(percentiles == [49, 95, 99, 100])
    }

    @Test func lagBytesAreNeverNegative() {
        var meter = LagMeter()
        meter.handlePositions(sourceLSN: LSN(50), appliedLSN: LSN(80), atMilliseconds: 0)
        #expect(meter.lagBytes == 0)
        meter.handlePositions(sourceLSN: LSN(180), appliedLSN: LSN(80), atMilliseconds: 1_000)
        #expect(meter.lagBytes == 100)
    }

    @Test func etaFollowsAShrinkingLagAndIsUnknownForAGrowingOne() throws {
        var meter = LagMeter()
        for second in 0..<30 {
            meter.handlePositions(
                sourceLSN: LSN(1_000_000), appliedLSN: LSN(UInt64(second) * 10_000),
                atMilliseconds: Int64(second) * 1_000)
        }
        let eta = try #require(meter.etaSeconds)
        #expect(abs(eta - 71) < 1)
        for second in 30..<60 {
            meter.handlePositions(
                sourceLSN: LSN(UInt64(second) * 1_000_000), appliedLSN: LSN(290_000),
                atMilliseconds: Int64(second) * 1_000)
        }
        #expect(meter.etaSeconds == nil)
    }

    @Test func rowsPerSecondSettlesOnTheRateAndFallsToZero() {
        var meter = LagMeter()
        for second in 0...30 { meter.handleRows(total: second * 500, atMilliseconds: Int64(second) * 1_000) }
        #expect(abs(meter.rowsPerSecond - 500) < 1)
        for second in 31...60 { meter.handleRows(total: 15_000, atMilliseconds: Int64(second) * 1_000) }
        #expect(meter.rowsPerSecond < 1)
    }
}
