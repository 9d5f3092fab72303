/// What of a table is compared, and by which key.
public struct VerifyTable: Sendable, Equatable {
    public struct KeyColumn: Sendable, Equatable {
        public var name: String
        /// What a value in text form is cast to on each side.
        public var sourceType: String
        public var targetType: String

        public func type(_ side: VerifySide) -> String { side == .source ? sourceType : targetType }
    }

    public struct Column: Sendable, Equatable {
        public var name: String
        /// What the source's value is cast to first, because the target keeps it as another type.
        public var sourceCast: String?
        /// Whether the source's values have trailing spaces that a cast to text would lose (`char(n)`).
        public var isPadded = false
        /// Whether it holds bytes, whose text form would be twice as long.
        public var isBytes: Bool
        /// Whether a split compares its values byte by byte (`COLLATE "C"`): texts, and arrays of them.
        public var isText = false
    }

    /// One pass over a side's rows, in its own order.
    public struct Walk: Sendable, Equatable {
        public var side: VerifySide
        /// Indexes into `key`, in the order of that side's index.
        public var order: [Int]

        public init(side: VerifySide, order: [Int]) {
            self.side = side
            self.order = order
        }
    }

    /// Why a table cannot be compared.
    public enum Obstacle: Error, Sendable, Equatable, CustomStringConvertible {
        case notOnTarget
        case noKey
        case nullableKey([String])
        case missingColumns([String])
        /// An extension's type, whose operators nobody can name safely.
        case keyType(column: String, type: String)
        /// Values that are one key on one side may be two on the other.
        case keyEquality(column: String)
        /// The initial copy is not done with it.
        case notCopied

        public var description: String {
            switch self {
            case .notOnTarget: "the target has no such table"
            case .noKey: "it has no key by which a row could be found on the other side"
            case .nullableKey(let columns): "its match columns may be NULL: \(SQLText.list(columns))"
            case .missingColumns(let columns): "the target lacks \(SQLText.list(columns))"
            case .keyType(let column, let type): "its key column \"\(column)\" is of the extension's type \(type)"
            case .keyEquality(let column):
                "values of its key column \"\(column)\" may be equal on one side and different on the other (a nondeterministic "
                    + "collation, or another type)"
            case .notCopied: "its initial copy is not done"
            }
        }
    }

    public var name: QualifiedName
    /// Each side's table in SQL, without those that inherit from it.
    public var sourceRows: String
    public var targetRows: String
    public var key: [KeyColumn]
    public var columns: [Column]
    /// Only rows of the source that this SQL condition holds for travel.
    public var sourceFilter: String?
    /// One when both sides have their keys in the same order: then a stretch of keys is the same rows on both. Else one
    /// for each side, and the other side is asked for the keys that were found.
    public var walks: [Walk]

    public var isOrderShared: Bool { walks.count == 1 }

    public func rows(_ side: VerifySide) -> String { side == .source ? sourceRows : targetRows }

    /// Decides what is compared.
    ///
    /// - Parameters:
    ///   - ownership: `nil` when everything travels.
    ///   - published: the columns that a publication sends; `nil` for all.
    ///   - collations: what decides the order of a text column on each side; `nil` when that is not known.
    public static func make(
        source: TableDescription, target: TableDescription?, ownership: TableOwnership?, direction: VerifyDirection,
        published: Set<String>? = nil, sourceFilter: String? = nil,
        collations: (VerifySide, String) -> String? = { _, _ in nil }
    ) throws(Obstacle) -> VerifyTable {
        guard let target else { throw .notOnTarget }
        let compared = source.columns.filter { column in
            !column.isGenerated && published?.contains(column.name) != false && direction.compares(column.name, ownership)
        }
        let missing = compared.filter { column in target.column(column.name).map(\.isGenerated) ?? true }.map(\.name)
        guard missing.isEmpty else { throw .missingColumns(missing) }
        let names = try keyNames(source, ownership: ownership, compared: Set(compared.map(\.name)))
        let pairs = names.compactMap { name in
            source.column(name).flatMap { column in target.column(name).map { (source: column, target: $0) } }
        }
        if let strange = pairs.first(where: { !KeyOrder.isKnown($0.source) || !KeyOrder.isKnown($0.target) })?.source {
            throw .keyType(column: strange.name, type: strange.type)
        }
        for pair in pairs {
            let rules = (collations(.source, pair.source.name), collations(.target, pair.target.name))
            guard KeyOrder.hasSameEquality(pair.source, pair.target, rules.0, rules.1) else {
                throw .keyEquality(column: pair.source.name)
            }
        }
        let sourceOrder = Array(names.indices)
        let targetOrder = order(of: names, in: target)
        let isOrderShared =
            targetOrder == sourceOrder
            && pairs.allSatisfy { pair in
                KeyOrder.isSame(
                    pair.source, pair.target, collations(.source, pair.source.name), collations(.target, pair.target.name))
            }
        let walk = Walk(side: .source, order: sourceOrder)
        return VerifyTable(
            name: source.name, sourceRows: source.only, targetRows: target.only,
            key: pairs.map {
                KeyColumn(
                    name: $0.source.name, sourceType: $0.source.castName ?? $0.source.type,
                    targetType: $0.target.castName ?? $0.target.type)
            },
            columns: compared.map { column(source: $0, target: target.column($0.name) ?? $0) }, sourceFilter: sourceFilter,
            walks: isOrderShared ? [walk] : [walk, Walk(side: .target, order: targetOrder ?? sourceOrder)])
    }

    /// The match columns, in the order of the index that makes them unique. Where they may be NULL, the primary key.
    private static func keyNames(
        _ table: TableDescription, ownership: TableOwnership?, compared: Set<String>
    ) throws(Obstacle) -> [String] {
        let match = ownership?.match ?? (table.primaryKey.isEmpty ? table.identityColumns : table.primaryKey)
        let nullable = match.filter { table.column($0)?.isNotNull != true }
        if !match.isEmpty, nullable.isEmpty {
            let order = order(of: match, in: table) ?? Array(match.indices)
            return order.map { match[$0] }
        }
        if !table.primaryKey.isEmpty, compared.isSuperset(of: table.primaryKey) { return table.primaryKey }
        throw match.isEmpty ? .noKey : .nullableKey(nullable)
    }

    /// Where each column of a unique key stands in `names`; `nil` without an index over just these.
    private static func order(of names: [String], in table: TableDescription) -> [Int]? {
        let keys = ([table.primaryKey] + table.uniqueKeys).filter { Set($0) == Set(names) && $0.count == names.count }
        guard let key = keys.first(where: { $0 == names }) ?? keys.first else { return nil }
        return key.compactMap { names.firstIndex(of: $0) }
    }

    private static func column(source: ColumnDescription, target: ColumnDescription) -> Column {
        var cast: String?
        let isBuiltIn = [source, target].allSatisfy { $0.baseTypeOID < TypeCompatibility.firstUserOID && $0.baseTypeOID > 0 }
        if isBuiltIn, source.type != target.type {
            cast = target.typeOID == target.baseTypeOID ? target.type : target.castName
        }
        return Column(
            name: source.name, sourceCast: cast, isPadded: source.baseTypeOID == KeyOrder.bpcharOID, isBytes: target.baseTypeOID == byteaOID,
            isText: textOIDs.contains(target.baseTypeOID))
    }

    private static let byteaOID: UInt32 = 17
    /// name, text, bpchar, varchar, and their arrays.
    public static let textOIDs: Set<UInt32> = [19, 25, 1042, 1043, 1003, 1009, 1014, 1015]
    /// How what `collations` answers begins for one that calls different texts equal.
    public static let looseCollation = "nondeterministic/"
}

/// Whether two sides sort a key column alike.
enum KeyOrder {
    /// Types whose order follows from their values alone: numbers, times, bytes, addresses, `uuid`, `bool`.
    private static let plain: Set<UInt32> = [
        16, 17, 18, 20, 21, 23, 26, 700, 701, 829, 774, 869, 650, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950, 3220,
    ]
    private static let integers: Set<UInt32> = [20, 21, 23]
    /// Their order is a collation's.
    private static let text: Set<UInt32> = [25, 1042, 1043]

    /// Whether the type's operators are PostgreSQL's own.
    static func isKnown(_ column: ColumnDescription) -> Bool {
        column.baseTypeOID < TypeCompatibility.firstUserOID || column.baseKind == "e"
    }

    static let bpcharOID: UInt32 = 1042

    /// Whether two values are one key on the one side exactly when they are on the other: else a row could be looked for in
    /// vain that is there.
    static func hasSameEquality(
        _ source: ColumnDescription, _ target: ColumnDescription, _ sourceCollation: String?, _ targetCollation: String?
    ) -> Bool {
        let isLoose = [sourceCollation, targetCollation].contains { $0?.hasPrefix(VerifyTable.looseCollation) == true }
        if isLoose, sourceCollation != targetCollation { return false }
        if source.type == target.type { return true }
        let types = [source.baseTypeOID, target.baseTypeOID]
        if types.allSatisfy(integers.contains) { return true }
        // A length is a limit, and no rounding; char(n) alone passes over trailing spaces.
        if types.allSatisfy(text.contains), (types[0] == bpcharOID) == (types[1] == bpcharOID) { return true }
        // A modifier rounds; a domain may hide one.
        guard target.typeOID == target.baseTypeOID, !target.type.contains("(") else { return false }
        return integers.contains(types[0]) && types[1] == numericOID || types[0] == types[1]
    }

    private static let numericOID: UInt32 = 1700

    /// - Parameter sourceCollation: whatever two equal texts of mean one order; `nil` when it is not known.
    static func isSame(
        _ source: ColumnDescription, _ target: ColumnDescription, _ sourceCollation: String?, _ targetCollation: String?
    ) -> Bool {
        let types = [source.baseTypeOID, target.baseTypeOID]
        if types.allSatisfy(integers.contains) { return true }
        guard types[0] == types[1] else { return false }
        if plain.contains(types[0]) { return true }
        return text.contains(types[0]) && sourceCollation != nil && sourceCollation == targetCollation
    }
}
