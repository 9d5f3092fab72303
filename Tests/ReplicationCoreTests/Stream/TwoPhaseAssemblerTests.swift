import Testing

@testable import ReplicationCore

/// Steps of prepared transactions stand in chunks of their own, in the stream's order.
@Suite struct TwoPhaseAssemblerTests {
    private let time = PostgresTime(microseconds: 1)

    private func script(cutBytes: Int = 4 << 20) throws -> StreamScript {
        var script = StreamScript(cutBytes: cutBytes)
        try script.table(1, "t", key: ["id"], columns: ["id", "v"])
        return script
    }

    private func begin(_ xid: UInt32, _ lsn: UInt64, _ script: inout StreamScript) throws {
        try script.assembler.handle(
            .beginPrepare(prepareLSN: LSN(lsn), endLSN: LSN(lsn + 8), prepareTime: time, xid: xid, gid: "g"))
    }

    private func prepare(_ xid: UInt32, _ lsn: UInt64, _ script: inout StreamScript) throws {
        try script.assembler.handle(
            .prepare(prepareLSN: LSN(lsn), endLSN: LSN(lsn + 8), prepareTime: time, xid: xid, gid: "g"))
    }

    @Test func everyStepIsAChunkOfItsOwn() throws {
        var script = try script()
        try script.begin(xid: 7)
        try script.insert(1, ["a", "1"])
        try script.commit()
        try begin(8, 0x2000, &script)
        try script.insert(1, ["b", "2"])
        try prepare(8, 0x2000, &script)
        try script.begin(xid: 9)
        try script.insert(1, ["c", "3"])
        try script.commit()
        try script.assembler.handle(
            .commitPrepared(commitLSN: LSN(0x3000), endLSN: LSN(0x3008), commitTime: time, xid: 8, gid: "g"))
        try script.assembler.handle(
            .rollbackPrepared(
                prepareEndLSN: LSN(0x2500), rollbackEndLSN: LSN(0x3108), prepareTime: time, rollbackTime: time, xid: 10, gid: "h"))
        var chunks: [ChangeChunk] = []
        while let chunk = script.assembler.take() { chunks.append(chunk) }
        #expect(chunks.map { $0.transactions.map(\.xid) } == [[7], [8], [9], [8], [10]])
        #expect(chunks.map { $0.twoPhase?.twoPhase } == [nil, .prepare(endLSN: LSN(0x2008)), nil, .commit, .rollback])
        #expect(chunks[1].words(chunks[1].changes[0].new) == ["b", "2"])
        #expect(chunks[3].changes.isEmpty && chunks[3].endLSN == LSN(0x3008) && chunks[4].endLSN == LSN(0x3108))
        let open = chunks.count(where: \.isOpenEnded)
        #expect(open == 0)
    }

    @Test func largeOneComesInPiecesThatSayWhoseTheyAre() throws {
        var script = try script(cutBytes: 1_000)
        try begin(8, 0x2000, &script)
        var pieces: [ChangeChunk] = []
        for number in 0..<100 {
            try script.insert(1, ["\(number)", String(repeating: "x", count: 50)])
            while let piece = script.assembler.take() { pieces.append(piece) }
        }
        #expect(pieces.count > 2 && pieces.allSatisfy { $0.isOpenEnded && $0.twoPhase?.xid == 8 })
        try prepare(8, 0x2000, &script)
        let last = try script.take()
        #expect(!last.isOpenEnded && last.endLSN == LSN(0x2008) && last.twoPhase?.twoPhase == .prepare(endLSN: LSN(0x2008)))
        #expect(pieces.reduce(last.changes.count) { $0 + $1.changes.count } == 100)
    }

    @Test func stepsOutOfOrderAreRefused() throws {
        var script = try script()
        #expect(throws: StreamError.self) { try prepare(8, 0x2000, &script) }
        try begin(8, 0x2000, &script)
        #expect(throws: StreamError.self) { try prepare(8, 0x2100, &script) }
        #expect(throws: StreamError.self) { try begin(9, 0x2200, &script) }
        #expect(throws: StreamError.self) {
            try script.assembler.handle(
                .commitPrepared(commitLSN: LSN(0x3000), endLSN: LSN(0x3008), commitTime: time, xid: 7, gid: "g"))
        }
    }
}
