import ReplicationCore
import Yams

/// `tables`.
extension ConfigurationParser {
    mutating func tables(
        _ node: Node, databases: [String], defaults: Defaults
    ) -> [TableRule] {
        var rules: [TableRule] = []
        var exactNames: [QualifiedName: String] = [:]
        for entry in entries(node, of: "tables") {
            guard let pattern = TablePattern(entry.key) else {
                report(
                    "\"\(entry.key)\" is no table name: write Name, schema.Name or a pattern such as public.*, with "
                        + "double quotes around a part that holds a dot", at: entry.keyNode)
                continue
            }
            if let name = pattern.exactName, let other = exactNames.updateValue(entry.key, forKey: name) {
                report("table \"\(entry.key)\" stands here twice, first as \"\(other)\"", at: entry.keyNode)
            }
            rules.append(table(entry, databases: databases, defaults: defaults))
        }
        return rules
    }

    private mutating func table(_ entry: Entry, databases: [String], defaults: Defaults) -> TableRule {
        var rule = TableRule(pattern: entry.key)
        rule.marks[""] = Self.mark(entry.keyNode)
        let place = "tables.\(entry.key)"
        let keys = ["match", "insert", "delete", "private", "on_error", "columns", "fill", "references", "on_delete"]
        for inner in entries(entry.value, of: place, keys: keys) {
            let innerPlace = "\(place).\(inner.key)"
            switch inner.key {
            case "match":
                rule.match = marked(words(inner.value, of: innerPlace), as: "match", in: &rule)
            case "insert": rule.insertOwners = owners(inner.value, of: innerPlace, databases: databases)
            case "delete": rule.deleteOwners = owners(inner.value, of: innerPlace, databases: databases)
            case "private":
                rule.privateColumns = marked(words(inner.value, of: innerPlace), as: "private", in: &rule)
            case "on_error": rule.onError = choice(inner.value, of: innerPlace) ?? rule.onError
            case "fill", "references", "on_delete": split(inner, of: innerPlace, into: &rule)
            default:
                columns(inner.value, of: innerPlace, databases: databases, defaults: defaults, into: &rule)
            }
        }
        checkPrivate(rule, place: place)
        checkSplit(rule, place: place)
        return rule
    }

    private func marked(_ words: [Word], as use: String, in rule: inout TableRule) -> [String] {
        for word in words { rule.marks["\(use) \(word.text)"] = word.mark }
        return words.map(\.text)
    }

    private mutating func owners(_ node: Node, of place: String, databases: [String]) -> [String] {
        words(node, of: place, expected: "the name of a database, or a list of them").compactMap { word in
            databaseName(word, of: place, databases: databases)
        }
    }

    private mutating func columns(
        _ node: Node, of place: String, databases: [String], defaults: Defaults, into rule: inout TableRule
    ) {
        var owner: [String: String] = [:]
        for entry in entries(node, of: place, keys: databases + ["shared"]) {
            let words: [Word]
            if entry.key == "shared" {
                words = shared(
                    entry.value, of: "\(place).shared", databases: databases, defaults: defaults, into: &rule)
            } else {
                words = self.words(
                    entry.value, of: "\(place).\(entry.key)",
                    expected: "a list of columns, or \"*\" for all others")
                rule.owned[entry.key] = words.map(\.text)
            }
            for word in words {
                if let other = owner.updateValue(entry.key, forKey: word.text) {
                    let what = word.text == "*" ? "\"*\" (every other column)" : "column \"\(word.text)\""
                    report(
                        "\(what) stands under both \(other) and \(entry.key); one must own it",
                        mark: word.mark)
                }
                rule.marks[word.text] = word.mark
            }
        }
    }

    /// A list of columns (which take `defaults.conflict`), or a mapping from column to policy.
    private mutating func shared(
        _ node: Node, of place: String, databases: [String], defaults: Defaults, into rule: inout TableRule
    ) -> [Word] {
        guard case .mapping = node else {
            let expected = "a mapping such as phone: { policy: last_write }, or a list of columns"
            let words = words(node, of: place, expected: expected)
            for word in words { rule.shared[word.text] = SharedColumnRule(policy: defaults.conflict) }
            if !saysConflict { rule.columnsWithoutPolicy = Set(words.map(\.text)) }
            return words
        }
        return entries(node, of: place).map { entry in
            var saysPolicy = saysConflict
            rule.shared[entry.key] = sharedRule(
                entry, of: "\(place).\(entry.key)", databases: databases, defaults: defaults, saysPolicy: &saysPolicy)
            if !saysPolicy { rule.columnsWithoutPolicy.insert(entry.key) }
            return Word(text: entry.key, mark: Self.mark(entry.keyNode))
        }
    }

    private mutating func sharedRule(
        _ entry: Entry, of place: String, databases: [String], defaults: Defaults, saysPolicy: inout Bool
    ) -> SharedColumnRule {
        var rule = SharedColumnRule(policy: defaults.conflict)
        var sideNode: Node?
        if case .scalar = entry.value {
            saysPolicy = true
            rule.policy = choice(entry.value, of: place) ?? rule.policy
        } else {
            for inner in entries(entry.value, of: place, keys: ["policy", "side"]) {
                if inner.key == "policy" {
                    saysPolicy = true
                    rule.policy = choice(inner.value, of: "\(place).policy") ?? rule.policy
                } else if let word = word(
                    inner.value, of: "\(place).side", expected: "the name of a database")
                {
                    sideNode = inner.value
                    rule.side = databaseName(word, of: "\(place).side", databases: databases)
                }
            }
        }
        if rule.policy == .prefer, rule.side == nil, sideNode == nil {
            report(
                "\(place) has policy prefer and no side; add side: with the database that wins",
                at: entry.keyNode)
        } else if rule.policy != .prefer, let sideNode {
            report(
                "\(place).side goes with policy prefer only, but the policy is \(rule.policy.rawValue)",
                at: sideNode)
        }
        return rule
    }

    /// A private column never leaves its owner's database, so it needs one owner, and it can't be the identity.
    private mutating func checkPrivate(_ rule: TableRule, place: String) {
        let owned = Set(rule.owned.values.joined())
        for column in rule.privateColumns {
            let mark = rule.marks["private \(column)"]
            if rule.match.contains(column) {
                report(
                    "\(place).private: \"\(column)\" is in match, and the match key always travels",
                    mark: mark)
            }
            if rule.shared[column] != nil {
                report(
                    "\(place).private: \"\(column)\" is shared, and a private column has one owner",
                    mark: mark)
            } else if !owned.contains(column), !owned.contains("*") {
                report(
                    "\(place).private: \"\(column)\" has no owner; list it under columns too", mark: mark,
                    suggestion: NearestWord.among(owned.sorted(), to: column))
            }
        }
    }
}
