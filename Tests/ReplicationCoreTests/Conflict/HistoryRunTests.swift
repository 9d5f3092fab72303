import Synchronization
import Testing

@testable import ReplicationCore

/// What is in files is known just as what is in memory.
@Suite struct HistoryRunTests {
    private static let keys = 1...6
    private static func key(_ number: Int) -> RowKey { RowKey(table: 0, bytes: [1, 0, 0, 0, 2, 0, UInt8(number)]) }
    private static let anywhere = PostgresTime(microseconds: 0)

    /// One whose numbers others hold.
    private static func referencedTable(_ id: Int) throws -> SplitTable {
        var ownership = SimulatedRow.ownership
        ownership.surrogate = "sync"
        ownership.isReferenced = true
        return try SplitTable(id: id, relation: SimulatedRow.relation, ownership: ownership, source: "bot", target: "sync")
    }

    /// One small and one large history that are told the same.
    private struct Pair {
        var small: LocalHistory
        var large = LocalHistory(limitBytes: .max, storage: .memory())

        init(_ limitBytes: Int) { small = LocalHistory(limitBytes: limitBytes, storage: .memory()) }

        mutating func both(_ body: (inout LocalHistory) throws -> Void) rethrows {
            try body(&small)
            try body(&large)
        }
    }

    @Test(arguments: 0..<30)
    func aHistoryInFilesKnowsWhatOneInMemoryKnows(seed: UInt64) throws {
        let table = try Self.referencedTable(0)
        var random = SplitMix(state: seed)
        var pair = Pair([1, 700, 2_500][random.below(3)])
        var deletions: [(OperationID, RowKey)] = []
        for step in 1...80 {
            let lsn = LSN(UInt64(step * 10))
            let (number, other) = (Self.keys.lowerBound + random.below(6), Self.keys.lowerBound + random.below(6))
            let (row, changed) = (SplitMeeting.row(number), SplitMeeting.row(number, [SimulatedRow.firstShared + random.below(7): step]))
            var change: SimulatedChange?
            switch random.below(12) {
            case 0, 1: change = SplitMeeting.insert(changed)
            case 2, 3, 4, 5: change = SplitMeeting.update(row, changed)
            case 6, 7: change = SplitMeeting.delete(row)
            case 8 where number != other: change = SplitMeeting.update(row, SplitMeeting.row(other, [SimulatedRow.max: step]))
            case 9: pair.both { $0.endGeneration(of: Self.key(number)) }
            case 10:
                guard let (id, key) = deletions.isEmpty ? nil : deletions[random.below(deletions.count)] else { break }
                try pair.both { try $0.match(id, of: key) }
            default:
                let lsn = LSN(UInt64(random.below(step * 10)))
                if random.chance(30) { pair.both { $0.trim(to: lsn) } }
            }
            if let change {
                let chunk = SimulatedTransaction(
                    commitLSN: lsn, endLSN: LSN(lsn.rawValue + 5), commitTime: 0, origin: nil, notes: [], changes: [change]
                ).chunk
                let id = OperationID(commitLSN: lsn, position: 0)
                if let operation = RowOperation(chunk.changes[0], id: id, table: table, arena: chunk.arena) {
                    let mark = WriteMark(id: id, commitTime: Self.anywhere, effectiveTime: PostgresTime(microseconds: Int64(step)))
                    try pair.both { try $0.record(operation, mark: mark, table: table, arena: chunk.arena) }
                    if operation.kind != .insert, operation.kind != .update { deletions.append((id, operation.key)) }
                }
            }
            if random.chance(10) { try pair.small.keep(within: [1, 700, 2_500][random.below(3)]) }
            try compare(pair, step)
        }
        pair.both { $0.trim(to: LSN(10_000)) }
        #expect(pair.small.isEmpty && pair.small.sizeBytes == 0 && pair.large.isEmpty && pair.large.sizeBytes == 0)
    }

    private func compare(_ pair: Pair, _ step: Int) throws {
        let since = CausalContext(lsn: LSN(UInt64(step * 5)))
        for key in Self.keys.map(Self.key) {
            let (small, large) = (try pair.small.deletions(of: key), try pair.large.deletions(of: key))
            try #require(small == large, "step \(step)")
            for column in 0..<8 {
                let (small, large) = (try pair.small.write(of: column, in: key), try pair.large.write(of: column, in: key))
                try #require(small == large, "step \(step)")
            }
            try #require(try pair.small.isUntouched(key, since: since) == pair.large.isUntouched(key, since: since))
        }
        let keys = Self.keys.map(Self.key)
        let former = try pair.large.formerRows(of: keys)
        try #require(try pair.small.formerRows(of: keys) == former)
        for key in keys {
            for row in former[key] ?? [] {
                let deletion = try #require(try pair.large.deletions(of: key).first { $0.mark.id == row.id })
                let later = try deletion.newKey.flatMap { try pair.large.laterKey(of: $0, after: row.id) }
                try #require(row.key == later, "step \(step)")
            }
        }
    }

    /// Noted while the key's column was of another type, or the stream of another form.
    @Test(arguments: [1, .max])
    func aMatchUnderAKeyThatNobodyKnowsIsFoundByWhatItIs(limitBytes: Int) throws {
        let table = try Self.referencedTable(0)
        var history = LocalHistory(limitBytes: limitBytes, storage: .memory())
        for number in [1, 2] {
            let chunk = SimulatedTransaction(
                commitLSN: LSN(UInt64(number * 10)), endLSN: LSN(UInt64(number * 10 + 5)), commitTime: 0, origin: nil, notes: [],
                changes: [SplitMeeting.delete(SplitMeeting.row(number))]
            ).chunk
            let id = OperationID(commitLSN: LSN(UInt64(number * 10)), position: 0)
            let operation = try #require(RowOperation(chunk.changes[0], id: id, table: table, arena: chunk.arena))
            let mark = WriteMark(id: id, commitTime: Self.anywhere, effectiveTime: Self.anywhere)
            try history.record(operation, mark: mark, table: table, arena: chunk.arena)
        }
        // "1" as a text, and one that is not to be found any more.
        try history.match(OperationID(commitLSN: LSN(10), position: 0), of: RowKey(table: 0, bytes: [1, 0, 0, 0, 1, 49]))
        try history.match(OperationID(commitLSN: LSN(9), position: 0), of: Self.key(2))
        #expect(try [1, 2].map { try history.deletions(of: Self.key($0)).map(\.isMatched) } == [[true], [false]])
        history.trim(to: LSN(11))
        #expect(try history.deletions(of: Self.key(1)).isEmpty && history.deletions(of: Self.key(2)).map(\.isMatched) == [false])
    }

    /// Whatever key another row has meanwhile, and whatever this one had in between.
    @Test(arguments: [1, .max])
    func whatKeysARowHadIsKnownByItsNumber(limitBytes: Int) throws {
        let table = try Self.referencedTable(3)
        let column = try #require(SimulatedRow.relation.columns.firstIndex { $0.name == "sync" })
        var history = LocalHistory(limitBytes: limitBytes, storage: .memory())
        func move(_ number: Int, _ key: Int, to newKey: Int) -> SimulatedChange {
            SplitMeeting.update(SplitMeeting.row(key, [column: number]), SplitMeeting.row(newKey, [column: number]))
        }
        let changes = [
            move(7, 1, to: 2), move(8, 3, to: 1), move(7, 2, to: 4), move(8, 1, to: 3), move(7, 4, to: 1),
            SplitMeeting.delete(SplitMeeting.row(3, [column: 8])),
            // Its number is another one, with its key and without.
            SplitMeeting.update(SplitMeeting.row(1, [column: 7]), SplitMeeting.row(5, [column: 9])),
            SplitMeeting.update(SplitMeeting.row(5, [column: 9]), SplitMeeting.row(5, [column: -2])),
            SplitMeeting.delete(SplitMeeting.row(5, [column: -2])),
            SimulatedChange(kind: .insert, new: SplitMeeting.row(5, [column: 6])),
        ]
        for (step, change) in changes.enumerated() {
            let id = OperationID(commitLSN: LSN(UInt64(step / 2 * 10 + 10)), position: step % 2)
            let chunk = SimulatedTransaction(
                commitLSN: id.commitLSN, endLSN: LSN(id.commitLSN.rawValue + 5), commitTime: 0, origin: nil, notes: [], changes: [change]
            ).chunk
            let mark = WriteMark(id: id, commitTime: Self.anywhere, effectiveTime: Self.anywhere)
            try history.recordNumber(chunk.changes[0], mark: mark, table: table, arena: chunk.arena)
        }
        func formerKeys(_ number: Int64, bytes: Int = 2) throws -> [String] {
            let number = (0..<bytes).reversed().map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
            return try history.formerKeys(ofNumber: number, in: 3).map { former in
                "\(former.key.map { "\($0.values[0]?[1] ?? 0)" } ?? "nobody") until \(former.until.commitLSN) \(former.until.position)"
            }
        }
        #expect(try formerKeys(7) == ["1 until 0/A 0", "2 until 0/14 0", "4 until 0/1E 0", "1 until 0/28 0"])
        #expect(try formerKeys(8) == ["3 until 0/A 1", "1 until 0/14 1", "3 until 0/1E 1"])
        #expect(try formerKeys(9) == ["nobody until 0/28 0", "5 until 0/28 1"])
        // It is new from the beginning of its transaction.
        #expect(try formerKeys(-2) == ["nobody until 0/28 0", "5 until 0/32 0"])
        #expect(try formerKeys(6) == ["nobody until 0/32 0"])
        // A wider column holds the same numbers.
        for number in [7, 8, 9, -2] as [Int64] {
            #expect(try formerKeys(number, bytes: 4) == formerKeys(number))
            #expect(try formerKeys(number, bytes: 8) == formerKeys(number))
        }
        #expect(try formerKeys(0xFFFE, bytes: 4).isEmpty)
        #expect(try formerKeys(10).isEmpty)
        history.trim(to: LSN(15))
        #expect(try formerKeys(7) == ["2 until 0/14 0", "4 until 0/1E 0", "1 until 0/28 0"])
    }

    /// As what is left behind needs it, however often the row's key has changed before.
    @Test(arguments: [1, .max])
    func theNumberOfWhatWasDeletedIsKnownInItsForm(limitBytes: Int) throws {
        let table = try Self.referencedTable(0)
        let column = try #require(SimulatedRow.relation.columns.firstIndex { $0.name == "sync" })
        var history = LocalHistory(limitBytes: limitBytes, storage: .memory())
        let (first, second) = (SplitMeeting.row(1, [column: 7]), SplitMeeting.row(2, [column: 7]))
        let changes = [SplitMeeting.update(first, second), SplitMeeting.delete(second)]
        for (step, change) in changes.enumerated() {
            let id = OperationID(commitLSN: LSN(UInt64(step * 10 + 10)), position: 0)
            let mark = WriteMark(id: id, commitTime: Self.anywhere, effectiveTime: Self.anywhere)
            let chunk = SimulatedTransaction(
                commitLSN: id.commitLSN, endLSN: LSN(id.commitLSN.rawValue + 5), commitTime: 0, origin: nil, notes: [], changes: [change]
            ).chunk
            let operation = try #require(RowOperation(chunk.changes[0], id: id, table: table, arena: chunk.arena))
            try history.record(operation, mark: mark, table: table, arena: chunk.arena)
            try history.recordNumber(chunk.changes[0], mark: mark, table: table, arena: chunk.arena)
        }
        #expect((history.runCount > 0) == (limitBytes == 1))
        let move = try #require(try history.deletions(of: Self.key(1)).first)
        #expect(move.number == nil)
        let fate = try history.fate(of: move, from: Self.key(1))
        #expect(fate.key == nil)
        let end = try #require(fate.end)
        #expect(try history.deletions(of: Self.key(2)) == [end])
        #expect(end.number == LocalHistory.Number(bytes: [0, 7], typeOID: 20))
        #expect(try history.leftNumber(by: end, in: 0) == end.number)
    }

    /// Rows that many writers are at are asked for with every change.
    @Test func whatIsAskedForAgainIsNotReadAgainUntilThereIsMore() throws {
        let table = try Self.referencedTable(0)
        let reads = Mutex(0)
        let memory = HistoryStorage.memory()
        let storage = HistoryStorage(
            write: memory.write,
            read: { run, range in
                reads.withLock { $0 += 1 }
                return try memory.read(run, range)
            }, remove: memory.remove)
        var history = LocalHistory(limitBytes: 1, storage: storage)
        func delete(_ number: Int, at lsn: UInt64) throws {
            let id = OperationID(commitLSN: LSN(lsn), position: 0)
            let mark = WriteMark(id: id, commitTime: Self.anywhere, effectiveTime: Self.anywhere)
            let chunk = SimulatedTransaction(
                commitLSN: id.commitLSN, endLSN: LSN(lsn + 5), commitTime: 0, origin: nil, notes: [],
                changes: [SplitMeeting.delete(SplitMeeting.row(number))]
            ).chunk
            let operation = try #require(RowOperation(chunk.changes[0], id: id, table: table, arena: chunk.arena))
            try history.record(operation, mark: mark, table: table, arena: chunk.arena)
        }
        for lsn: UInt64 in [10, 20, 30] { try delete(1, at: lsn) }
        for _ in 0..<5 { #expect(try history.deletions(of: Self.key(1)).map(\.mark.id.commitLSN.rawValue) == [10, 20, 30]) }
        #expect(reads.withLock { $0 } == 3)
        try delete(1, at: 40)
        for _ in 0..<5 { #expect(try history.deletions(of: Self.key(1)).count == 4) }
        #expect(reads.withLock { $0 } == 7)
        // What goes is not told, and not read.
        history.trim(to: LSN(25))
        #expect(try history.deletions(of: Self.key(1)).map(\.mark.id.commitLSN.rawValue) == [30, 40])
        #expect(reads.withLock { $0 } == 7)
    }

    @Test func aRunThatWasAlteredIsNotBelieved() throws {
        var entry = LocalHistory.Entry()
        entry.matched = [OperationID(commitLSN: LSN(5), position: 1)]
        let storage = HistoryStorage.memory()
        let run = try HistoryRun.make(number: 3, newestLSN: LSN(9), [[Self.key(1): entry]], in: storage)
        let hash = HistoryRun.hash(Self.key(1))
        #expect(run.mayHold(hash))
        #expect(try run.entry(of: Self.key(1), hash, in: storage) == entry)
        let altered = HistoryStorage(
            write: storage.write,
            read: { number, range in
                var bytes = try storage.read(number, range)
                bytes[bytes.count - 3] ^= 1
                return bytes
            }, remove: storage.remove)
        #expect(throws: SpillFrame.Damage.altered) { try run.entry(of: Self.key(1), hash, in: altered) }
    }

    @Test func aLargeRunFindsEveryRowAndFewOthers() throws {
        func key(_ number: Int) -> RowKey { RowKey(table: 1, values: [Array("row-\(number)".utf8)]) }
        var entries: [RowKey: LocalHistory.Entry] = [:]
        for number in 0..<5_000 {
            let mark = WriteMark(
                id: OperationID(commitLSN: LSN(UInt64(number)), position: number), commitTime: Self.anywhere, effectiveTime: Self.anywhere)
            entries[key(number), default: .init()].note(.init(column: 2, mark: mark, value: [UInt8(number & 255)]))
        }
        let storage = HistoryStorage.memory()
        let run = try HistoryRun.make(number: 0, newestLSN: LSN(5_000), [entries], in: storage)
        for number in 0..<5_000 {
            let found = try run.entry(of: key(number), HistoryRun.hash(key(number)), in: storage)
            #expect(found == entries[key(number)])
        }
        let strangers = (5_000..<15_000).filter { run.mayHold(HistoryRun.hash(key($0))) }
        #expect(strangers.count < 500)
        #expect(try strangers.allSatisfy { try run.entry(of: key($0), HistoryRun.hash(key($0)), in: storage) == nil })
        #expect(run.indexBytes < 5_000 * 3)
    }
}
