import PostgresClient
import ReplicationCore

/// The statements of the tables that a direction writes, by definition in its stream.
struct SplitTargets: Sendable {
    let settings: DirectionSettings
    let isBinary: Bool
    private var known: [Int: SplitStatements] = [:]

    init(settings: DirectionSettings, isBinary: Bool) {
        self.settings = settings
        self.isBinary = isBinary
    }

    subscript(definition: Int) -> SplitStatements? { known[definition] }

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

    private func missing(_ group: SplitGroup) -> [Int: SplitTable] {
        var missing: [Int: SplitTable] = [:]
        for item in group.items {
            var last: Int?
            for transaction in item.transactions {
                for operation in transaction.operations where operation.relation != last {
                    last = operation.relation
                    if known[operation.relation] == nil { missing[operation.relation] = item.chunk.tables[operation.relation] }
                }
            }
        }
        return missing
    }

    /// Looks at the catalogs for definitions that are not known yet.
    ///
    /// - Parameter source: whose numbers references are.
    /// - Throws: `SchemaMismatch` when the target cannot take a table's changes.
    mutating func resolve(_ group: SplitGroup, on target: PostgresConnection, from source: PostgresConnection) async throws {
        let missing = missing(group)
        if missing.isEmpty { return }
        let tables = try await CatalogReader.tables(target, matching: missing.values.map(\.name))
        let referring = missing.values.filter { !$0.references.isEmpty }.map(\.name)
        let there = referring.isEmpty ? [] : try await CatalogReader.tables(source, matching: referring)
        for (definition, table) in missing {
            let target = try SplitTarget(
                table, target: tables.first { $0.name == table.name }, source: there.first { $0.name == table.name }, policy: settings.policy)
            known[definition] = SplitStatements(target: target, isBinary: isBinary, settings: settings)
        }
    }
}
