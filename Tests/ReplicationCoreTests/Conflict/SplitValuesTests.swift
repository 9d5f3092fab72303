import Testing

@testable import ReplicationCore

/// The small values that the split's core is made of.
@Suite struct SplitValuesTests {
    @Test func timesGrowThoughTheClockStepsBack() {
        var clock = HybridClock()
        let times = [5, 9, 3, 3, 20].map { clock.stamp(PostgresTime(microseconds: $0)).microseconds }
        #expect(times == [5, 9, 10, 11, 20])
        clock.observe(PostgresTime(microseconds: 15))
        #expect(clock.time.microseconds == 20)
    }

    @Test func notesComeBackAsTheyWere() throws {
        let table = QualifiedName(schema: "public", name: "Leads")
        let notes: [SplitNote] = [
            .applied(CausalContext(lsn: LSN(7), time: PostgresTime(microseconds: -3))),
            .matched(table: table, key: [1, 2], deletion: OperationID(commitLSN: LSN(9), position: 4)),
            .created(table: table, key: []), .consequences, .whole, .mended,
        ]
        #expect(try SplitNote.decode(SplitNote.encode(notes)) == notes)
        #expect(try SplitNote.decode(SplitNote.encode([])).isEmpty)
    }

    @Test func aNoteThatIsCutOrForeignIsRefused() {
        let table = QualifiedName(schema: "public", name: "Leads")
        let bytes = SplitNote.encode([
            .matched(table: table, key: [1], deletion: OperationID(commitLSN: LSN(9), position: 4))
        ])
        for length in [0] + Array(2..<bytes.count) {
            #expect(throws: SplitError.unreadableNote) { try SplitNote.decode(Array(bytes.prefix(length))) }
        }
        for byte in bytes.indices {
            var broken = bytes
            broken[byte] = 0xff
            _ = try? SplitNote.decode(broken)
        }
    }

    @Test func keysKeepTheirColumnsApart() {
        func key(_ values: [[UInt8]?]) -> RowKey {
            var arena = ChangeArena()
            for value in values {
                arena.cells.append(
                    Cell(
                        kind: value == nil ? .null : .text, offset: arena.bytes.count,
                        length: Int32(value?.count ?? 0)))
                arena.bytes += value ?? []
            }
            return RowKey(table: 0, cells: arena.cells.indices, arena: arena)
        }
        #expect(key([[1], [2, 3]]) != key([[1, 2], [3]]))
        #expect(key([nil]) != key([[]]))
        #expect(key([[1], nil, []]).values == [[1], nil, []])
    }

    @Test(arguments: [1_000_000, 1])
    func theHistoryForgetsWhatTheOtherSideHasSeen(limitBytes: Int) throws {
        let table = try SimulatedRow.layouts(echoesInserts: false)[0]
        var history = LocalHistory(limitBytes: limitBytes, storage: .memory())
        for number in 1...3 {
            let chunk = SimulatedTransaction(
                commitLSN: LSN(UInt64(number * 10)), endLSN: LSN(UInt64(number * 10 + 5)), commitTime: 0,
                origin: nil,
                notes: [], changes: [SplitMeeting.insert(SplitMeeting.row(number))]
            ).chunk
            let id = OperationID(commitLSN: LSN(UInt64(number * 10)), position: 0)
            let operation = try #require(
                RowOperation(chunk.changes[0], id: id, table: table, arena: chunk.arena))
            let time = PostgresTime(microseconds: 0)
            try history.record(
                operation, mark: WriteMark(id: id, commitTime: time, effectiveTime: time), table: table,
                arena: chunk.arena)
        }
        func isUntouched(_ number: UInt8) throws -> Bool {
            try history.isUntouched(RowKey(table: 0, bytes: [1, 0, 0, 0, 2, 0, number]), since: CausalContext())
        }
        #expect(history.runCount == (limitBytes == 1 ? 3 : 0))
        history.trim(to: LSN(25))
        #expect(try [1, 2, 3].map(isUntouched) == [true, true, false])
        history.trim(to: LSN(31))
        #expect(history.isEmpty && history.sizeBytes == 0 && history.runCount == 0)
    }

    @Test func aLayoutHasWhatItsSideSends() throws {
        let layouts = try SimulatedRow.layouts(echoesInserts: true)
        #expect(layouts[0].columns.map(\.name) == ["k", "bot", "c3", "c4", "c5", "c6", "c7", "c8", "c9"])
        #expect(layouts[1].columns.map(\.name) == ["k", "sync", "c3", "c4", "c5", "c6", "c7", "c8", "c9"])
        var relation = SimulatedRow.relation
        relation.replicaIdentity = .default
        #expect(throws: SplitError.needsFullIdentity(relation.name)) {
            try SplitTable(
                id: 0, relation: relation, ownership: SimulatedRow.ownership, source: "bot", target: "sync")
        }
        // Without shared columns the identity must tell the match key.
        var owned = SimulatedRow.ownership
        owned.columns = ["k": .owned(by: "bot"), "bot": .owned(by: "bot"), "sync": .owned(by: "sync")]
        relation.columns = Array(relation.columns.prefix(3))
        _ = try SplitTable(id: 0, relation: relation, ownership: owned, source: "bot", target: "sync")
        relation.columns[0].isKey = false
        #expect(throws: SplitError.outsideIdentity(relation.name, "k")) {
            try SplitTable(id: 0, relation: relation, ownership: owned, source: "bot", target: "sync")
        }
        // And what others know the row by.
        relation.columns[0].isKey = true
        relation.columns[2].isKey = false
        (owned.isReferenced, owned.surrogate) = (true, "sync")
        #expect(throws: SplitError.outsideIdentity(relation.name, "sync")) {
            try SplitTable(id: 0, relation: relation, ownership: owned, source: "bot", target: "sync")
        }
        relation.replicaIdentity = .full
        _ = try SplitTable(id: 0, relation: relation, ownership: owned, source: "bot", target: "sync")
        relation = SimulatedRow.relation
        relation.columns.removeFirst()
        #expect(throws: SplitError.missingMatchColumn(relation.name, "k")) {
            try SplitTable(
                id: 0, relation: relation, ownership: SimulatedRow.ownership, source: "bot", target: "sync")
        }
        var ownership = SimulatedRow.ownership
        ownership.references["k"] = ownership.table
        #expect(throws: SplitError.referenceInMatch(relation.name, "k")) {
            try SplitTable(
                id: 0, relation: SimulatedRow.relation, ownership: ownership, source: "bot", target: "sync")
        }
    }

    @Test func anUnchangedToastValueIsNoChange() throws {
        let table = try SimulatedRow.layouts(echoesInserts: false)[0]
        let old = SplitMeeting.row(1, [1: 7])
        var chunk = SimulatedTransaction(
            commitLSN: LSN(10), endLSN: LSN(15), commitTime: 0, origin: nil, notes: [],
            changes: [SplitMeeting.update(old, SplitMeeting.row(1, [1: 7, 3: 8]))]
        ).chunk
        chunk.arena.cells[chunk.changes[0].new.firstCell + 1].kind = .unchanged
        let id = OperationID(commitLSN: LSN(10), position: 0)
        let update = try #require(RowOperation(chunk.changes[0], id: id, table: table, arena: chunk.arena))
        #expect(update.columns.map { table.columns[$0].name } == ["c3"])
        // A new key makes a new row of it, with the value from the old one.
        chunk.arena.bytes[chunk.arena.cells[chunk.changes[0].new.firstCell].offset + 1] = 2
        let move = try #require(RowOperation(chunk.changes[0], id: id, table: table, arena: chunk.arena))
        #expect(move.columns.count == table.columns.count - 1)
        #expect(move.newValue(1, table: table, arena: chunk.arena).map { SimulatedRow.value($0) } == 7)
    }

    /// PostgreSQL calls the old row whole by the identity of the table, and takes its values by that of the partition.
    @Test func anOldRowThatIsItsKeyAloneIsFoundOut() throws {
        var ownership = SimulatedRow.ownership
        (ownership.surrogate, ownership.isReferenced) = ("bot", true)
        let plain = try SimulatedRow.layouts(echoesInserts: false)[0]
        let referenced = try SplitTable(id: 0, relation: SimulatedRow.relation, ownership: ownership, source: "bot", target: "sync")
        func isTold(_ change: SimulatedChange, _ table: SplitTable, unchanged: Int? = nil) -> Bool {
            var chunk = SimulatedTransaction(
                commitLSN: LSN(10), endLSN: LSN(15), commitTime: 0, origin: nil, notes: [], changes: [change]
            ).chunk
            if let unchanged {
                chunk.arena.cells[chunk.changes[0].new.firstCell + unchanged].kind = .unchanged
                chunk.changes[0].new.hasUnchanged = true
            }
            return RowOperation.isTold(chunk.changes[0], table, chunk.arena)
        }
        let (whole, key) = (SplitMeeting.row(1), [1] + Array<Int?>(repeating: nil, count: SimulatedRow.width - 1))
        // What the new row leaves out would be NULL.
        #expect(isTold(SplitMeeting.update(whole, SplitMeeting.row(2)), plain, unchanged: 3))
        #expect(!isTold(SplitMeeting.update(key, SplitMeeting.row(2)), plain, unchanged: 3))
        #expect(isTold(SplitMeeting.update(key, SplitMeeting.row(2)), plain))
        // What refers to the row knows it by its number.
        #expect(isTold(SplitMeeting.delete(whole), referenced) && !isTold(SplitMeeting.delete(key), referenced))
        #expect(isTold(SplitMeeting.delete(key), plain))
        // Where rows are found by other columns than the partition's own key.
        let other = [nil] + SplitMeeting.row(1).dropFirst()
        #expect(!isTold(SplitMeeting.delete(other), plain) && !isTold(SplitMeeting.update(other, whole), plain))
    }
}
