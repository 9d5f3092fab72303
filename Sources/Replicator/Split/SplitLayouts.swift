import ReplicationCore

/// How the tables of one side travel to the other, by definition in the stream.
struct SplitLayouts: Sendable {
    let side: Side
    let settings: DirectionSettings
    let tableIDs: [QualifiedName: Int]
    /// Tables whose rows come back to their maker with what this side gave them.
    let echoedTables: Set<QualifiedName>
    /// Where the stream is binary, the tables as the catalog had them when it began.
    let binaryTables: [QualifiedName: TableDescription]
    /// What shared columns had for rules before.
    let former: SplitPolicies.Rules
    private var known: [Int: SplitTable] = [:]

    init(
        side: Side, settings: DirectionSettings, tableIDs: [QualifiedName: Int], echoedTables: Set<QualifiedName>,
        binaryTables: [QualifiedName: TableDescription], former: SplitPolicies.Rules = [:]
    ) {
        self.side = side
        self.settings = settings
        self.tableIDs = tableIDs
        self.echoedTables = echoedTables
        self.binaryTables = binaryTables
        self.former = former
    }

    /// Layouts of a chunk's tables.
    ///
    /// - Throws: `SplitError`; `SchemaMismatch` for a column that nobody owns; `ApplyError.needsText`; `SplitRestart.unknown`.
    mutating func tables(of chunk: ChangeChunk) throws -> [Int: SplitTable] {
        if known.count > chunk.relations.count + 100 { known = known.filter { chunk.relations[$0.key] != nil } }
        var tables: [Int: SplitTable] = [:]
        for definition in chunk.usedDefinitions {
            if let table = known[definition] {
                tables[definition] = table
                continue
            }
            guard let relation = chunk.relations[definition] else { continue }
            guard settings.includes(relation.name), let ownership = settings.policy?.tables[relation.name], let id = tableIDs[relation.name]
            else {
                // It may be one of the split's under another name.
                if settings.isUnknown(relation.name) { throw SplitRestart.unknown(side, relation.name, oid: relation.id) }
                continue
            }
            if settings.sourceTables.isAnother(relation.id, than: relation.name) {
                throw SchemaMismatch(table: relation.name, problems: [.anotherTable(relation.id)])
            }
            guard hasOneForm(relation) else { throw ApplyError.needsText(relation.name) }
            let unowned = settings.unownedColumns(relation)
            if !unowned.isEmpty { throw SchemaMismatch(table: relation.name, problems: unowned.map { .unownedColumn($0) }) }
            let table = try SplitTable(
                id: id, relation: relation, ownership: ownership, source: settings.sourceName, target: settings.targetName,
                former: former[relation.name] ?? [:], echoesInserts: echoedTables.contains(relation.name),
                isOneWay: ownership.isOneWay(from: settings.sourceName, to: settings.targetName))
            known[definition] = table
            tables[definition] = table
        }
        return tables
    }

    /// A column whose type was altered has values of two forms in a binary stream, and its rows keys that differ; as text they
    /// have one.
    private func hasOneForm(_ relation: RelationMessage) -> Bool {
        guard let table = binaryTables[relation.name] else { return true }
        return relation.columns.allSatisfy { column in table.column(column.name).map { $0.typeOID == column.typeOID } ?? true }
    }
}

/// Whether rows that the other side made have to come back, with what this side gave to its own columns.
struct EchoRule {
    let ownership: TableOwnership
    /// The side whose columns are looked at, and the one that made the row.
    let side: String
    let maker: String

    /// - Parameters:
    ///   - here: the table as that side has it.
    ///   - there: the table as the maker has it.
    func isNeeded(here: TableDescription, there: TableDescription) -> Bool {
        here.columns.contains { column in
            guard !column.isGenerated, !ownership.match.contains(column.name),
                ownership.owner(of: column.name) == side,
                ownership.travels(column.name, from: side, to: maker, backend: .split)
            else { return false }
            if ownership.fill[column.name] != nil || column.identity != .none { return true }
            guard let other = there.column(column.name), other.identity == .none else { return true }
            let (mine, theirs) = (column.defaultExpression, other.defaultExpression)
            if mine == nil, theirs == nil {
                // A domain has a default of its own, of which the column says nothing.
                return column.typeOID != column.baseTypeOID || other.typeOID != other.baseTypeOID
            }
            // Whatever is no literal may give something else each time: a call, LOCALTIMESTAMP, USER.
            return mine != theirs || !Self.isLiteral(mine ?? "")
        }
    }

    /// Whether a default, as `pg_get_expr` writes it, is a number, a truth value, NULL or a text, with or without a type.
    static func isLiteral(_ expression: String) -> Bool {
        expression.wholeMatch(
            of: /(?:-?[0-9][0-9.eE+-]*|true|false|NULL|'(?:[^']|'')*')(?:::[A-Za-z0-9_." \[\](),]+)?/) != nil
    }
}
