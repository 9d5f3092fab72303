/// Which rule each table takes.
struct TableSelection {
    private let rules: [TableRule]
    private let patterns: [TablePattern?]
    private let tables: [TableDescription]
    /// For each rule, the tables that take it.
    private(set) var tablesByRule: [[TableDescription]]
    /// Rules that match at least one table, whether or not another rule takes it.
    private var matching: Set<Int> = []
    private var partitions: [(rule: Int, table: QualifiedName)] = []

    init(rules: [TableRule], tables: [TableDescription]) {
        self.rules = rules
        self.tables = tables
        patterns = rules.map { TablePattern($0.pattern) }
        tablesByRule = Array(repeating: [], count: rules.count)
        // Exact names by a dictionary: a thousand rules for a thousand tables must not become a million comparisons.
        var exact: [QualifiedName: Int] = [:]
        var wide: [(index: Int, pattern: TablePattern)] = []
        for (index, pattern) in patterns.enumerated() {
            guard let pattern else { continue }
            if let name = pattern.exactName { exact[name] = index } else { wide.append((index, pattern)) }
        }
        for table in tables {
            let matchingPatterns = wide.filter { $0.pattern.matches(table.name) }.map(\.index)
            matching.formUnion(matchingPatterns)
            if let index = exact[table.name] {
                matching.insert(index)
                if table.isPartition {
                    partitions.append((index, table.name))
                } else {
                    tablesByRule[index].append(table)
                }
            } else if let index = matchingPatterns.last, !table.isPartition {
                tablesByRule[index].append(table)
            }
        }
    }

    func isPattern(_ index: Int) -> Bool { patterns[index]?.exactName == nil }

    /// Names that do not exist, patterns that stand for nothing, partitions.
    func problems(otherNames: [QualifiedName]) -> [OwnershipProblem] {
        var problems: [OwnershipProblem] = []
        for (index, rule) in rules.enumerated() where !matching.contains(index) {
            let mark = rule.marks[""]
            guard let name = patterns[index]?.exactName else {
                problems.append(OwnershipProblem(.patternMatchesNothing(rule.pattern), mark: mark))
                continue
            }
            let names = tables.map(\.name) + otherNames
            // The same name in another schema is nearer than any spelling.
            let elsewhere = names.first { $0.name == name.name }
            let nearest = NearestWord.among(names.map(\.description), to: name.description)
            problems.append(
                OwnershipProblem(
                    .unknownTable(rule.pattern), mark: mark, suggestion: elsewhere?.description ?? nearest))
        }
        problems += partitions.map { OwnershipProblem(.partition($0.table), mark: rules[$0.rule].marks[""]) }
        return problems
    }
}
