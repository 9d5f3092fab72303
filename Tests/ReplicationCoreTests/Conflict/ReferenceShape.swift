@testable import ReplicationCore

/// Which tables a run of the reference simulation has, and how their rows refer to others.
///
/// Each table has a key that is the same on both sides, a number of each side's own, and perhaps a column that holds such
/// numbers of another table, or of its own.
struct ReferenceShape: Sendable {
    enum OnDelete: CaseIterable, Sendable { case nullify, delete, keep }

    struct Table: Sendable {
        var name: String
        /// The table whose rows it refers to, and what becomes of those references.
        var parent: Int?
        var isReferenced = false
        var onDelete = OnDelete.nullify
        /// NOT NULL.
        var isRequired = false
        var owner = TableOwnership.ColumnOwner.shared(SharedColumnRule(policy: .lastWrite))

        /// Whether a side's clients write the reference.
        func mayRefer(_ side: Int) -> Bool {
            guard parent != nil, case .owned(let name) = owner else { return parent != nil }
            return name == ReferenceShape.sides[side]
        }
    }

    /// Who writes a table's references, as a side sees it to which they come.
    func writer(of table: Int, on target: Int) -> EndedRow.Writer {
        guard case .owned(let name) = tables[table].owner else { return .both }
        return name == Self.sides[target] ? .target : .source
    }

    static let sides = ["bot", "sync"]
    static let hotels = 0, rooms = 1
    static let columns = ["key", "id", "up"]

    let tables: [Table]

    /// Rooms in hotels.
    ///
    /// - Parameters:
    ///   - isRequired: whether each room is in one.
    ///   - owner: whose services alone write in which one a room is.
    static func pair(_ onDelete: OnDelete, isRequired: Bool = false, owner: String? = nil) -> ReferenceShape {
        var rooms = Table(name: "rooms", parent: hotels, onDelete: onDelete, isRequired: isRequired)
        if let owner { rooms.owner = .owned(by: owner) }
        return ReferenceShape(tables: [Table(name: "hotels", isReferenced: true), rooms])
    }

    private init(tables: [Table]) { self.tables = tables }

    /// - Parameters:
    ///   - hasDeletes: whether clients delete rows.
    ///   - hasForeignKeys: what may not be empty needs them, for `check`.
    init(_ random: inout SplitMix, hasDeletes: Bool, hasForeignKeys: Bool) {
        var tables = [Table(name: "hotels", isReferenced: true), Table(name: "rooms", parent: Self.hotels)]
        switch random.below(4) {
        case 0:
            tables[Self.rooms].isReferenced = true
            tables.append(Table(name: "beds", parent: Self.rooms))
        case 1:
            tables[Self.hotels].parent = Self.hotels
        default:
            break
        }
        for index in tables.indices where tables[index].parent != nil {
            tables[index].onDelete = OnDelete.allCases[random.below(3)]
            // `check` refuses deletes in a circle, and what a column that may not be empty could not bear.
            if tables[index].parent == index, tables[index].onDelete == .delete { tables[index].onDelete = .nullify }
            if hasForeignKeys, tables[index].parent != index, !tables[index].isReferenced, random.chance(40) {
                tables[index].isRequired = true
                tables[index].onDelete = hasDeletes || random.chance(50) ? .delete : .keep
            }
            switch random.below(10) {
            case ..<5: break
            case ..<8:
                let side = Self.sides[random.below(2)]
                tables[index].owner = .shared(SharedColumnRule(policy: .prefer, side: side))
            default: tables[index].owner = .owned(by: Self.sides[random.below(2)])
            }
        }
        self.tables = tables
    }

    func names() -> [QualifiedName] { tables.map { QualifiedName(schema: "public", name: $0.name) } }

    /// Tables whose rows refer to a table's.
    func referrers(to table: Int) -> [Int] { tables.indices.filter { tables[$0].parent == table } }

    /// What a side sends, by table.
    func layouts(source: Int) throws -> [SplitTable] {
        let names = names()
        return try tables.enumerated().map { index, table in
            var ownership = TableOwnership(
                table: names[index], match: ["key"], insertOwners: Set(Self.sides), deleteOwners: Set(Self.sides), privateColumns: [],
                columns: ["key": .shared(SharedColumnRule(policy: .queue))])
            ownership.surrogate = "id"
            ownership.isReferenced = table.isReferenced
            if let parent = table.parent {
                ownership.columns["up"] = table.owner
                ownership.references["up"] = names[parent]
            }
            let relation = RelationMessage(
                id: UInt32(index), name: names[index], replicaIdentity: .full,
                columns: Self.columns.map { RelationMessage.Column(isKey: true, name: $0, typeOID: 21, typeModifier: -1) })
            return try SplitTable(
                id: index, relation: relation, ownership: ownership, source: Self.sides[source], target: Self.sides[1 - source])
        }
    }
}

/// A row's place in a database: which table, and its key there.
struct ReferencePlace: Hashable, CustomStringConvertible {
    let table: Int
    let key: Int

    init(_ table: Int, _ key: Int) { (self.table, self.key) = (table, key) }
    init(_ key: RowKey) { self.init(key.table, SimulatedRow.value(key.values[0]) ?? -1) }

    var rowKey: RowKey { RowKey(table: table, values: [SimulatedRow.bytes(key)]) }
    var description: String { "\(table):\(key)" }
}
