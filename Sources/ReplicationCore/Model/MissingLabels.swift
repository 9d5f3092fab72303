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
        self.type = type
    }

    /// The labels for people.
    public var list: String { labels.map { SQLText.literal($0.name) }.joined(separator: ", ") }

    /// What gives the target's enum the labels, each in its place among those that it has.
    public var sql: String {
        labels.map { label in
            "ALTER TYPE \(type.sql) ADD VALUE IF NOT EXISTS \(SQLText.literal(label.name))"
                + (label.before.map { " BEFORE \(SQLText.literal($0))" } ?? "") + ";"
        }.joined(separator: " ")
    }
}
