/// Labels of an enum of the source that the target's enum of that name lacks: no value that has one can be written there.
public struct MissingLabels: Sendable, Equatable {
    public struct Label: Sendable, Equatable {
        public var name: String
        /// The label of both sides that it comes before; `nil` for none.
        public var before: String?
    }

    public let type: QualifiedName
    /// In the source's order.
    public let labels: [Label]
    /// Labels that the target alone has: some of the missing ones may be these under new names, and then older rows have them.
    public let strangers: [String]

    /// `nil` where the target has them all.
    ///
    /// - Parameters:
    ///   - source: the labels there, in their order.
    ///   - target: those of the target.
    public init?(type: QualifiedName, source: [String], target: [String]) {
        let known = Set(target)
        labels = source.indices.filter { !known.contains(source[$0]) }.map { position in
            Label(name: source[position], before: source[position...].first { known.contains($0) })
        }
        if labels.isEmpty { return nil }
        let sent = Set(source)
        strangers = target.filter { !sent.contains($0) }
        self.type = type
    }

    /// The labels for people.
    public var list: String { labels.map { SQLText.literal($0.name) }.joined(separator: ", ") }

    /// What else it may be, as a comment to the SQL; empty where the source has every label of the target's.
    public var doubt: String {
        guard let former = strangers.first, let label = labels.first else { return "" }
        let renaming = "ALTER TYPE \(type.sql) RENAME VALUE \(SQLText.literal(former)) TO \(SQLText.literal(label.name));"
        let others = strangers.count > 1 ? " (the target alone has \(strangers.map { SQLText.literal($0) }.joined(separator: ", ")))" : ""
        let words = "If that is a label under a new name\(others), rename it instead, which older rows follow: \(renaming)"
        return " /* \(words.replacing("*/", with: "* /")) */"
    }

    /// What gives the target's enum the labels, each in its place among those that it has.
    public var sql: String {
        labels.map { label in
            "ALTER TYPE \(type.sql) ADD VALUE IF NOT EXISTS \(SQLText.literal(label.name))"
                + (label.before.map { " BEFORE \(SQLText.literal($0))" } ?? "") + ";"
        }.joined(separator: " ")
    }
}
