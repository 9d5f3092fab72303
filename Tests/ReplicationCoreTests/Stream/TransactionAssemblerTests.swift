import Testing

@testable import ReplicationCore

@Suite struct TransactionAssemblerTests {
    @Test func wholeTransactionsAreTakenTogether() throws {
        var script = StreamScript()
        try script.table(1, "Reservas", key: ["id"], columns: ["id", "phone"])
        try script.begin(xid: 7)
        try script.insert(1, ["a", "1"])
        try script.commit()
        try script.begin(xid: 8)
        try script.update(1, ["a", "2"])
        let end = try script.commit()

        let chunk = try script.take()
        #expect(chunk.transactions.map(\.xid) == [7, 8])
        #expect(chunk.transactions.map(\.changes) == [0..<1, 1..<2])
        #expect(chunk.endLSN == end)
        #expect(!chunk.isOpenEnded)
        #expect(throws: StreamScript.NothingToTake.self) { try script.take() }
    }

    @Test func unfinishedTransactionStaysWithItsValues() throws {
        var script = StreamScript()
        try script.table(1, "Reservas", key: ["id"], columns: ["id", "phone"])
        try script.begin(xid: 7)
        try script.insert(1, ["first", "1"])
        try script.commit()
        try script.begin(xid: 8)
        try script.insert(1, ["second", StreamScript.null])
        try script.delete(1, ["third", StreamScript.null])

        let first = try script.take()
        #expect(first.transactions.map(\.xid) == [7])
        #expect(first.changes.count == 1)
        #expect(first.arena.cells.count == 2)
        #expect(throws: StreamScript.NothingToTake.self) { try script.take() }

        try script.update(1, ["fourth", "4"])
        try script.commit()
        let second = try script.take()
        #expect(second.transactions.map(\.changes) == [0..<3])
        #expect(second.words(second.changes[0].new) == ["second", StreamScript.null])
        #expect(second.words(second.changes[1].old) == ["third", StreamScript.null])
        #expect(second.words(second.changes[2].new) == ["fourth", "4"])
    }

    /// By what it was, one byte of a row might hold any number of cells, and of changes.
    @Test func roomIsMadeForNoMoreThanCanCome() throws {
        var script = StreamScript()
        try script.table(1, "Reservas", key: ["id"], columns: ["id"])
        try script.table(2, "Leads", key: [], columns: [])
        try script.begin()
        for _ in 0..<1_000 { try script.insert(2, []) }
        try script.insert(1, ["x"])
        try script.commit()
        let first = try script.take()
        #expect(first.changes.count == 1_001)

        script.assembler.reserve(bytes: 1_000, messages: 3)
        let changeBytes = MemoryLayout<Change>.stride
        #expect(script.assembler.sizeBytes >= 1_000)
        #expect(script.assembler.sizeBytes < 2 * (1_000 * (1 + MemoryLayout<Cell>.stride)) + 3 * changeBytes)
        try script.begin()
        for _ in 0..<1_000 { try script.insert(2, []) }
        try script.insert(1, ["a"])
        try script.commit()
        let second = try script.take()
        #expect(second.changes.count == 1_001)
        #expect(second.words(second.changes[1_000].new) == ["a"])
    }

    @Test func truncationsInTheTailKeepTheirTables() throws {
        var script = StreamScript()
        try script.table(1, "Reservas", key: ["id"], columns: ["id"])
        try script.table(2, "Leads", key: ["id"], columns: ["id"])
        try script.begin()
        try script.assembler.handle(.truncate(relations: [1], cascade: false, restartIdentity: false, xid: nil))
        try script.commit()
        try script.begin()
        try script.assembler.handle(.truncate(relations: [2, 1], cascade: true, restartIdentity: true, xid: nil))
        let first = try script.take()
        #expect(first.truncations.map(\.relations) == [[0]])
        try script.commit()
        let second = try script.take()
        #expect(second.truncations == [Truncation(relations: [1, 0], cascades: true, restartsIdentity: true)])
        #expect(second.changes[0].relation == 0)
    }

    @Test func largeTransactionIsCutAndEndsWithItsCommit() throws {
        var script = StreamScript(cutBytes: 200)
        try script.table(1, "Reservas", key: ["id"], columns: ["id"])
        try script.begin(xid: 9)
        for number in 0..<20 { try script.insert(1, ["row \(number)"]) }
        let piece = try script.take()
        #expect(piece.isOpenEnded)
        #expect(piece.transactions.map(\.changes) == [0..<20])
        #expect(piece.endLSN == .zero)

        try script.insert(1, ["last"])
        let end = try script.commit()
        let rest = try script.take()
        #expect(!rest.isOpenEnded)
        #expect(rest.transactions.map(\.changes) == [0..<1])
        #expect(rest.words(rest.changes[0].new) == ["last"])
        #expect(rest.endLSN == end)
    }

    @Test func idlePositionMovesOnlyBetweenTransactions() throws {
        var script = StreamScript()
        script.assembler.handleIdle(at: LSN(0x5000))
        let idle = try script.take()
        #expect(idle.endLSN == LSN(0x5000))
        try script.begin()
        script.assembler.handleIdle(at: LSN(0x6000))
        #expect(throws: StreamScript.NothingToTake.self) { try script.take() }
    }

    @Test func redefinedTableKeepsOldChangesOnTheOldDefinition() throws {
        var script = StreamScript()
        try script.table(1, "Reservas", key: ["id"], columns: ["id"])
        try script.begin()
        try script.insert(1, ["a"])
        try script.table(1, "Reservas", key: ["id"], columns: ["id", "phone"])
        try script.insert(1, ["b", "1"])
        try script.table(1, "Reservas", key: ["id"], columns: ["id", "phone"])
        try script.insert(1, ["c", "2"])
        try script.commit()
        let chunk = try script.take()
        #expect(chunk.changes.map(\.relation) == [0, 1, 1])
        #expect(chunk.relations.definitions.map(\.columns.count) == [1, 2])
    }

    @Test func definitionsThatNoChangeUsesAreForgotten() throws {
        var script = StreamScript()
        for round in 0..<50 {
            // Altered each time, and a table that is dropped and made again.
            try script.table(1, "Reservas", key: ["id"], columns: ["id", "c\(round)"])
            try script.table(UInt32(100 + round), "scratch", key: ["id"], columns: ["id"])
            try script.begin()
            try script.insert(1, ["a", "b"])
            try script.insert(UInt32(100 + round), ["a"])
            try script.commit()
            let chunk = try script.take()
            #expect(chunk.changes.map(\.relation) == [2 * round, 2 * round + 1])
            #expect(chunk.relations[2 * round]?.columns.last?.name == "c\(round)")
            #expect(chunk.relations.count <= 4)
        }
    }

    @Test func renamedTableLivesOnUnderItsNewName() throws {
        var script = StreamScript()
        try script.table(1, "a", key: ["id"], columns: ["id"])
        try script.table(1, "b", key: ["id"], columns: ["id"])
        try script.table(2, "a", key: ["id"], columns: ["id"])
        try script.begin()
        try script.insert(1, ["x"])
        try script.insert(2, ["y"])
        try script.commit()
        let chunk = try script.take()
        #expect(chunk.changes.map { chunk.relations[$0.relation]?.name.name } == ["b", "a"])
    }

    @Test func changesWithoutValuesAreCutToo() throws {
        var script = StreamScript(cutBytes: 64 << 10)
        try script.table(1, "empty", key: [], columns: [])
        try script.begin()
        for _ in 0..<10_000 { try script.insert(1, []) }
        let piece = try script.take()
        #expect(piece.isOpenEnded)
        #expect(piece.changes.count == 10_000)
        for _ in 0..<10_000 {
            try script.assembler.handle(.truncate(relations: [1], cascade: false, restartIdentity: false, xid: nil))
        }
        let truncations = try script.take()
        #expect(truncations.truncations.count == 10_000)
        try script.commit()
        _ = try script.take()
    }

    @Test func brokenStreamsAreRefused() throws {
        var script = StreamScript()
        #expect(throws: StreamError.unknownRelation(4)) { try script.insert(4, []) }
        try script.table(1, "Reservas", key: ["id"], columns: ["id"])
        #expect(throws: StreamError.self) { try script.insert(1, ["outside"]) }
        #expect(throws: StreamError.self) { try script.commit() }
        try script.begin()
        #expect(throws: StreamError.self) { try script.begin() }
        #expect(throws: StreamError.self) { try script.insert(1, ["one", "too many"]) }
    }

    @Test func heartbeatIsRecognised() throws {
        var script = StreamScript()
        try script.begin()
        let content = Array(Heartbeat.content(sequence: 3, worker: "w1").utf8)
        try script.assembler.handle(
            .message(
                transactional: true, lsn: LSN(0x42), prefix: Heartbeat.messagePrefix, content: content, xid: nil))
        try script.commit()
        let taken = try script.take()
        let beat = try #require(taken.heartbeat)
        #expect(beat.sequence == 3)
        #expect(beat.worker == "w1")
        #expect(beat.sourceLSN == LSN(0x42))
    }
}
