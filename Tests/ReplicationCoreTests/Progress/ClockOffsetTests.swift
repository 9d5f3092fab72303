import ReplicationCore
import Testing

/// Two servers' clocks, compared through a network that delays both ways as it likes.
@Suite struct ClockOffsetTests {
    @Test func theTruthLiesWithinTheBoundWhateverTheNetworkDoes() {
        var generator = SplitMix(state: 20_261_125)
        for round in 0..<2_000 {
            let offsets = [Int64.random(in: -900_000_000...900_000_000, using: &generator), Int64.random(in: -5_000...5_000, using: &generator)]
            var estimates = [ClockEstimate(), ClockEstimate()]
            var now: Int64 = 0
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                for side in 0...1 {
                    let sentAt = now
                    now += Int64.random(in: 0...40_000, using: &generator)
                    let server = now + offsets[side]
                    // Answers may come back far slower than the questions went.
                    now += Int64.random(in: 0...900_000, using: &generator)
                    estimates[side].add(server: server, sentAt: sentAt, receivedAt: now)
                }
            }
            guard let found = ClockOffset(of: estimates[1], over: estimates[0]) else {
                Issue.record("seed 20261125 round \(round): no offset")
                return
            }
            let truth = offsets[1] - offsets[0]
            #expect(abs(found.microseconds - truth) <= found.errorMicroseconds, "seed 20261125 round \(round)")
        }
    }

    @Test func theQuickestAnswerCounts() {
        var estimate = ClockEstimate()
        #expect(estimate.errorMicroseconds == nil)
        estimate.add(server: 5_000, sentAt: 0, receivedAt: 1_000)
        estimate.add(server: 7_000, sentAt: 2_000, receivedAt: 2_201)
        estimate.add(server: 9_000, sentAt: 3_000, receivedAt: 3_900)
        #expect(estimate.offsetMicroseconds == 7_000 - 2_100)
        #expect(estimate.errorMicroseconds == 101)
        // A clock that went backwards measures nothing.
        estimate.add(server: 0, sentAt: 10, receivedAt: 9)
        #expect(estimate.errorMicroseconds == 101)
        #expect(ClockOffset(of: estimate, over: ClockEstimate()) == nil)
    }

    @Test func aLimitIsPastOnlyWhenThatIsSure() {
        func verdict(_ microseconds: Int64, _ error: Int64) -> ClockOffset.Verdict {
            ClockOffset(microseconds: microseconds, errorMicroseconds: error).verdict(limitMilliseconds: 250)
        }
        #expect(verdict(250_000, 0) == .within)
        #expect(verdict(-250_001, 0) == .past)
        #expect(verdict(249_000, 2_000) == .unclear)
        #expect(verdict(252_000, 2_000) == .unclear)
        #expect(verdict(252_001, 2_000) == .past)
        #expect(verdict(0, 300_000) == .unclear)
        #expect(verdict(.min, 0) == .past)
    }

    @Test func statusSaysWhoIsAhead() {
        let behind = ClockOffset(microseconds: -3_240, errorMicroseconds: 410)
        let status = ClockStatus(source: "bot", target: "sync", offset: behind, limitMilliseconds: 250)
        #expect(status.words == "sync's clock is 3.2 ms behind bot's (± 0.4 ms), limit 250 ms")
        let ahead = ClockOffset(microseconds: 300_000, errorMicroseconds: 1_000)
        #expect(ClockStatus(source: "bot", target: "sync", offset: ahead, limitMilliseconds: 250).isPast == true)
        let vague = ClockOffset(microseconds: 0, errorMicroseconds: 900_000)
        #expect(ClockStatus(source: "bot", target: "sync", offset: vague, limitMilliseconds: 250).isPast == nil)
    }
}
