import Testing

@testable import ReplicationCore

@Suite struct SplitChunkCodingTests {
    private static let own = "lindero_into_bot"

    /// Local changes of every kind, then rows that our own direction made, which travel back.
    private func chunk() throws -> (ChangeChunk, [SplitTransaction], SplitTable) {
        let table = try SimulatedRow.layouts(echoesInserts: true)[0]
        let row = SplitMeeting.row(1, [1: 7])
        let local = SimulatedTransaction(
            commitLSN: LSN(100), endLSN: LSN(108), commitTime: 5, origin: nil, notes: [],
            changes: [
                SplitMeeting.insert(row), SplitMeeting.update(row, SplitMeeting.row(1, [SimulatedRow.max: 9])),
                SplitMeeting.update(row, SplitMeeting.row(2)), SplitMeeting.delete(SplitMeeting.row(2)),
            ]
        ).chunk
        var reader = SplitReader.restart(
            ownOrigin: Self.own, outgoing: SplitProgress(), incoming: SplitProgress(), tableIDs: [table.name: 0],
            historyLimitBytes: 1 << 20, storage: .memory())
        let transactions = try reader.read(local) { _ in table }
        return (local, transactions, table)
    }

    @Test func whatIsReadBackIsWhatWasWritten() throws {
        let (chunk, transactions, table) = try chunk()
        let bytes = SplitChunkCoding.join([SplitChunkCoding.encode(chunk, transactions), SplitChunkCoding.encode(chunk, [])])
        let ranges = try SplitChunkCoding.split(bytes, 0..<bytes.count)
        #expect(ranges.count == 2)
        let read = try SplitChunkCoding.decode(bytes, ranges[0], relations: chunk.relations) { _ in table }
        #expect(read.transactions == transactions)
        #expect(read.transactions.first?.operations.map(\.kind).count == 4)
        #expect(read.chunk.arena.bytes == chunk.arena.bytes && read.chunk.arena.cells == chunk.arena.cells)
        #expect(read.chunk.changes == chunk.changes)
        #expect(read.chunk.transactions[0].xid == chunk.transactions[0].xid)
    }

    @Test func whatNeedNotBeAppliedIsLeftOutAndNothingElse() throws {
        let table = try SimulatedRow.layouts(echoesInserts: true)[0]
        let row = SplitMeeting.row(1, [SimulatedRow.max: 3, SimulatedRow.delta: 4])
        var empty = row
        empty[SimulatedRow.max] = nil
        let changes = [
            SplitMeeting.update(row, SplitMeeting.row(1, [SimulatedRow.max: 9, SimulatedRow.delta: 4])),
            SplitMeeting.update(row, SplitMeeting.row(1, [SimulatedRow.max: 3, SimulatedRow.delta: 6])),
            SplitMeeting.update(row, SplitMeeting.row(2, [SimulatedRow.max: 3, SimulatedRow.delta: 4])),
            SplitMeeting.update(row, empty),
        ]
        let chunk = SimulatedTransaction(
            commitLSN: LSN(100), endLSN: LSN(108), commitTime: 5, origin: nil, notes: [], changes: changes
        ).chunk
        var reader = SplitReader.restart(
            ownOrigin: Self.own, outgoing: SplitProgress(), incoming: SplitProgress(), tableIDs: [table.name: 0],
            historyLimitBytes: 1 << 20, storage: .memory())
        let whole = try reader.read(chunk) { _ in table }
        var transactions = whole
        let smaller = try #require(NeededValues.only(of: chunk, for: &transactions) { _ in table })
        #expect(smaller.arena.bytes.count < chunk.arena.bytes.count)
        let bytes = SplitChunkCoding.encode(smaller, transactions)
        let read = try SplitChunkCoding.decode(bytes, 0..<bytes.count, relations: chunk.relations) { _ in table }
        #expect(read.transactions == transactions)
        for (left, right) in zip(whole[0].operations, transactions[0].operations) {
            #expect(left.kind == right.kind && left.key == right.key && left.id == right.id && left.columns == right.columns)
            for column in left.columns {
                #expect(
                    left.newValue(column, table: table, arena: chunk.arena)
                        == right.newValue(column, table: table, arena: smaller.arena))
                guard PlainChanges.counters(of: table).contains(column), let old = left.oldCell(column, table: table) else { continue }
                let kept = try #require(right.oldCell(column, table: table))
                #expect(Self.value(old, chunk) == Self.value(kept, smaller))
            }
        }
    }

    private static func value(_ cell: Int, _ chunk: ChangeChunk) -> [UInt8] {
        chunk.arena.withCell(cell) { _, bytes in Array(bytes) }
    }

    @Test func rowsOfOurOwnDirectionComeBackAsWhatTheyWere() throws {
        let table = try SimulatedRow.layouts(echoesInserts: true)[0]
        let chunk = SimulatedTransaction(
            commitLSN: LSN(100), endLSN: LSN(108), commitTime: 5, origin: Self.own, notes: [],
            changes: [SplitMeeting.insert(SplitMeeting.row(1, [1: 7]))]
        ).chunk
        var reader = SplitReader.restart(
            ownOrigin: Self.own, outgoing: SplitProgress(), incoming: SplitProgress(), tableIDs: [table.name: 0],
            historyLimitBytes: 1 << 20, storage: .memory())
        let transactions = try reader.read(chunk) { _ in table }
        let bytes = SplitChunkCoding.encode(chunk, transactions)
        let read = try SplitChunkCoding.decode(bytes, 0..<bytes.count, relations: chunk.relations) { _ in table }
        #expect(read.transactions == transactions)
        #expect(read.transactions.first?.operations.first?.kind == .echo)
    }

    @Test func bytesThatEndEarlyAreNoChunk() throws {
        let (chunk, transactions, table) = try chunk()
        let bytes = SplitChunkCoding.encode(chunk, transactions)
        for count in stride(from: 0, to: bytes.count, by: 7) {
            #expect(throws: SpillFrame.Damage.self) {
                try SplitChunkCoding.decode(bytes, 0..<count, relations: chunk.relations) { _ in table }
            }
        }
    }
}
