import Foundation
import ReplicationCore
import Testing

@testable import Sinks

@Suite struct EventLinesTests {
    // MARK: values

    @Test func stringsAreEscaped() {
        #expect(string("a\"b\\c") == #""a\"b\\c""#)
        #expect(string("line\nfeed\r\ttab") == #""line\nfeed\r\ttab""#)
        #expect(string("\u{1}\u{1f}\u{7f}") == "\"\\u0001\\u001f\u{7f}\"")
        #expect(string("ñandú 🏨 \u{2028}") == "\"ñandú 🏨 \u{2028}\"")
        #expect(string("") == "\"\"")
    }

    @Test func bytesThatAreNoUTF8BecomeReplacementCharacters() {
        var output: [UInt8] = []
        JSONText.appendString([0x61, 0xff, 0x62][...], to: &output)
        #expect(String(validating: output, as: UTF8.self) == "\"a\u{FFFD}b\"")
    }

    @Test(arguments: ["0", "-0", "12", "-12.50", "1e+20", "1.5e-07", "0.000", "123456789012345678901234567890"])
    func numberStaysANumber(_ text: String) {
        #expect(JSONText.isNumber(Array(text.utf8)[...]))
    }

    @Test(arguments: ["NaN", "Infinity", "-Infinity", "", "-", "01", ".5", "5.", "1e", "1e+", "0x10", "1 ", "+1", "1,2"])
    func whatIsNoJSONNumberBecomesAString(_ text: String) {
        var output: [UInt8] = []
        JSONText.appendNumber(Array(text.utf8)[...], to: &output)
        #expect(String(decoding: output, as: UTF8.self) == "\"\(text)\"")
    }

    @Test func documentStaysOnOneLine() throws {
        var output: [UInt8] = []
        JSONText.appendDocument(Array("{\r\n\t\"a\\n\": [1,\n2]}".utf8)[...], to: &output)
        #expect(String(decoding: output, as: UTF8.self) == "{   \"a\\n\": [1, 2]}")
    }

    @Test(arguments: [
        (0, "2000-01-01T00:00:00.000000Z"), (1, "2000-01-01T00:00:00.000001Z"), (-1, "1999-12-31T23:59:59.999999Z"),
        (-946_684_800_000_001, "1969-12-31T23:59:59.999999Z"), (762_480_000_000_000, "2024-02-29T00:00:00.000000Z"),
        (835_696_805_123_456, "2026-06-25T10:00:05.123456Z"),
    ] as [(Int64, String)])
    func timeIsISO8601(_ microseconds: Int64, _ text: String) {
        #expect(UTCTime.text(PostgresTime(microseconds: microseconds)) == text)
    }

    @Test func timeAgreesWithFoundation() throws {
        for _ in 0..<500 {
            // Before 1582 Foundation counts by the Julian calendar; PostgreSQL never does.
            let unix = Int64.random(in: -12_000_000_000...30_000_000_000)
            let time = PostgresTime(microseconds: (unix - 946_684_800) * 1_000_000)
            let expected = Date(timeIntervalSince1970: TimeInterval(unix)).formatted(.iso8601)
            #expect(UTCTime.text(time) == expected.replacing("Z", with: ".000000Z"), "\(unix)")
        }
    }

    private func string(_ text: String) -> String {
        var output: [UInt8] = []
        JSONText.appendString(text, to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    // MARK: lines

    @Test func insertIsOneLine() throws {
        var script = Script()
        try script.insert(["7", "t", "{\"a\":\n1}", "O\"Neill", nil])
        #expect(
            script.text == """
                {"lsn":"0/64","commitLsn":"1/0","commitTime":"2000-01-01T00:00:01.000000Z","xid":9,"schema":"public",\
                "table":"Guest","operation":"insert","key":{"id":7},\
                "new":{"id":7,"isVIP":true,"data":{"a": 1},"na\\"me":"O\\"Neill","rate":null}}

                """)
    }

    @Test func updateNamesUnchangedColumnsAndOldKey() throws {
        var script = Script()
        try script.update(old: nil, new: ["7", "f", Script.unchanged, "x", "NaN"])
        let plain = try script.event()
        #expect(plain["unchanged"] as? [String] == ["data"])
        #expect((plain["new"] as? [String: Any])?.keys.sorted() == ["id", "isVIP", "na\"me", "rate"])
        #expect(plain["oldKey"] == nil && plain["old"] == nil)
        try script.update(old: (.key, ["7", nil, nil, nil, nil]), new: ["8", "f", "{}", "x", "1.50"])
        let moved = try script.event()
        #expect((moved["key"] as? [String: Int]) == ["id": 8])
        #expect((moved["oldKey"] as? [String: Int]) == ["id": 7])
        #expect(moved["unchanged"] as? [String] == [])
    }

    @Test func wholeOldRowFillsInWhatDidNotChange() throws {
        var script = Script(identity: .full)
        try script.update(old: (.full, ["7", "f", "[1]", "x", nil]), new: ["7", "f", Script.unchanged, "y", nil])
        let event = try script.event()
        #expect((event["key"] as? [String: Int]) == ["id": 7])
        #expect((event["new"] as? [String: Any])?["data"] as? [Int] == [1])
        #expect((event["old"] as? [String: Any])?["na\"me"] as? String == "x")
        #expect(event["unchanged"] as? [String] == [])
        #expect(event["oldKey"] == nil)
    }

    @Test func deleteHasTheKeyAlone() throws {
        var script = Script()
        try script.delete(old: (.key, ["7", nil, nil, nil, nil]))
        let event = try script.event()
        #expect(event["operation"] as? String == "delete")
        #expect((event["key"] as? [String: Int]) == ["id": 7])
        #expect(event["new"] == nil && event["old"] == nil)
    }

    @Test func truncateIsAnEventForEachTable() throws {
        var script = Script()
        try script.lines.handle(.truncate(relations: [1, 1], cascade: true, restartIdentity: false, xid: nil), at: LSN(5))
        let lines = script.text.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines[0].hasSuffix(#""operation":"truncate","cascade":true,"restartIdentity":false}"#))
    }

    @Test func limitAndUnwantedTablesLeaveNoLine() throws {
        var script = Script(limit: 1, includes: { $0.name == "Guest" })
        script.lines.announce(
            RelationMessage(
                id: 2, name: QualifiedName(schema: "public", name: "Other"), replicaIdentity: .default, columns: []),
            description: nil)
        try script.lines.handle(.insert(relation: 2, new: TupleReference(firstCell: 0, count: 0), xid: nil), at: LSN(5))
        #expect(script.lines.eventCount == 0)
        try script.insert(["1", "t", nil, nil, nil])
        try script.insert(["2", "t", nil, nil, nil])
        #expect(script.lines.isAtLimit)
        #expect(script.text.split(separator: "\n").count == 1)
    }

    @Test func typeUnderADomainDecides() throws {
        var script = Script(identity: .default, nameType: 20_000)
        script.announce(baseOfName: 23)
        try script.insert(["1", "t", nil, "42", nil])
        #expect((try script.event()["new"] as? [String: Any])?["na\"me"] as? Int == 42)
    }

    @Test func changeOfAnUnknownTableIsRefused() {
        var script = Script()
        #expect(throws: StreamError.unknownRelation(99)) {
            try script.lines.handle(.insert(relation: 99, new: TupleReference(firstCell: 0, count: 0), xid: nil), at: LSN(5))
        }
    }
}

/// A transaction on one table.
private struct Script {
    static let unchanged = "\u{0}unchanged"

    var lines: EventLines
    private var relation: RelationMessage

    init(
        identity: TableDescription.ReplicaIdentity = .default, nameType: UInt32 = 25, limit: Int = .max,
        includes: @escaping @Sendable (QualifiedName) -> Bool = { _ in true }
    ) {
        let columns: [(String, UInt32)] = [
            ("id", 23), ("isVIP", 16), ("data", 3802), ("na\"me", nameType), ("rate", 1700),
        ]
        relation = RelationMessage(
            id: 1, name: QualifiedName(schema: "public", name: "Guest"), replicaIdentity: identity,
            columns: columns.map { name, type in
                RelationMessage.Column(
                    isKey: identity == .full || name == "id", name: name, typeOID: type, typeModifier: -1)
            })
        lines = EventLines(limit: limit, includes: includes)
        announce(baseOfName: nameType)
        try? lines.handle(
            .begin(finalLSN: LSN(1 << 32), commitTime: PostgresTime(microseconds: 1_000_000), xid: 9), at: LSN(1))
    }

    mutating func announce(baseOfName: UInt32) {
        let columns = relation.columns.map { column in
            ColumnDescription(
                name: column.name, type: "", typeOID: column.typeOID,
                baseTypeOID: column.name == "na\"me" ? baseOfName : column.typeOID)
        }
        lines.announce(
            relation, description: TableDescription(name: relation.name, columns: columns, primaryKey: ["id"]))
    }

    mutating func insert(_ values: [String?]) throws {
        try lines.handle(.insert(relation: 1, new: tuple(values), xid: nil), at: LSN(100))
    }

    mutating func update(old: (OldTuple.Kind, [String?])?, new: [String?]) throws {
        let old = old.map { OldTuple(kind: $0.0, tuple: tuple($0.1)) }
        try lines.handle(.update(relation: 1, old: old, new: tuple(new), xid: nil), at: LSN(100))
    }

    mutating func delete(old: (OldTuple.Kind, [String?])) throws {
        let old = OldTuple(kind: old.0, tuple: tuple(old.1))
        try lines.handle(.delete(relation: 1, old: old, xid: nil), at: LSN(100))
    }

    /// The lines so far.
    var text: String {
        mutating get { String(decoding: lines.takeBytes(), as: UTF8.self) }
    }

    /// The one line so far.
    mutating func event() throws -> [String: Any] {
        let line = text
        #expect(line.split(separator: "\n").count == 1)
        return try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    }

    private mutating func tuple(_ values: [String?]) -> TupleReference {
        let first = lines.arena.cells.count
        for value in values {
            switch value {
            case nil: lines.arena.cells.append(Cell(kind: .null))
            case Self.unchanged?: lines.arena.cells.append(Cell(kind: .unchanged))
            case let value?:
                lines.arena.cells.append(
                    Cell(kind: .text, offset: lines.arena.bytes.count, length: Int32(value.utf8.count)))
                lines.arena.bytes += Array(value.utf8)
            }
        }
        return TupleReference(firstCell: first, count: values.count)
    }
}
