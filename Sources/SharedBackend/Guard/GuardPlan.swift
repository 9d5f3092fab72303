import ReplicationCore

/// The exact SQL that puts column ownership into a database, changes its mode, or takes it out again.
public struct GuardPlan: Sendable {
    /// One table's share of the plan.
    public struct TableChange: Sendable, Equatable {
        public var table: QualifiedName
        public var statements: [String]
    }

    /// `nil` to remove the guard.
    public let mode: GuardMode?
    /// Tables that need a change, by name.
    public internal(set) var changes: [TableChange] = []
    /// What stands in the way; a plan with problems is not applied.
    public internal(set) var problems: [GuardProblem] = []
    /// What a person should know but nothing has to be done about.
    public internal(set) var notices: [String] = []

    /// Access lists as they would be without the guard, of every table that stays guarded.
    var originals: [QualifiedName: TableAccess] = [:]
    /// Recorded tables that the guard leaves.
    var released: [QualifiedName] = []

    /// Whether the database already is as the plan wants it.
    public var isEmpty: Bool { changes.isEmpty }

    /// For a plan of the mode that is in force: what is wrong with the guard; `nil` when nothing is.
    public var drift: String? {
        if let problem = problems.first {
            let others = problems.count > 1 ? " (and \(problems.count - 1) more: lindero guard plan)" : ""
            return "guard does not hold: \(problem)\(others)"
        }
        guard !isEmpty else { return nil }
        let names = changes.prefix(3).map { "\"\($0.table)\"" }.joined(separator: ", ")
        return "guard has drifted: \(statements.count) statements on \(names)\(changes.count > 3 ? ", …" : "")"
    }

    /// How many tables change; the audit's functions are none.
    public var tableCount: Int { changes.count { $0.table.schema != "lindero" } }

    /// All statements, in order.
    public var statements: [String] { changes.flatMap(\.statements) }

    /// The plan as a script for people, which is what `apply` runs, besides the record that it keeps.
    public var script: String {
        guard !isEmpty else { return "-- Nothing to do.\n" }
        let parts = changes.map { change in
            "-- \(change.table.description.replacing("\n", with: " "))\n" + change.statements.joined(separator: "\n")
        }
        return "BEGIN;\n" + parts.joined(separator: "\n") + "\nCOMMIT;\n"
    }
}
