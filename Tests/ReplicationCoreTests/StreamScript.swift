@testable import ReplicationCore

/// Builds streams by hand: tables, transactions, rows as short strings.
struct StreamScript {
    /// How a script writes a cell that is NULL, and one that TOAST left out.
    static let null = "∅"
    static let unchanged = "…"

    var assembler = TransactionAssembler()
    private var lsn: UInt64 = 0x1000

    init(cutBytes: Int = 4 << 20) { assembler = TransactionAssembler(cutBytes: cutBytes) }

    mutating func table(_ id: UInt32, _ name: String, key: [String], columns: [String], full: Bool = false) throws {
        try assembler.handle(.relation(Self.relation(id, name, key: key, columns: columns, full: full), xid: nil))
    }

    /// The same, announced to a streamed transaction alone.
    mutating func ownTable(_ id: UInt32, _ name: String, key: [String], columns: [String], full: Bool = false) {
        let announcement = assembler.nextAnnouncement()
        assembler.record(Self.relation(id, name, key: key, columns: columns, full: full), announcement: announcement)
    }

    private static func relation(
        _ id: UInt32, _ name: String, key: [String], columns: [String], full: Bool
    ) -> RelationMessage {
        RelationMessage(
            id: id, name: QualifiedName(schema: "public", name: name), replicaIdentity: full ? .full : .default,
            columns: columns.map {
                RelationMessage.Column(isKey: full || key.contains($0), name: $0, typeOID: 25, typeModifier: -1)
            })
    }

    @discardableResult
    mutating func begin(xid: UInt32 = 1) throws -> LSN {
        lsn += 0x100
        try assembler.handle(.begin(finalLSN: LSN(lsn), commitTime: PostgresTime(microseconds: Int64(lsn)), xid: xid))
        return LSN(lsn)
    }

    @discardableResult
    mutating func commit() throws -> LSN {
        try assembler.handle(
            .commit(commitLSN: LSN(lsn), endLSN: LSN(lsn + 8), commitTime: PostgresTime(microseconds: Int64(lsn))))
        return LSN(lsn + 8)
    }

    mutating func insert(_ table: UInt32, _ row: [String]) throws {
        try assembler.handle(.insert(relation: table, new: tuple(row), xid: nil))
    }

    mutating func update(_ table: UInt32, _ row: [String], oldKey: [String]? = nil, full: Bool = false) throws {
        let old = oldKey.map { OldTuple(kind: full ? .full : .key, tuple: tuple($0)) }
        try assembler.handle(.update(relation: table, old: old, new: tuple(row), xid: nil))
    }

    mutating func delete(_ table: UInt32, _ key: [String]) throws {
        try assembler.handle(.delete(relation: table, old: OldTuple(kind: .key, tuple: tuple(key)), xid: nil))
    }

    struct NothingToTake: Error {}

    /// What is complete; a test that expects something fails without it.
    mutating func take() throws -> ChangeChunk {
        guard let chunk = assembler.take() else { throw NothingToTake() }
        return chunk
    }

    private mutating func tuple(_ values: [String]) -> TupleReference {
        let first = assembler.arena.cells.count
        for value in values {
            switch value {
            case Self.null: assembler.arena.cells.append(Cell(kind: .null))
            case Self.unchanged: assembler.arena.cells.append(Cell(kind: .unchanged))
            default:
                let offset = assembler.arena.bytes.count
                assembler.arena.bytes.append(contentsOf: Array(value.utf8))
                assembler.arena.cells.append(Cell(kind: .binary, offset: offset, length: Int32(value.utf8.count)))
            }
        }
        return TupleReference(
            firstCell: first, count: values.count, hasUnchanged: values.contains(Self.unchanged))
    }
}

extension ChangeChunk {
    /// A tuple in the script's own words.
    func words(_ tuple: TupleReference) -> [String] { tuple.cells.map { words(cell: $0) } }

    func words(cell index: Int) -> String {
        let cell = arena.cells[index]
        switch cell.kind {
        case .null: return StreamScript.null
        case .unchanged: return StreamScript.unchanged
        case .text, .binary:
            return String(decoding: arena.bytes[cell.offset..<(cell.offset + Int(cell.length))], as: UTF8.self)
        }
    }
}
