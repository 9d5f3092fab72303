import PostgresClient
import ReplicationCore

/// The statements of the tables that a direction writes, by definition in its stream.
struct SplitTargets: Sendable {
    let settings: DirectionSettings
    let isBinary: Bool
    /// Types of the source's own, as its catalog showed them when the stream began.
    private let userTypes: [UInt32: ColumnDescription]
    private var known: [Int: SplitStatements] = [:]

    /// - Parameter binaryTypes: see `DirectionSettings.binaryTypes`; `nil` where the streams are text.
    init(settings: DirectionSettings, binaryTypes: [UInt32: ColumnDescription]?) {
        self.settings = settings
        isBinary = binaryTypes != nil
        userTypes = binaryTypes ?? [:]
    }

    /// Has every statement made anew: a table was altered.
    mutating func forgetAll() { known = [:] }

    subscript(definition: Int) -> SplitStatements? { known[definition] }

    /// What the tables of some definitions were when they were looked at.
    func shapes(of definitions: Set<Int>) -> [TargetShape] {
        Set(definitions.compactMap { known[$0]?.shape }).sorted { $0.oid < $1.oid }
    }

    /// Tables that rows of some definitions refer to, and all that may follow them when they change or go.
    func related(to definitions: Set<Int>) -> Set<QualifiedName> {
        let tables = settings.policy?.tables ?? [:]
        let own = Set(definitions.compactMap { known[$0]?.target.table.name })
        if own.isEmpty || tables.values.allSatisfy(\.references.isEmpty) { return [] }
        var following = own
        var found = own
        while !found.isEmpty {
            found = Set(tables.values.filter { !found.isDisjoint(with: $0.references.values) }.map(\.table)).subtracting(following)
            following.formUnion(found)
        }
        return following.union(following.flatMap { tables[$0]?.references.values.map { $0 } ?? [] }).subtracting(own)
    }

    /// How many references lead from a definition's table to one that has none.
    func depth(of definition: Int) -> Int {
        guard let table = known[definition]?.target.table, !table.references.isEmpty else { return 0 }
        return depth(of: table.name, path: [])
    }

    private func depth(of table: QualifiedName, path: Set<QualifiedName>) -> Int {
        guard let referenced = settings.policy?.tables[table]?.references.values, !path.contains(table) else { return 0 }
        return referenced.map { depth(of: $0, path: path.union([table])) + 1 }.max() ?? 0
    }

    /// Whether a definition's rows may have to wait for those that they refer to.
    func mayWait(_ definition: Int) -> Bool {
        guard let target = known[definition]?.target, target.references.values.contains(where: \.isRequired),
            let ownership = settings.policy?.tables[target.table.name]
        else { return false }
        // Others make none, or may not take back what they have brought.
        return ownership.insertOwners.contains(settings.sourceName) && ownership.deleteOwners.contains(settings.sourceName)
    }

    /// Whether `resolve` would have nothing to do.
    func hasAll(_ group: SplitGroup) -> Bool {
        missing(group).isEmpty
    }

    private func missing(_ group: SplitGroup) -> [Int: (table: SplitTable, relation: RelationMessage)] {
        var missing: [Int: (table: SplitTable, relation: RelationMessage)] = [:]
        for item in group.items {
            var last: Int?
            for transaction in item.transactions {
                for operation in transaction.operations where operation.relation != last {
                    last = operation.relation
                    guard known[operation.relation] == nil, let table = item.chunk.tables[operation.relation],
                        let relation = item.chunk.chunk.relations[operation.relation]
                    else { continue }
                    missing[operation.relation] = (table, relation)
                }
            }
        }
        return missing
    }

    /// Looks at the catalogs for definitions that are not known yet.
    ///
    /// - Parameter source: whose numbers references are.
    /// - Throws: `SchemaMismatch` when the target cannot take a table's changes, `ApplyError.needsText` when it can't in binary.
    mutating func resolve(_ group: SplitGroup, on target: PostgresConnection, from source: PostgresConnection) async throws {
        let missing = missing(group)
        if missing.isEmpty { return }
        let names = missing.values.map(\.table.name)
        // First the shapes: what is altered in between no longer has the one that is known of it.
        let shapes = try await TargetShape.read(target, names)
        let tables = try await CatalogReader.tables(target, matching: names)
        let referring = missing.values.filter { !$0.table.references.isEmpty }.map(\.table.name)
        let there = referring.isEmpty ? [] : try await CatalogReader.tables(source, matching: referring)
        for (definition, (table, relation)) in missing {
            let description = tables.first { $0.name == table.name }
            let here = there.first { $0.name == table.name }
            try settings.targetTables.require(description)
            try settings.sourceTables.require(here)
            try requireFit(relation, description)
            // Altered since the stream began: the bytes are of the former type, and the source is asked about them.
            let isAltered = relation.columns.contains { column in
                here?.column(column.name).map { $0.typeOID != column.typeOID } ?? false
            }
            if isBinary, isAltered { throw ApplyError.needsText(relation.name) }
            let target = try SplitTarget(table, target: description, source: here, policy: settings.policy)
            // Made since: nothing has this shape, so that the group asks again.
            let shape = shapes[table.name] ?? description.map { TargetShape(oid: $0.oid, text: "", fires: false) }
            known[definition] = SplitStatements(target: target, shape: shape, isBinary: isBinary, settings: settings)
        }
    }

    /// What goes row by row is to keep its values, as what goes in bulk does (`PlanCache`): bytes mean what their type says, and
    /// nothing is rounded, as text neither (a timestamp is a date to the server, and a long number a `real`). References are
    /// written as the target's own numbers.
    private func requireFit(_ relation: RelationMessage, _ target: TableDescription?) throws {
        guard let target else { return }
        let references = settings.policy?.tables[relation.name]?.references ?? [:]
        var sent = relation
        sent.columns.removeAll { !settings.travels(relation.name, $0.name) || references[$0.name] != nil }
        // First: as text a value of the former type may fit.
        if isBinary, !TypeCompatibility.travelsInBinary(sent, to: target, userTypes: userTypes) { throw ApplyError.needsText(relation.name) }
        let altering = sent.columns.compactMap { source -> SchemaMismatch.Problem? in
            guard let column = target.column(source.name), !column.isGenerated,
                !TypeCompatibility.holds(source, in: column, asText: true)
            else { return nil }
            return .typeDiffers(source.name, targetType: column.type)
        }
        if !altering.isEmpty { throw SchemaMismatch(table: relation.name, problems: altering) }
    }
}
