import PostgresClient
import Testing

@testable import ReplicationCore
@testable import Replicator

/// What the slot knows of tables whose copy was killed, in the memory that there is.
@Suite struct SlotChangesTests {
    private static func changes(memoryLimitBytes: Int, of tables: [String]) -> SlotChanges {
        let options = ConnectionOptions("postgresql://nobody@127.0.0.1/nothing")
        var replication = ReplicationSettings()
        replication.memoryLimitBytes = memoryLimitBytes
        let settings = DirectionSettings(
            sourceName: "a", targetName: "b", source: options, target: options, slot: "s", publication: "p",
            backend: .replica, replication: replication, policy: nil)
        let questions = tables.map { (name($0), SlotChanges.Question(since: LSN(1), key: ["id"])) }
        var changes = SlotChanges(
            settings: settings, questions: Dictionary(uniqueKeysWithValues: questions), until: LSN(1_000))
        for (id, table) in tables.enumerated() {
            let column = RelationMessage.Column(isKey: true, name: "id", typeOID: 25, typeModifier: -1)
            changes.handle(
                .relation(
                    RelationMessage(id: UInt32(id), name: name(table), replicaIdentity: .default, columns: [column]), xid: nil),
                ChangeArena())
        }
        changes.handle(.begin(finalLSN: LSN(10), commitTime: PostgresTime(microseconds: 0), xid: 1), ChangeArena())
        return changes
    }

    private static func name(_ table: String) -> QualifiedName { QualifiedName(schema: "public", name: table) }

    private static func insert(_ count: Int, into table: UInt32, _ changes: inout SlotChanges) {
        for number in 0..<count {
            var arena = ChangeArena()
            arena.bytes = Array("key \(number)".utf8)
            arena.cells = [Cell(kind: .text, offset: 0, length: Int32(arena.bytes.count))]
            changes.handle(.insert(relation: table, new: TupleReference(firstCell: 0, count: 1), xid: nil), arena)
        }
    }

    /// `nil` for a table that is given up.
    private static func keyCount(_ changes: SlotChanges, _ table: String) -> Int? {
        if case .keys(let keys)? = changes.answers[name(table)] { keys.count } else { nil }
    }

    @Test func keysAreHeldInAQuarterOfTheLimit() {
        var changes = Self.changes(memoryLimitBytes: 1 << 20, of: ["t"])
        Self.insert(1_000, into: 0, &changes)
        #expect(Self.keyCount(changes, "t") == 1_000)
        Self.insert(3_000, into: 0, &changes)
        #expect(changes.answers[Self.name("t")] == .beyondRepair)
    }

    @Test func allTablesShareTheLimitAndOneThatIsGivenUpLeavesItsPart() {
        var changes = Self.changes(memoryLimitBytes: 1 << 20, of: ["a", "b", "c"])
        Self.insert(1_500, into: 0, &changes)
        Self.insert(1_500, into: 1, &changes)
        #expect(changes.answers[Self.name("b")] == .beyondRepair)
        Self.insert(500, into: 2, &changes)
        #expect(Self.keyCount(changes, "a") == 1_500)
        #expect(Self.keyCount(changes, "c") == 500)
    }
}
