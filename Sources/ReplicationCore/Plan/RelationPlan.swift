/// How one definition of a source table is applied to its table on the target: which columns, found by which key.
///
/// Never changes: who is handed one for each change shares it.
public final class RelationPlan: Sendable {
    public struct Column: Sendable, Equatable {
        /// Position in the stream's tuples.
        public var sourceIndex: Int
        public var name: String
        /// Type of a single-value parameter: the target's type under all domains.
        public var typeOID: UInt32
        /// The same in SQL; `nil` when a cast to it could change the value.
        public var typeName: String?
        /// Type of an array parameter and of its elements; 0 when the column cannot travel in arrays.
        public var arrayOID: UInt32
        public var elementOID: UInt32
        /// What finds its values by an index.
        public var equality = "="
        /// What the elements are cast to: text is read by the server, as a text parameter would be.
        public var elementCast: String?
    }

    public enum Identity: Sendable, Equatable {
        /// Rows are found by these columns, as indexes into `columns`.
        case key([Int])
        /// Rows are found by comparing every column; of several equal rows one is meant.
        case wholeRow
    }

    public let table: QualifiedName
    public let columns: [Column]
    public let identity: Identity
    /// Whether the source sends the whole old row.
    public let sendsFullOldRow: Bool
    /// Columns of the stream that stay behind.
    public let withheldCount: Int
    /// Transactions whose commit record lies before this LSN are in the table already, through its copy.
    public let copiedUpTo: LSN
    /// Columns in the stream's tuples.
    public let sourceWidth: Int
    /// Whether many rows may go into one statement.
    public let isBulk: Bool
    /// Whether the stream carries the columns' values in binary form.
    public let isBinary: Bool
    /// Whether its triggers see each change, and with it what other tables hold at that moment.
    public let firesTriggers: Bool
    /// Whether children inherit from the target's table: a change of it must not reach them.
    public let isOrdinary: Bool
    /// Whether no constraint of the target compares rows of different keys: each may then be changed without regard to others.
    public let rowsAreApart: Bool

    private init(
        table: QualifiedName, columns: [Column], identity: Identity, sendsFullOldRow: Bool, withheldCount: Int,
        copiedUpTo: LSN, sourceWidth: Int, isBulk: Bool, isBinary: Bool, firesTriggers: Bool, isOrdinary: Bool, rowsAreApart: Bool
    ) {
        self.table = table
        self.columns = columns
        self.identity = identity
        self.sendsFullOldRow = sendsFullOldRow
        self.withheldCount = withheldCount
        self.copiedUpTo = copiedUpTo
        self.sourceWidth = sourceWidth
        self.isBulk = isBulk
        self.isBinary = isBinary
        self.firesTriggers = firesTriggers
        self.isOrdinary = isOrdinary
        self.rowsAreApart = rowsAreApart
    }

    /// The table in SQL, without the tables that inherit from it.
    public var onlyTable: String { (isOrdinary ? "ONLY " : "") + table.sql }

    /// Compares the definition with the target's table and lays out the columns that travel.
    ///
    /// - Parameters:
    ///   - match: the columns that find a row; `nil` for the stream's own key.
    ///   - travels: whether a column of the source may be written to the target.
    ///   - isBinary: whether the stream carries binary values; text ones travel in arrays of text.
    ///   - allowsBulk: false where the target must see each change alone, as its triggers do.
    public static func make(
        relation: RelationMessage, target: TableDescription?, copiedUpTo: LSN = .zero, isBinary: Bool,
        allowsBulk: Bool = true, match: [String]? = nil,
        travels: (String) -> Bool
    ) throws(SchemaMismatch) -> RelationPlan {
        guard let target else { throw SchemaMismatch(table: relation.name, problems: [.missingTable]) }
        var columns: [Column] = []
        var problems: [SchemaMismatch.Problem] = []
        var key: [Int] = []
        var isBulk = true
        for (index, source) in relation.columns.enumerated() where travels(source.name) {
            guard let column = target.column(source.name) else {
                problems.append(.missingColumn(source.name))
                continue
            }
            if column.isGenerated {
                if source.isKey { problems.append(.generatedKey(source.name)) }
                continue
            }
            // In a split a value of the former type may be on its way.
            if !TypeCompatibility.holds(source, in: column, asText: match != nil) {
                problems.append(.typeDiffers(source.name, targetType: column.type))
            }
            if source.isKey { key.append(columns.count) }
            let laidOut = Column(sourceIndex: index, column, isBinary: isBinary)
            isBulk = isBulk && laidOut.arrayOID != 0
            columns.append(laidOut)
        }
        for source in relation.columns where match == nil && source.isKey && !travels(source.name) {
            if relation.replicaIdentity != .full { problems.append(.withheldKey(source.name)) }
        }
        guard problems.isEmpty else { throw SchemaMismatch(table: relation.name, problems: problems) }
        let matched = match?.compactMap { name in columns.firstIndex { $0.name == name } }
        let identity = matched.map { .key($0) } ?? identity(relation: relation, target: target, columns: columns, key: key)
        let found = if case .key(let key) = identity { key.map { columns[$0].name } } else { [String]() }
        let refused = columns.map(\.name).filter { target.refusesUpdates(of: $0, key: found) }
        guard refused.isEmpty else {
            throw SchemaMismatch(table: relation.name, problems: refused.map { .identityAlways($0) })
        }
        return RelationPlan(
            table: target.name, columns: columns, identity: identity,
            sendsFullOldRow: relation.replicaIdentity == .full,
            withheldCount: relation.columns.count - columns.count, copiedUpTo: copiedUpTo,
            sourceWidth: relation.columns.count, isBulk: isBulk && allowsBulk && identity != .wholeRow, isBinary: isBinary,
            firesTriggers: !allowsBulk, isOrdinary: target.kind == .ordinary,
            rowsAreApart: identity != .wholeRow && target.comparingIndexCount <= (target.hasUniqueKey(found) ? 1 : 0))
    }

    /// With `REPLICA IDENTITY FULL` the stream marks every column as key: a unique, never-null key of the target
    /// finds the row faster and without ambiguity.
    private static func identity(
        relation: RelationMessage, target: TableDescription, columns: [Column], key: [Int]
    ) -> Identity {
        guard relation.replicaIdentity == .full else { return key.isEmpty ? .wholeRow : .key(key) }
        let positions = target.primaryKey.map { name in columns.firstIndex { $0.name == name } }
        let found = positions.compactMap { $0 }
        return found.isEmpty || found.count < positions.count ? .wholeRow : .key(found)
    }
}

extension RelationPlan.Column {
    /// `text` and its array type.
    private static let text: (element: UInt32, array: UInt32) = (25, 1009)

    init(sourceIndex: Int, _ column: ColumnDescription, isBinary: Bool) {
        self.sourceIndex = sourceIndex
        name = column.name
        typeOID = column.baseTypeOID
        typeName = column.castName
        if let equality = column.equality { self.equality = equality }
        if isBinary {
            // Arrays of arrays do not exist: an array column has no array parameter in binary form.
            arrayOID = column.category == "A" ? 0 : column.baseArrayOID
            elementOID = typeOID
        } else {
            arrayOID = column.castName == nil ? 0 : Self.text.array
            elementOID = Self.text.element
            elementCast = typeOID == elementOID ? nil : column.castName
        }
    }
}

/// The target cannot take a table's changes as it is.
public struct SchemaMismatch: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Problem: Sendable, Equatable {
        case missingTable
        case missingColumn(String)
        case typeDiffers(String, targetType: String)
        /// The types have one name and another meaning.
        case definitionDiffers(String, TypeDifference)
        case generatedKey(String)
        case withheldKey(String)
        /// `GENERATED ALWAYS AS IDENTITY` on the target, where no update may name it.
        case identityAlways(String)
        /// The ownership rules were read before the column came.
        case unownedColumn(String)
        /// The ownership rules speak of no table with that name. With its OID on the source, which stays when the name does not.
        case unknownTable(UInt32)
        /// Another table has the name than when it was copied. With its OID on the source.
        case anotherTable(UInt32)
        /// Values that have one of these are refused.
        case missingLabels(MissingLabels)
    }

    public var table: QualifiedName
    public var problems: [Problem]

    public init(table: QualifiedName, problems: [Problem]) {
        self.table = table
        self.problems = problems
    }

    public var description: String {
        problems.map { problem in
            switch problem {
            case .missingTable: "Table \(table) does not exist on the target."
            case .anotherTable: "Table \(table) of the source is another one than was copied."
            case .unknownTable: "Table \(table) is none that lindero.yaml speaks of."
            case .missingColumn(let name): "Column \(table).\(name) does not exist on the target."
            case .typeDiffers(let name, let type): "Column \(table).\(name) is \(type) on the target, and another type on the source."
            case .definitionDiffers(let name, let difference):
                "Type \(difference.type) of \(table).\(name) is \(difference.source) on the source and \(difference.target) on the target."
            case .generatedKey(let name): "Key column \(table).\(name) is generated on the target."
            case .unownedColumn(let name): "Column \(table).\(name) is new on the source, and nobody owns it yet."
            case .identityAlways(let name):
                "Column \(table).\(name) is GENERATED ALWAYS AS IDENTITY where it arrives, so that PostgreSQL refuses every update of it."
            case .missingLabels(let missing): "Enum \(missing.type), in columns of \(table), lacks \(missing.list) on the target."
            case .withheldKey(let name): "Key column \(table).\(name) is private, so rows cannot be found on the target."
            }
        }.joined(separator: " ")
    }
}
