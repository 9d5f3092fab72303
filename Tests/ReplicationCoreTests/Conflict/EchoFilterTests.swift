import Testing

@testable import ReplicationCore

/// What `EchoFilter` keeps out of the decoder, and what it must not.
@Suite final class EchoFilterTests {
    private static let own = "lindero_into_bot"
    private static let relation = RelationMessage(
        id: 7, name: QualifiedName(schema: "public", name: "Leads"), replicaIdentity: .full,
        columns: ["name", "part", "id", "note"].map {
            RelationMessage.Column(isKey: true, name: $0, typeOID: 25, typeModifier: -1)
        })

    private var filter = EchoFilter(
        ownOrigin: EchoFilterTests.own, match: [EchoFilterTests.relation.name: ["id", "part"]])
    private var relations = RelationHistory()

    init() { relations.record(Self.relation) }

    private static func row(_ values: [String?], into arena: inout ChangeArena) -> TupleReference {
        let first = arena.cells.count
        for value in values {
            switch value {
            case nil: arena.cells.append(Cell(kind: .null))
            case "unchanged"?: arena.cells.append(Cell(kind: .unchanged))
            case let text?:
                arena.cells.append(Cell(kind: .text, offset: arena.bytes.count, length: Int32(text.utf8.count)))
                arena.bytes += Array(text.utf8)
            }
        }
        return TupleReference(firstCell: first, count: values.count)
    }

    private static func update(
        _ old: [String?], _ new: [String?], kind: OldTuple.Kind = .full
    ) throws -> [UInt8] {
        var arena = ChangeArena()
        let old = OldTuple(kind: kind, tuple: row(old, into: &arena))
        let change = Change(kind: .update, relation: 0, old: old, new: row(new, into: &arena))
        return try #require(PGOutputEncoder.change(change, relation: 7, arena: arena))
    }

    private func begin(origin: String?) throws {
        try filter.note(.begin(finalLSN: LSN(1), commitTime: PostgresTime(microseconds: 1), xid: 1))
        if let origin { try filter.note(.origin(originLSN: .zero, name: origin)) }
    }

    private func say(_ notes: [SplitNote]) throws {
        try filter.note(
            .message(
                transactional: true, lsn: LSN(1), prefix: SplitNote.messagePrefix, content: SplitNote.encode(notes),
                xid: nil))
    }

    private func leavesOut(_ message: [UInt8]) -> Bool { filter.leavesOut(message, 0..<message.count, relations) }

    private static let plain = Result { try EchoFilterTests.update(["a", "p", "1", nil], ["b", "p", "1", "n"]) }

    @Test func ownUpdatesThatKeepTheKeyAreLeftOut() throws {
        try begin(origin: Self.own)
        try say([.applied(CausalContext(lsn: LSN(5)))])
        #expect(leavesOut(try Self.plain.get()))
        try begin(origin: OriginName(Self.own).second)
        #expect(leavesOut(try Self.plain.get()))
        // Of a large value only that it did not change is said.
        #expect(leavesOut(try Self.update(["a", "p", "1", nil], ["b", "unchanged", "1", "n"])))
    }

    @Test func whateverElseOurDirectionDidIsRead() throws {
        try begin(origin: Self.own)
        #expect(!leavesOut(try Self.update(["a", "p", "1", nil], ["a", "p", "2", nil])))
        #expect(!leavesOut(try Self.update(["a", "p", "1", nil], ["a", "q", "1", nil])))
        #expect(!leavesOut(try Self.update(["a", "p", "1", nil], ["a", "p1", "", nil])))
        #expect(!leavesOut(try Self.update(["a", "p", "1", nil], ["a", nil, "1", nil])))
        #expect(!leavesOut(try Self.update(["a", "p", "1", nil], ["b", "p", "1", nil], kind: .key)))
        var arena = ChangeArena()
        let tuple = Self.row(["a", "p", "1", nil], into: &arena)
        for change in [
            Change(kind: .insert, relation: 0, new: tuple),
            Change(kind: .delete, relation: 0, old: OldTuple(kind: .full, tuple: tuple)),
            Change(kind: .update, relation: 0, new: tuple),
        ] {
            #expect(!leavesOut(try #require(PGOutputEncoder.change(change, relation: 7, arena: arena))))
        }
    }

    @Test func whatOthersWroteIsRead() throws {
        let plain = try Self.plain.get()
        for origin in [nil, "lindero_into_sync", "pg_16389"] {
            try begin(origin: origin)
            #expect(!leavesOut(plain), "\(origin ?? "none")")
        }
        // Our own transaction has ended.
        try begin(origin: Self.own)
        try filter.note(.commit(commitLSN: LSN(1), endLSN: LSN(2), commitTime: PostgresTime(microseconds: 1)))
        #expect(!leavesOut(plain))
    }

    @Test func consequencesAreTheDatabasesOwnWrites() throws {
        let plain = try Self.plain.get()
        try begin(origin: Self.own)
        #expect(leavesOut(plain))
        try say([.consequences])
        #expect(!leavesOut(plain))
    }

    @Test func ofATableWithoutItsMatchColumnsEverythingIsRead() throws {
        let plain = try Self.plain.get()
        filter = EchoFilter(ownOrigin: Self.own, match: [Self.relation.name: ["id", "gone"]])
        try begin(origin: Self.own)
        #expect(!leavesOut(plain))
        filter = EchoFilter(ownOrigin: Self.own, match: [:])
        try begin(origin: Self.own)
        #expect(!leavesOut(plain))
    }

    @Test func aBrokenMessageIsLeftToTheDecoder() throws {
        let plain = try Self.plain.get()
        try begin(origin: Self.own)
        // Behind the last match column nothing is looked at.
        for count in 0..<(plain.count - 6) { #expect(!leavesOut(Array(plain[..<count])), "\(count) bytes") }
    }
}
