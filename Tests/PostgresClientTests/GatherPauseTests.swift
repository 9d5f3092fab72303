import Testing

@testable import PostgresClient

struct GatherPauseTests {
    /// A sender of small messages that waits once its socket is full.
    private struct Sender {
        var messagesPerMicrosecond: Double
        var messageBytes = 100
        /// What the kernel lets it have on its way.
        let socketBytes = 208 << 10

        /// What has gathered after a pause.
        func messages(after nanoseconds: Int) -> Int {
            min(Int(Double(nanoseconds) / 1_000 * messagesPerMicrosecond), socketBytes / (messageBytes + 600))
        }
    }

    /// The pauses that a reader makes, in microseconds.
    private func pauses(_ sender: Sender, _ count: Int) -> [Int] {
        var pause = GatherPause()
        return (0..<count).map { _ in
            let messages = sender.messages(after: pause.nanoseconds)
            pause.note(messages: messages, bytes: messages * sender.messageBytes)
            return pause.nanoseconds / 1_000
        }
    }

    @Test func aSenderOfManySmallMessagesDoesNotComeToWait() {
        let fast = Sender(messagesPerMicrosecond: 0.4)
        let last = pauses(fast, 20)[15...]
        #expect(last.allSatisfy { (420...500).contains($0) }, "\(last)")
    }

    @Test func aSocketThatIsFullIsReadTwiceAsSoon() {
        let flood = Sender(messagesPerMicrosecond: 2)
        let all = pauses(flood, 6)
        #expect(all[0] < 400)
        #expect(all.last == 150, "\(all)")
    }

    @Test func largeMessagesCountByTheirBytes() {
        let last = pauses(Sender(messagesPerMicrosecond: 0.04, messageBytes: 10_000), 20)[15...]
        #expect(last.allSatisfy { (250...350).contains($0) }, "\(last)")
    }

    @Test func aSlowSenderIsReadAsSeldomAsBefore() {
        #expect(pauses(Sender(messagesPerMicrosecond: 0.05), 10).allSatisfy { $0 == 600 })
    }

    @Test func oneFloodIsForgotten() {
        var pause = GatherPause()
        pause.note(messages: 300, bytes: 30_000)
        let short = pause.nanoseconds
        for _ in 0..<5 { pause.note(messages: 10, bytes: 1_000) }
        #expect(short < 400_000 && pause.nanoseconds == 600_000)
        // Nothing has come: no division by it.
        pause.note(messages: 0, bytes: 0)
        #expect(pause.nanoseconds == 600_000)
    }
}
