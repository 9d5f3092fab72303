import ReplicationCore

/// One foreign key of the source, and the ways to add it to the target.
struct ForeignKey: Sendable, Equatable {
    /// As `regclass` prints it under an empty `search_path`.
    var table: String
    /// The root of its partition tree, or the table itself.
    var root: String
    var name: String
    var definition: String
    var isPartitioned: Bool

    /// Whether PostgreSQL can add it first and look at the rows later, without stopping writers.
    var canWait: Bool {
        // A definition that is NOT VALID on the source stays so; partitioned tables cannot (before 18).
        !isPartitioned && !definition.hasSuffix(" NOT VALID") && !definition.hasSuffix(" NOT ENFORCED")
    }

    private var isThere: String {
        "EXISTS (SELECT 1 FROM pg_catalog.pg_constraint WHERE conrelid = \(SQLText.literal(table))::pg_catalog.regclass "
            + "AND conname = \(SQLText.literal(name)))"
    }

    private var add: String { "ALTER TABLE \(table) ADD CONSTRAINT \(SQLText.identifier(name)) \(definition)" }

    /// Adds and checks it in one; nothing when it is there.
    var whole: String { SourceSchema.unless(isThere, add) }

    var step: SchemaStep { SchemaStep(stage: .foreignKey, table: root, sql: whole) }

    /// The same with the shortest locks: statements to run one by one.
    var steps: [String] {
        guard canWait else { return [whole] }
        return [
            SourceSchema.unless(isThere, add + " NOT VALID"),
            "ALTER TABLE \(table) VALIDATE CONSTRAINT \(SQLText.identifier(name))",
        ]
    }
}
