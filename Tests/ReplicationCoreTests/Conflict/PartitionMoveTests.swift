import Testing

@testable import ReplicationCore

/// Rows are told apart by their key `k`, and so are their partitions; bot owns `bot`, sync `sync`.
@Suite struct PartitionMoveTests {
    private static let own = "lindero_into_bot"
    private static let (bot, sync) = (SimulatedRow.owned(by: 0), SimulatedRow.owned(by: 1))

    private func table(partitionColumns: [String] = ["k"], referenced number: String? = nil) throws -> SplitTable {
        var ownership = SimulatedRow.ownership
        (ownership.surrogate, ownership.isReferenced) = (number, number != nil)
        return try SplitTable(
            id: 0, relation: SimulatedRow.relation, ownership: ownership, source: "bot", target: "sync", echoesInserts: false,
            partitionColumns: partitionColumns)
    }

    /// What bot's stream has for sync, in words.
    private func read(_ changes: [SimulatedChange], origin: String? = nil, _ table: SplitTable) throws -> [String] {
        var chunk = SimulatedTransaction(
            commitLSN: LSN(100), endLSN: LSN(108), commitTime: 5, origin: origin, notes: [], changes: changes
        ).chunk
        PartitionMove.join(in: &chunk, ownOrigin: Self.own, tables: [0: table])
        var reader = SplitReader.restart(
            ownOrigin: Self.own, outgoing: SplitProgress(), incoming: SplitProgress(),
            tableIDs: [SimulatedRow.ownership.table: 0], historyLimitBytes: 1 << 20, storage: .memory())
        return try reader.read(chunk) { _ in table }.flatMap(\.operations).map { operation in
            let word = switch operation.kind {
            case .insert: "insert"
            case .update: "update"
            case .delete: "delete"
            case .move(let newKey): "move to \(newKey.bytes.last ?? 0) of"
            case .echo: "echo"
            }
            return "\(word) \(operation.key.bytes.last ?? 0) at \(operation.id.position)"
        }
    }

    private func pair(_ old: SimulatedRow.Values, _ new: SimulatedRow.Values) -> [SimulatedChange] {
        [SplitMeeting.delete(old), SplitMeeting.insert(new)]
    }

    @Test func aRowThatMovesIsTheSameRow() throws {
        let moved = pair(SplitMeeting.row(1, [Self.sync: 7]), SplitMeeting.row(2, [Self.bot: 5, Self.sync: 7]))
        #expect(try read(moved, table()) == ["move to 2 of 1 at 1"])
        #expect(try read(moved, table(partitionColumns: [])) == ["delete 1 at 0", "insert 2 at 1"])
        // Others stand around it, where they stood.
        let around = [SplitMeeting.insert(SplitMeeting.row(8))] + moved + [SplitMeeting.delete(SplitMeeting.row(9))]
        #expect(try read(around, table()) == ["insert 8 at 0", "move to 2 of 1 at 2", "delete 9 at 3"])
        let twice = [SplitMeeting.delete(SplitMeeting.row(9, [Self.sync: 3]))] + moved
        #expect(try read(twice, table()) == ["delete 9 at 0", "move to 2 of 1 at 2"])
    }

    @Test func whatIsNoMoveStaysWhatItIs() throws {
        let row = SplitMeeting.row(1, [Self.sync: 7])
        // Only sync writes that column: this is another row.
        #expect(try read(pair(row, SplitMeeting.row(2)), table()) == ["delete 1 at 0", "insert 2 at 1"])
        // In its partition.
        #expect(try read(pair(row, row), table()) == ["delete 1 at 0", "insert 1 at 1"])
        let moved = pair(row, SplitMeeting.row(2, [Self.sync: 7]))
        let apart = [moved[0], SplitMeeting.insert(SplitMeeting.row(8)), moved[1]]
        #expect(try read(apart, table()) == ["delete 1 at 0", "insert 8 at 1", "insert 2 at 2"])
        // Rows of other tables know it by a number, which is another row's here.
        let numbered = pair(SplitMeeting.row(1, [3: 5]), SplitMeeting.row(2, [3: 6]))
        #expect(try read(numbered, table()) == ["move to 2 of 1 at 1"])
        #expect(try read(numbered, table(referenced: "c3")) == ["delete 1 at 0", "insert 2 at 1"])
    }

    /// What sync did to the row, seen in bot's stream: bot's column moves along, and is told again under the new key.
    @Test func aMoveByTheOtherSideKeepsWhatThisOneOwns() throws {
        let row = SplitMeeting.row(1, [Self.bot: 5])
        let moved = pair(row, SplitMeeting.row(2, [Self.bot: 5, Self.sync: 7]))
        #expect(try read(moved, origin: Self.own, table()) == ["echo 2 at 1"])
        #expect(try read(pair(row, SplitMeeting.row(2, [Self.sync: 7])), origin: Self.own, table()) == [])
    }

    @Test func aDeleteThatTellsItsKeyAloneMayBeHalfOfAMove() throws {
        var chunk = SimulatedTransaction(
            commitLSN: LSN(100), endLSN: LSN(108), commitTime: 5, origin: nil, notes: [], changes: [SplitMeeting.delete(SplitMeeting.row(1))]
        ).chunk
        chunk.changes[0].oldKind = .key
        var reader = SplitReader.restart(
            ownOrigin: Self.own, outgoing: SplitProgress(), incoming: SplitProgress(), tableIDs: [:], historyLimitBytes: 1 << 20,
            storage: .memory())
        let table = try table()
        #expect(throws: SplitError.needsFullIdentity(table.name)) { try reader.read(chunk) { _ in table } }
    }
}
