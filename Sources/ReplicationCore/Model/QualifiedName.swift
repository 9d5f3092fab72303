/// A table's schema and name, exactly as the catalog spells them (no quotes).
public struct QualifiedName: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let schema: String
    public let name: String

    public init(schema: String, name: String) {
        self.schema = schema
        self.name = name
    }

    /// The form SQL takes: both parts quoted.
    public var sql: String { SQLText.identifier(schema) + "." + SQLText.identifier(name) }

    /// For people: the bare name inside `public`, else `schema.name`.
    public var description: String { schema == "public" ? name : schema + "." + name }

    public static func < (left: QualifiedName, right: QualifiedName) -> Bool {
        (left.schema, left.name) < (right.schema, right.name)
    }
}
