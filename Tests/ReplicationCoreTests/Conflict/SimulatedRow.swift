@testable import ReplicationCore

/// The one table of the simulation: a key, a column of each side, and a shared column for each policy.
enum SimulatedRow {
    typealias Values = [Int?]

    static let key = 0
    /// Column 1 is owned by side 0, column 2 by side 1.
    static func owned(by side: Int) -> Int { 1 + side }
    static let firstShared = 3
    static let lastWrite = 3, preferFirst = 4, preferSecond = 5, max = 6, min = 7, delta = 8, queue = 9
    static let width = 10
    static let sides = ["bot", "sync"]

    static let ownership = TableOwnership(
        table: QualifiedName(schema: "public", name: "Leads"), match: ["k"], insertOwners: ["bot", "sync"],
        deleteOwners: ["bot", "sync"], privateColumns: [],
        columns: [
            "k": .shared(SharedColumnRule(policy: .queue)), "bot": .owned(by: "bot"),
            "sync": .owned(by: "sync"),
            "c3": .shared(SharedColumnRule(policy: .lastWrite)),
            "c4": .shared(SharedColumnRule(policy: .prefer, side: "bot")),
            "c5": .shared(SharedColumnRule(policy: .prefer, side: "sync")),
            "c6": .shared(SharedColumnRule(policy: .max)), "c7": .shared(SharedColumnRule(policy: .min)),
            "c8": .shared(SharedColumnRule(policy: .delta)), "c9": .shared(SharedColumnRule(policy: .queue)),
        ])

    static let relation = RelationMessage(
        id: 1, name: ownership.table, replicaIdentity: .full,
        columns: ["k", "bot", "sync", "c3", "c4", "c5", "c6", "c7", "c8", "c9"].map {
            RelationMessage.Column(isKey: true, name: $0, typeOID: 20, typeModifier: -1)
        })

    /// While the owners of both columns move: everything is written on both sides.
    static let inTransition =
        OwnershipPolicy(tables: [ownership.table: ownership]).inTransition(origin: sides[0], other: sides[1])
        .tables[ownership.table] ?? ownership

    private static let made = [false, true].map { isInTransition in
        [false, true].map { echoesInserts in
            Result { try makeLayouts(isInTransition ? inTransition : ownership, echoesInserts: echoesInserts) }
        }
    }

    /// Layouts of the direction that reads a side.
    static func layouts(echoesInserts: Bool, isInTransition: Bool = false) throws -> [SplitTable] {
        try made[isInTransition ? 1 : 0][echoesInserts ? 1 : 0].get()
    }

    private static func makeLayouts(
        _ ownership: TableOwnership, former: [String: [FormerRule]] = [:], echoesInserts: Bool
    ) throws -> [SplitTable] {
        try (0..<2).map { side in
            try SplitTable(
                id: 0, relation: relation, ownership: ownership, source: sides[side], target: sides[1 - side],
                former: former, echoesInserts: echoesInserts)
        }
    }

    /// Layouts where policies have changed.
    static func layouts(echoesInserts: Bool, isInTransition: Bool, policies: SimulatedPolicies) throws -> [SplitTable] {
        let declared = policies.declared(in: ownership)
        let moving = OwnershipPolicy(tables: [declared.table: declared]).inTransition(origin: sides[0], other: sides[1])
        return try makeLayouts(
            isInTransition ? moving.tables[declared.table] ?? declared : declared, former: policies.former, echoesInserts: echoesInserts)
    }

    static func name(_ column: Int) -> String { relation.columns[column].name }

    static func key(_ values: Values) -> Int { values[key] ?? -1 }

    /// A value as the stream carries it: two bytes.
    static func bytes(_ value: Int) -> [UInt8] { [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)] }
    static func value(_ bytes: [UInt8]?) -> Int? { bytes.map { value($0[0], $0[1]) } }

    static func value(_ high: UInt8, _ low: UInt8) -> Int {
        Int(Int16(truncatingIfNeeded: Int(high) << 8 | Int(low)))
    }
}

/// A change as a database logs it.
struct SimulatedChange {
    var kind: Change.Kind
    var relation = 0
    var old: SimulatedRow.Values?
    var new: SimulatedRow.Values?

    var keepsKey: Bool {
        guard kind == .update, let old, let new else { return false }
        return SimulatedRow.key(old) == SimulatedRow.key(new)
    }
}

/// A committed transaction in a database's log.
struct SimulatedTransaction {
    var endLSN: LSN
    /// As the stream brings it.
    var chunk: ChangeChunk

    init(
        commitLSN: LSN, endLSN: LSN, commitTime: Int64, origin: String?, notes: [[UInt8]], notePositions: [Int] = [],
        changes: [SimulatedChange]
    ) {
        self.endLSN = endLSN
        chunk = ChangeChunk()
        for change in changes {
            let old = change.old.map { OldTuple(kind: .full, tuple: Self.put($0, into: &chunk.arena)) }
            let new = change.new.map { Self.put($0, into: &chunk.arena) }
            chunk.changes.append(
                Change(
                    kind: change.kind, relation: change.relation, old: old,
                    new: new ?? TupleReference(firstCell: 0, count: 0)))
        }
        var span = TransactionSpan(
            xid: 1, commitLSN: commitLSN, endLSN: endLSN, commitTime: PostgresTime(microseconds: commitTime),
            origin: origin, notes: notes, changes: 0..<changes.count)
        span.notePositions = notePositions
        chunk.transactions = [span]
        chunk.endLSN = endLSN
    }

    private static func put(_ values: SimulatedRow.Values, into arena: inout ChangeArena) -> TupleReference {
        let first = arena.cells.count
        for value in values {
            guard let value else {
                arena.cells.append(Cell(kind: .null))
                continue
            }
            arena.cells.append(Cell(kind: .binary, offset: arena.bytes.count, length: 2))
            arena.bytes += SimulatedRow.bytes(value)
        }
        return TupleReference(firstCell: first, count: values.count)
    }
}
