/// Who owns every column of every table: the configuration, resolved against a database's tables.
///
/// What a file leaves out is filled in like this:
/// - A table takes exactly one rule: the one that names it, else the last pattern that matches it.
/// - `match`: the primary key; without one, the columns of the replica identity's index; else empty.
/// - `insert` and `delete`: every database that owns at least one column of the table; every database that is no
///   physical standby, when no column has an owner.
/// - Key columns (of `match` and of the primary key) that are not listed belong to who inserts: owned when that is
///   one database, shared under `defaults.conflict` when it is several. Keys are written once, with the row.
/// - Other columns that are not listed: a problem, or the origin's, as `defaults.unlisted_column` says.
/// - No `tables:` at all: the origin owns every table (`shared` and `replica`); `split` needs them.
///
/// Generated columns have no owner, since nobody writes them, and partitions follow their partitioned table.
public struct OwnershipPolicy: Sendable, Equatable {
    /// Only tables that a rule covers.
    public let tables: [QualifiedName: TableOwnership]

    /// Whether services move between the databases of a split, and both write everything (`inTransition`).
    public let isInTransition: Bool

    public init(tables: [QualifiedName: TableOwnership], isInTransition: Bool = false) {
        self.tables = tables
        self.isInTransition = isInTransition
    }

    /// Checks every rule against the tables and answers who owns what.
    ///
    /// - Parameters:
    ///   - tables: descriptions from the origin; those that no rule covers are passed over.
    ///   - otherNames: names of further tables in the database, to find the nearest one to a misspelled name.
    /// - Throws: every problem at once, each with the place in the file.
    public static func resolve(
        _ configuration: LinderoConfiguration, tables: [TableDescription], otherNames: [QualifiedName] = []
    ) throws(OwnershipError) -> OwnershipPolicy {
        if configuration.tables.isEmpty { return try ownedByOrigin(configuration, tables: tables) }
        let selection = TableSelection(rules: configuration.tables, tables: tables)
        var problems = selection.problems(otherNames: otherNames)
        var resolved: [QualifiedName: TableOwnership] = [:]
        for (index, chosen) in selection.tablesByRule.enumerated() {
            let rule = configuration.tables[index]
            problems += unknownInEvery(chosen, rule: rule, isPattern: selection.isPattern(index))
            for table in chosen {
                var resolver = TableResolver(
                    configuration: configuration, rule: rule, table: table,
                    isPattern: selection.isPattern(index))
                resolved[table.name] = resolver.resolve()
                problems += resolver.problems
            }
        }
        problems += addReferences(configuration, selection, tables, to: &resolved)
        guard problems.isEmpty else { throw OwnershipError(problems: inOrder(problems)) }
        return OwnershipPolicy(tables: resolved)
    }

    /// The names of the tables that the configuration covers: those a rule matches, or all when it has no rules.
    public static func selectedNames(
        _ configuration: LinderoConfiguration, among names: [QualifiedName]
    ) -> [QualifiedName] {
        if configuration.tables.isEmpty { return names }
        let patterns = configuration.tables.compactMap { TablePattern($0.pattern) }
        let exactNames = Set(patterns.compactMap(\.exactName))
        let wide = patterns.filter { $0.exactName == nil }
        return names.filter { name in exactNames.contains(name) || wide.contains { $0.matches(name) } }
    }

    private static func ownedByOrigin(
        _ configuration: LinderoConfiguration, tables: [TableDescription]
    ) throws(OwnershipError) -> OwnershipPolicy {
        guard configuration.backend != .split else {
            throw OwnershipError(problems: [OwnershipProblem(.splitWithoutTables)])
        }
        let rule = TableRule(pattern: "*", owned: [configuration.origin: ["*"]])
        var resolved: [QualifiedName: TableOwnership] = [:]
        for table in tables where !table.isPartition {
            var resolver = TableResolver(
                configuration: configuration, rule: rule, table: table, isPattern: true)
            resolved[table.name] = resolver.resolve()
        }
        return OwnershipPolicy(tables: resolved)
    }

    /// A reference needs the other table's identity, so it is resolved after all of them.
    private static func addReferences(
        _ configuration: LinderoConfiguration, _ selection: TableSelection, _ tables: [TableDescription],
        to resolved: inout [QualifiedName: TableOwnership]
    ) -> [OwnershipProblem] {
        guard configuration.tables.contains(where: { !$0.split.references.isEmpty }) else { return [] }
        let byName = Dictionary(tables.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        var problems: [OwnershipProblem] = []
        for (index, chosen) in selection.tablesByRule.enumerated() {
            for table in chosen {
                var resolver = TableResolver(
                    configuration: configuration, rule: configuration.tables[index], table: table,
                    isPattern: selection.isPattern(index))
                let references = resolver.references(byName, resolved)
                resolved[table.name]?.references = references
                for name in references.values {
                    resolved[name]?.isReferenced = true
                    resolved[name]?.surrogate = byName[name]?.primaryKey.first
                }
                problems += resolver.problems
            }
        }
        return problems
    }

    /// A pattern may name a column that some of its tables lack, but not one that all of them lack.
    private static func unknownInEvery(
        _ tables: [TableDescription], rule: TableRule, isPattern: Bool
    ) -> [OwnershipProblem] {
        guard isPattern, let first = tables.first else { return [] }
        var names: [(name: String, use: String, mark: String)] = []
        for (owner, columns) in rule.owned { names += columns.map { ($0, "columns.\(owner)", $0) } }
        names += rule.shared.keys.map { ($0, "columns.shared", $0) }
        names += rule.privateColumns.map { ($0, "private", "private \($0)") }
        names += rule.split.fill.keys.map { ($0, "fill", "fill \($0)") }
        names += rule.split.references.keys.map { ($0, "references", "references \($0)") }
        return names.compactMap { entry in
            if entry.name == "*" || tables.contains(where: { $0.column(entry.name) != nil }) { return nil }
            return OwnershipProblem(
                .unknownColumn(entry.name, table: first.name, use: entry.use), mark: rule.marks[entry.mark],
                suggestion: NearestWord.among(first.columns.map(\.name), to: entry.name))
        }
    }

    private static func inOrder(_ problems: [OwnershipProblem]) -> [OwnershipProblem] {
        problems.enumerated().sorted { left, right in
            let leftMark = left.element.mark ?? SourceMark(line: 0, column: 0)
            let rightMark = right.element.mark ?? SourceMark(line: 0, column: 0)
            return (leftMark.line, leftMark.column, left.offset) < (
                rightMark.line, rightMark.column, right.offset
            )
        }.map(\.element)
    }
}
