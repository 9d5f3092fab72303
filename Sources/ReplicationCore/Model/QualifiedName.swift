/// A table's schema and name, exactly as the catalog spells them (no quotes).
public struct QualifiedName: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let schema: String
    public let name: String

    public init(schema: String, name: String) {
        self.schema = schema
        self.name = name
    }

    /// Reads a name as `regclass` prints it under an empty `search_path`: with its schema, quoted only where it must be.
    public init?(regclass text: String) {
        var parts: [String] = [""]
        var isQuoted = false
        var last: Character = " "
        for character in text {
            if character == "\"" {
                // Two in a row inside quotes are one of the name.
                if !isQuoted && last == "\"" { parts[parts.count - 1].append("\"") }
                isQuoted.toggle()
            } else if character == "." && !isQuoted {
                parts.append("")
            } else {
                parts[parts.count - 1].append(character)
            }
            last = character
        }
        guard parts.count == 2, !isQuoted else { return nil }
        self.init(schema: parts[0], name: parts[1])
    }

    /// The form SQL takes: both parts quoted.
    public var sql: String { SQLText.identifier(schema) + "." + SQLText.identifier(name) }

    /// For people: the bare name inside `public`, else `schema.name`.
    public var description: String { schema == "public" ? name : schema + "." + name }

    public static func < (left: QualifiedName, right: QualifiedName) -> Bool {
        (left.schema, left.name) < (right.schema, right.name)
    }
}
