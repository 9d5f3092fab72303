extension Decommission {
    /// What was asked to be removed.
    public struct Choice: Sendable, Equatable {
        /// In the order of removal.
        public var remnants: [Remnant]
        /// Names of what Lindero may have there, and has not: removed before.
        public var gone: [String]
    }

    public enum Problem: Error, Sendable, Equatable {
        case unknown(name: String, nearest: String?)
        case refused(name: String, because: String)
    }

    /// Why a remnant may not be removed now, and what to do; `nil` when it may.
    ///
    /// - Parameter removed: names of what is removed before it.
    public func refusal(_ remnant: Remnant, after removed: [String] = []) -> String? {
        if isMoving { return "a move is under way: finish it (lindero advance or rollback --execute) first" }
        if let use = remnant.use { return "it is in use, \(use): stop `lindero run`, or whoever it is, first" }
        if let obstacle = remnant.obstacle { return obstacle }
        let first = remnant.after.filter { !removed.contains($0) }
        if !first.isEmpty { return "remove \(first.joined(separator: " and ")) first" }
        guard let need = remnant.need, !workers.isEmpty else { return nil }
        return "it is needed (\(need)), and a worker runs: stop `lindero run` first"
    }

    /// Looks at every name before anything is removed.
    ///
    /// - Throws: everything that stands against it, in the order of the names.
    public func choose(_ names: [String]) throws(Problems) -> Choice {
        let remnants = remnants
        var chosen: [Remnant] = []
        var gone: [String] = []
        var problems: [Problem] = []
        for name in names where !gone.contains(name) && !chosen.contains(where: { $0.name == name }) {
            if let remnant = remnants.first(where: { $0.name == name }) {
                chosen.append(remnant)
            } else if vocabulary.contains(name) {
                gone.append(name)
            } else {
                problems.append(.unknown(name: name, nearest: NearestWord.among(remnants.map(\.name) + vocabulary.sorted(), to: name)))
            }
        }
        let ordered = Remnant.Kind.allCases.flatMap { kind in chosen.filter { $0.kind == kind } }
        for (index, remnant) in ordered.enumerated() {
            if let because = refusal(remnant, after: ordered.prefix(index).map(\.name)) {
                problems.append(.refused(name: remnant.name, because: because))
            }
        }
        guard problems.isEmpty else { throw Problems(problems: problems) }
        return Choice(remnants: ordered, gone: gone)
    }

    public struct Problems: Error, Sendable, Equatable { public var problems: [Problem] }

    /// Names of all that Lindero may have in these databases in some phase.
    private var vocabulary: Set<String> {
        var names: Set<String> = []
        let rules = configuration.tables.compactMap { rule in TablePattern(rule.pattern)?.exactName.map { (table: $0, rule: rule) } }
        for database in databases.map(\.database) {
            func add(_ kind: Remnant.Kind, _ objects: some Sequence<String>) {
                names.formUnion(objects.map { Remnant.name(database, kind, $0) })
            }
            add(.slot, knownNames[database] ?? [])
            add(.publication, knownNames[database] ?? [])
            add(.origin, databases.map(\.database).filter { $0 != database })
            add(.refusal, configuration.databases.map(\.name))
            add(.guarded, ["enforce", "audit"])
            add(.schema, ["lindero"])
            add(.role, configuration.databases.filter { $0.name != database }.flatMap(\.roles))
            add(.identity, rules.map { Self.word($0.table) } + (policy?.tables.keys.map { Self.word($0) } ?? []))
            add(.column, rules.flatMap { rule in rule.rule.privateColumns.map { "\(Self.word(rule.table)).\($0)" } })
        }
        return names
    }
}
