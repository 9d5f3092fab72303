/// Resolves one rule for one table, and collects what does not fit.
struct TableResolver {
    let configuration: LinderoConfiguration
    let rule: TableRule
    let table: TableDescription
    /// Under a pattern, columns of the rule that this table lacks are passed over.
    let isPattern: Bool
    var problems: [OwnershipProblem] = []

    private let byName: [String: ColumnDescription]
    /// smallint, integer, bigint, numeric: whatever the order of additions, the sum is the same.
    private static let exactNumbers: Set<UInt32> = [21, 23, 20, 1700]
    /// json, xml, point, lseg, path, box, polygon, line, circle, jsonpath and arrays of them: PostgreSQL has no greater one.
    /// Nor of xid, cid, aclitem, refcursor, snapshots, int2vector, gtsvector. jsonb compares texts by the database's collation,
    /// which may be another on the other side.
    private static let unordered: Set<UInt32> = [
        114, 142, 600, 601, 602, 603, 604, 628, 718, 4072, 199, 143, 1017, 1018, 1019, 1020, 1027, 629, 719, 4073,
        22, 28, 29, 1006, 1011, 1012, 1033, 1034, 1790, 2201, 2949, 2970, 3642, 3644, 5038, 5039, 3802, 3807,
    ]

    /// Of a user's types enums alone: `citext` and composites go by the database's collation, others need not have an order.
    private static func hasOneOrder(_ column: ColumnDescription) -> Bool {
        !unordered.contains(column.baseTypeOID) && (column.baseTypeOID < TypeCompatibility.firstUserOID || column.baseKind == "e")
    }

    init(configuration: LinderoConfiguration, rule: TableRule, table: TableDescription, isPattern: Bool) {
        self.configuration = configuration
        self.rule = rule
        self.table = table
        self.isPattern = isPattern
        byName = Dictionary(table.columns.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    }

    mutating func resolve() -> TableOwnership {
        let match = matchColumns()
        var columns = listedColumns()
        let owners = ownersOfSomething(columns)
        let insertOwners = rule.insertOwners.isEmpty ? owners : Set(rule.insertOwners)
        let deleteOwners = rule.deleteOwners.isEmpty ? owners : Set(rule.deleteOwners)
        fillUnlisted(&columns, keys: Set(match + table.primaryKey), insertOwners: insertOwners)
        let privateColumns = rule.privateColumns.filter { column in
            known(column, use: "private", mark: "private \(column)") != nil
        }
        var ownership = TableOwnership(
            table: table.name, match: match, insertOwners: insertOwners, deleteOwners: deleteOwners,
            privateColumns: Set(privateColumns), columns: columns)
        ownership.onError = rule.onError
        ownership.fill = fill(columns, match: match)
        ownership.onDelete = rule.split.onDelete
        ownership.surrogate = ownNumber(match: match, insertOwners: insertOwners)
        return ownership
    }

    /// A primary key that both sides would number, of rows that are known by something else.
    private func ownNumber(match: [String], insertOwners: Set<String>) -> String? {
        guard insertOwners.count > 1, table.primaryKey.count == 1, let column = table.column(table.primaryKey[0]),
            !match.contains(column.name), !match.isEmpty
        else { return nil }
        let isNumbered = column.identity != .none || column.defaultExpression?.contains("nextval(") == true
        return isNumbered ? column.name : nil
    }

    /// Owned columns that stay empty in a row from the other side; the match columns and the shared ones come with it.
    private mutating func fill(_ columns: [String: TableOwnership.ColumnOwner], match: [String]) -> [String: String] {
        var fill: [String: String] = [:]
        for (name, value) in rule.split.fill.sorted(by: { $0.key < $1.key }) {
            guard let column = known(name, use: "fill", mark: "fill \(name)") else { continue }
            if column.isGenerated {
                report(.generatedColumn(name, table: table.name, use: "fill"), mark: "fill \(name)")
            } else if case .shared? = columns[name] {
                report(.fillOfTravellingColumn(name, table: table.name), mark: "fill \(name)")
            } else if match.contains(name) {
                report(.fillOfTravellingColumn(name, table: table.name), mark: "fill \(name)")
            } else {
                fill[name] = value
            }
        }
        return fill
    }

    /// What `references` stands for, once every table is resolved.
    ///
    /// - Parameter tables: all that rules cover, by name.
    mutating func references(
        _ tables: [QualifiedName: TableDescription], _ resolved: [QualifiedName: TableOwnership]
    ) -> [String: QualifiedName] {
        var references: [String: QualifiedName] = [:]
        for (column, text) in rule.split.references.sorted(by: { $0.key < $1.key }) {
            let mark = "references \(column)"
            guard known(column, use: "references", mark: mark) != nil else { continue }
            guard let name = TablePattern(text)?.exactName, let other = tables[name], let ownership = resolved[name] else {
                problems.append(
                    OwnershipProblem(
                        .unknownReference(text, column: column, table: table.name), mark: rule.marks[mark],
                        suggestion: NearestWord.among(resolved.keys.map(\.description).sorted(), to: text)))
                continue
            }
            if resolved[table.name]?.match.contains(column) == true {
                report(.referenceInMatch(column, table: table.name), mark: mark)
            }
            if other.primaryKey.count != 1 || ownership.match == other.primaryKey {
                report(
                    .referenceWithoutSurrogate(
                        name, column: column, table: table.name, primaryKey: other.primaryKey, match: ownership.match), mark: mark)
            }
            references[column] = name
        }
        return references
    }

    private mutating func matchColumns() -> [String] {
        if rule.match.isEmpty { return table.primaryKey.isEmpty ? table.identityColumns : table.primaryKey }
        var isComplete = true
        for name in rule.match {
            guard let column = byName[name] else {
                reportUnknown(name, use: "match", mark: "match \(name)")
                isComplete = false
                continue
            }
            if column.isGenerated {
                report(.generatedColumn(name, table: table.name, use: "match"), mark: "match \(name)")
            }
        }
        let keys = ([table.primaryKey] + table.uniqueKeys).filter { !$0.isEmpty }
        if isComplete, !keys.contains(where: { Set($0) == Set(rule.match) }) {
            report(
                .matchIsNotUnique(rule.match, table: table.name, keys: keys),
                mark: "match \(rule.match.first ?? "")")
        }
        return rule.match
    }

    /// Columns that the rule names, and those that its `*` stands for.
    private mutating func listedColumns() -> [String: TableOwnership.ColumnOwner] {
        var columns: [String: TableOwnership.ColumnOwner] = [:]
        var rest: TableOwnership.ColumnOwner?
        for (owner, names) in rule.owned.sorted(by: { $0.key < $1.key }) {
            for name in names {
                if name == "*" {
                    rest = .owned(by: owner)
                } else if let column = known(name, use: "columns.\(owner)", mark: name), !column.isGenerated {
                    columns[name] = .owned(by: owner)
                }
            }
        }
        for (name, shared) in rule.shared.sorted(by: { $0.key < $1.key }) {
            if name == "*" {
                rest = .shared(shared)
                continue
            }
            guard let column = known(name, use: "columns.shared", mark: name) else { continue }
            if column.isGenerated {
                report(.generatedColumn(name, table: table.name, use: "columns.shared"), mark: name)
            } else {
                requireFit(column, shared.policy)
            }
            columns[name] = .shared(shared)
        }
        if let rest {
            for column in table.columns where !column.isGenerated && columns[column.name] == nil {
                columns[column.name] = rest
                if case .shared(let shared) = rest { requireFit(column, shared.policy) }
            }
        }
        return columns
    }

    /// A policy that adds or compares values needs a type that allows it.
    private mutating func requireFit(_ column: ColumnDescription, _ policy: SharedColumnRule.Policy) {
        // What rows are known by is never decided about.
        if (rule.match + table.primaryKey).contains(column.name) { return }
        switch policy {
        case .delta where !Self.exactNumbers.contains(column.baseTypeOID):
            report(.deltaNeedsNumber(column.name, table: table.name, type: column.type), mark: column.name)
        case .max where !Self.hasOneOrder(column), .min where !Self.hasOneOrder(column):
            report(.policyNeedsOrder(column.name, table: table.name, type: column.type), mark: column.name)
        case .lastWrite, .prefer, .max, .min, .delta, .queue: break
        }
    }

    private func ownersOfSomething(_ columns: [String: TableOwnership.ColumnOwner]) -> Set<String> {
        var owners: Set<String> = []
        for case .owned(let owner) in columns.values { owners.insert(owner) }
        if !owners.isEmpty { return owners }
        return Set(configuration.databases.filter { !$0.isPhysicalStandby }.map(\.name))
    }

    private mutating func fillUnlisted(
        _ columns: inout [String: TableOwnership.ColumnOwner], keys: Set<String>, insertOwners: Set<String>
    ) {
        var unowned: [String] = []
        for column in table.columns where !column.isGenerated && columns[column.name] == nil {
            if keys.contains(column.name) {
                columns[column.name] = keyOwner(insertOwners)
            } else if configuration.defaults.unlistedColumn == .origin {
                columns[column.name] = .owned(by: configuration.origin)
            } else {
                unowned.append(column.name)
            }
        }
        if !unowned.isEmpty { report(.unowned(unowned, table: table.name), mark: "") }
    }

    private func keyOwner(_ insertOwners: Set<String>) -> TableOwnership.ColumnOwner {
        if insertOwners.count == 1, let owner = insertOwners.first { return .owned(by: owner) }
        return .shared(SharedColumnRule(policy: configuration.defaults.conflict))
    }

    private mutating func known(_ name: String, use: String, mark: String) -> ColumnDescription? {
        if let column = byName[name] { return column }
        if !isPattern { reportUnknown(name, use: use, mark: mark) }
        return nil
    }

    private mutating func reportUnknown(_ name: String, use: String, mark: String) {
        problems.append(
            OwnershipProblem(
                .unknownColumn(name, table: table.name, use: use), mark: rule.marks[mark] ?? rule.marks[""],
                suggestion: NearestWord.among(table.columns.map(\.name), to: name)))
    }

    private mutating func report(_ kind: OwnershipProblem.Kind, mark: String) {
        problems.append(OwnershipProblem(kind, mark: rule.marks[mark] ?? rule.marks[""]))
    }
}
