/// The conflicts of one database that wait for a person.
public struct ConflictStatus: Sendable, Equatable, Decodable {
    /// By its name in the configuration.
    public var database: String
    public var openCount: Int64
    /// `nil` when none is open.
    public var oldestAgeSeconds: Double?

    private enum CodingKeys: String, CodingKey {
        case database, oldestAgeSeconds
        case openCount = "open"
    }

    public init(database: String, openCount: Int64 = 0, oldestAgeSeconds: Double? = nil) {
        self.database = database
        self.openCount = openCount
        self.oldestAgeSeconds = oldestAgeSeconds
    }

    public var document: JSONValue {
        .object([
            ("database", .text(database)), ("open", .integer(openCount)), ("oldestAgeSeconds", .optional(oldestAgeSeconds)),
        ])
    }

    /// For people; `nil` when there is nothing to say.
    public var words: String? {
        guard openCount > 0 else { return nil }
        let age = oldestAgeSeconds.map { ", the oldest for \(PlainText.seconds($0))" } ?? ""
        return "\(PlainText.count(Int(openCount), "conflict")) on \(database) wait\(openCount == 1 ? "s" : "") for a person\(age)"
    }
}
