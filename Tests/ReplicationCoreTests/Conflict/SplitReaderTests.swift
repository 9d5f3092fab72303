import Testing

@testable import ReplicationCore

@Suite struct SplitReaderTests {
    private static let own = "lindero_into_bot"

    private func reader(
        outgoing: SplitProgress = SplitProgress(), incoming: SplitProgress = SplitProgress()
    ) -> SplitReader {
        SplitReader.restart(
            ownOrigin: Self.own, outgoing: outgoing, incoming: incoming,
            tableIDs: [SimulatedRow.ownership.table: 0],
            historyLimitBytes: 1 << 20, storage: .memory())
    }

    private func transaction(
        _ lsn: UInt64, at time: Int64, origin: String? = nil, notes: [SplitNote]? = nil,
        _ changes: [SimulatedChange]
    ) -> ChangeChunk {
        SimulatedTransaction(
            commitLSN: LSN(lsn), endLSN: LSN(lsn + 8), commitTime: time, origin: origin,
            notes: notes.map { [SplitNote.encode($0)] } ?? [], changes: changes
        ).chunk
    }

    private func applied(_ lsn: UInt64, at time: Int64) -> SplitNote {
        .applied(CausalContext(lsn: LSN(lsn), time: PostgresTime(microseconds: time)))
    }

    private let insert = SplitMeeting.insert(SplitMeeting.row(1))

    private func read(
        _ reader: inout SplitReader, _ chunk: ChangeChunk, echoes: Bool = false
    ) throws -> [SplitTransaction] {
        let layouts = try SimulatedRow.layouts(echoesInserts: echoes)
        return try reader.read(chunk) { _ in layouts[0] }
    }

    @Test func whatWeAppliedIsNotSentBack() throws {
        var reader = reader()
        let sent = try read(
            &reader, transaction(100, at: 5, origin: Self.own, notes: [applied(50, at: 4)], [insert]))
        #expect(sent.isEmpty)
        #expect(reader.position?.appliedLSN == LSN(108))
    }

    /// A heartbeat in there would else record a position that lies behind what is applied: applied again after a kill.
    @Test func whileAppliedTransactionsAreReadAgainThereIsNoPositionToRecord() throws {
        var reader = reader(
            outgoing: SplitProgress(appliedLSN: LSN(128)),
            incoming: SplitProgress(appliedLSN: LSN(7), context: CausalContext(lsn: LSN(100))))
        #expect(reader.startLSN == LSN(100) && reader.position == nil)
        #expect(try read(&reader, transaction(100, at: 5, [insert])).isEmpty)
        #expect(reader.position == nil && !reader.isInTransaction)
        #expect(try read(&reader, transaction(120, at: 6, [insert])).isEmpty)
        #expect(reader.position?.appliedLSN == LSN(128))
    }

    /// The key was noted while its column was of another type, or the stream of another form.
    @Test func ofACreatedRowThatIsNotFoundAllTravelsBack() throws {
        func sent(_ key: [UInt8]) throws -> [Int] {
            var reader = reader()
            let note = SplitNote.created(table: SimulatedRow.ownership.table, key: key)
            let changes = [insert, SplitMeeting.insert(SplitMeeting.row(2))]
            return try read(&reader, transaction(100, at: 5, origin: Self.own, notes: [applied(50, at: 4), note], changes))
                .map(\.operations.count)
        }
        #expect(try sent([1, 0, 0, 0, 2, 0, 1]) == [1])
        #expect(try sent([1, 0, 0, 0, 1, 49]) == [2])
    }

    @Test func anotherOriginCountsAsLocal() throws {
        var reader = reader()
        let sent = try read(&reader, transaction(100, at: 5, origin: "elsewhere", [insert]))
        #expect(sent.map(\.operations.count) == [1])
        #expect(!reader.history.isEmpty)
    }

    /// Its second piece does not say again what the first one said.
    @Test func aMendedRowIsNobodysWrite() throws {
        var reader = reader()
        var piece = transaction(100, at: 5, notes: [.mended], [insert, SplitMeeting.update(SplitMeeting.row(1), SplitMeeting.row(1, [8: 1]))])
        let whole = piece
        piece.transactions[0].changes = 0..<1
        piece.transactions[0].endLSN = .zero
        piece.endLSN = .zero
        #expect(try read(&reader, piece).isEmpty)
        piece = whole
        piece.transactions[0].changes = 1..<2
        piece.transactions[0].precedingCount = 1
        piece.transactions[0].notes = []
        #expect(try read(&reader, piece).isEmpty)
        #expect(reader.history.isEmpty && reader.position?.appliedLSN == LSN(108))
        // The next transaction is the service's own again.
        #expect(try read(&reader, transaction(120, at: 6, [insert])).map(\.operations.count) == [1])
    }

    @Test func aWriteIsLaterThanAllThatItsDatabaseHad() throws {
        var reader = reader()
        _ = try read(&reader, transaction(100, at: 5, origin: Self.own, notes: [applied(50, at: 900)], []))
        let sent = try read(&reader, transaction(120, at: 6, [insert]))
        #expect(sent.map(\.effectiveTime.microseconds) == [901])
        #expect(sent.map(\.context.lsn) == [LSN(50)])
        #expect(sent.map(\.commitTime.microseconds) == [6])
    }

    @Test func whatIsAppliedIsReadAgainForTheHistoryAlone() throws {
        var reader = reader(
            outgoing: SplitProgress(appliedLSN: LSN(200), time: PostgresTime(microseconds: 40)),
            incoming: SplitProgress(
                context: CausalContext(lsn: LSN(110), time: PostgresTime(microseconds: 30))))
        #expect(reader.startLSN == LSN(110))
        #expect(try read(&reader, transaction(120, at: 1, [insert])).isEmpty)
        #expect(!reader.history.isEmpty)
        let sent = try read(
            &reader,
            transaction(200, at: 1, [SplitMeeting.update(SplitMeeting.row(1), SplitMeeting.row(1, [1: 2]))]))
        // The clock went on from where the history begins: 31, then 32.
        #expect(sent.map(\.effectiveTime.microseconds) == [32])
    }

    @Test func valuesOfOwnColumnsInNewRowsTravelBack() throws {
        var reader = reader()
        let sent = try read(
            &reader, transaction(100, at: 5, origin: Self.own, notes: [applied(50, at: 4)], [insert]),
            echoes: true)
        #expect(sent.first?.operations.map(\.kind) == [.echo])
        // The row came and went in one transaction: nothing of it is left to tell.
        let gone = try read(
            &reader,
            transaction(
                120, at: 5, origin: Self.own, notes: [applied(60, at: 4)],
                [insert, SplitMeeting.delete(SplitMeeting.row(1))]), echoes: true)
        #expect(gone.isEmpty)
    }

    @Test func piecesOfATransactionHaveOneTimeAndTheLastEndsIt() throws {
        var reader = reader()
        var piece = transaction(
            100, at: 5, [insert, SplitMeeting.update(SplitMeeting.row(1), SplitMeeting.row(1))])
        let whole = piece
        piece.transactions[0].changes = 0..<1
        piece.transactions[0].endLSN = .zero
        piece.endLSN = .zero
        let first = try read(&reader, piece)
        #expect(first.map(\.progress) == [nil])
        #expect(reader.position == nil)
        piece = whole
        piece.transactions[0].changes = 1..<2
        piece.transactions[0].precedingCount = 1
        let last = try read(&reader, piece)
        // Nothing of the second piece travels, and it ends the transaction nevertheless.
        #expect(last.map(\.operations.count) == [0])
        #expect(last.map(\.progress?.appliedLSN) == [LSN(108)])
        #expect(first.map(\.effectiveTime) == last.map(\.effectiveTime))
    }

    /// A partition's own identity, where the definition of its table says FULL.
    @Test(arguments: [nil, OldTuple.Kind.key])
    func anUpdateWithoutTheOldRowIsRefusedThoughTheDefinitionPromisesIt(kind: OldTuple.Kind?) throws {
        let row = SplitMeeting.row(1)
        var chunk = transaction(100, at: 5, [SplitMeeting.update(row, SplitMeeting.row(1, [8: 1]))])
        chunk.changes[0] = Change(
            kind: .update, relation: 0, old: kind.map { OldTuple(kind: $0, tuple: chunk.changes[0].old) },
            new: chunk.changes[0].new)
        var reader = reader()
        #expect(throws: SplitError.needsFullIdentity(SimulatedRow.ownership.table)) { try read(&reader, chunk) }
        // What our own direction wrote needs no deciding.
        chunk.transactions[0].origin = Self.own
        #expect(try read(&reader, chunk).isEmpty)
    }

    @Test func aDeleteThatDoesNotTellTheMatchKeyIsRefused() throws {
        var chunk = transaction(100, at: 5, [SplitMeeting.delete(SplitMeeting.row(1))])
        chunk.changes[0] = Change(
            kind: .delete, relation: 0, old: OldTuple(kind: .key, tuple: chunk.changes[0].old),
            new: chunk.changes[0].new)
        var told = reader()
        #expect(try read(&told, chunk).map(\.operations.count) == [1])
        chunk.arena.cells[chunk.changes[0].old.firstCell + SimulatedRow.key].kind = .null
        var reader = reader()
        #expect(throws: SplitError.needsFullIdentity(SimulatedRow.ownership.table)) { try read(&reader, chunk) }
    }

    @Test func truncateIsRefusedUnlessOurs() throws {
        var chunk = transaction(100, at: 5, [insert])
        chunk.truncations = [Truncation(relations: [0], cascades: false, restartsIdentity: false)]
        chunk.changes = [Change(kind: .truncate, relation: 0)]
        var reader = reader()
        #expect(throws: SplitError.truncated(SimulatedRow.ownership.table)) { try read(&reader, chunk) }
    }

    @Test func notesReachTheReaderThroughTheAssembler() throws {
        var assembler = TransactionAssembler()
        let time = PostgresTime(microseconds: 3)
        try assembler.handle(.begin(finalLSN: LSN(100), commitTime: time, xid: 1))
        try assembler.handle(.origin(originLSN: .zero, name: Self.own))
        try assembler.handle(
            .message(
                transactional: true, lsn: LSN(90), prefix: SplitNote.messagePrefix,
                content: SplitNote.encode([applied(77, at: 9)]), xid: nil))
        try assembler.handle(.commit(commitLSN: LSN(100), endLSN: LSN(108), commitTime: time))
        var reader = reader()
        let taken = assembler.take()
        let chunk = try #require(taken)
        _ = try reader.read(chunk) { _ in nil }
        #expect(reader.position?.context == CausalContext(lsn: LSN(77), time: PostgresTime(microseconds: 9)))
    }
}
