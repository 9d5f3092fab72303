import Testing

@testable import ReplicationCore

@Suite struct ReplicationFrameTests {
    private let walData: [UInt8] =
        [0x77] + [0, 0, 0, 1, 0, 0, 0, 2] + [0, 0, 0, 1, 0, 0, 0, 3] + [0, 0, 0, 0, 0, 0, 0, 9] + [
            0x42, 0x43,
        ]
    private let keepalive: [UInt8] = [0x6B] + [0, 0, 0, 1, 0, 0, 0, 2] + [0, 0, 0, 0, 0, 0, 0, 7] + [1]

    @Test func walDataPointsAtItsPayload() throws {
        let frame = try ReplicationFrame([0xFF, 0xFF] + walData + [0xFF], 2..<(2 + walData.count))
        let expected = ReplicationFrame.xLogData(
            startLSN: LSN(0x1_0000_0002), endLSN: LSN(0x1_0000_0003), sentAt: PostgresTime(microseconds: 9),
            payload: 27..<29)
        #expect(frame == expected)
    }

    @Test func keepaliveTellsWhetherAnAnswerIsWanted() throws {
        let expected = ReplicationFrame.keepalive(
            endLSN: LSN(0x1_0000_0002), sentAt: PostgresTime(microseconds: 7), replyRequested: true)
        #expect(try ReplicationFrame(keepalive, keepalive.indices) == expected)
    }

    @Test func everyTruncationThrows() {
        for length in 0..<25 {
            #expect(throws: WireError.self) { try ReplicationFrame(walData, 0..<length) }
        }
        for length in 0..<keepalive.count {
            #expect(throws: WireError.self) { try ReplicationFrame(keepalive, 0..<length) }
        }
    }

    @Test func trailingBytesAndUnknownKindsThrow() {
        #expect(throws: WireError.trailingBytes(message: 0x6B, count: 1)) {
            try ReplicationFrame(keepalive + [0], 0..<(keepalive.count + 1))
        }
        #expect(throws: WireError.unknownMessage(0x7A)) { try ReplicationFrame([0x7A], 0..<1) }
    }

    @Test func aRangeBeyondTheBytesThrows() {
        #expect(throws: WireError.self) { try ReplicationFrame(keepalive, 0..<(keepalive.count + 1)) }
    }
}
