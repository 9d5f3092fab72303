/// A five-character SQLSTATE code, as PostgreSQL's appendix A lists them.
public struct SQLState: Sendable, Hashable, CustomStringConvertible {
    public let rawValue: String

    public init(_ rawValue: String) { self.rawValue = rawValue }

    /// The first two characters: the kind of error.
    public var `class`: String { String(rawValue.prefix(2)) }
    public var description: String { rawValue }

    /// Whether the same work may succeed if it is simply tried again.
    public var isTransient: Bool {
        switch rawValue {
        case "40001", "40P01", "55P03": true  // serialization failure, deadlock, lock not available
        case "57P01", "57P02", "57P03": true  // shutdown, crash, still starting
        case "57P05": true  // idle session timeout
        default:
            switch self.class {
            case "08", "53": true  // connection, insufficient resources
            default: false
            }
        }
    }

    /// Whether the server's own text for this code may quote row values.
    var quotesValues: Bool { ["21", "22", "23", "2F", "44", "P0"].contains(self.class) }

    /// A name for the codes whose text is withheld.
    var conditionName: String {
        switch rawValue {
        case "23502": "not-null violation"
        case "23503": "foreign-key violation"
        case "23505": "unique violation"
        case "23514": "check violation"
        case "23P01": "exclusion violation"
        case "22001": "value too long"
        case "22003": "number out of range"
        case "22007", "22008": "invalid date or time"
        case "22P02": "invalid text for the type"
        case "22P03": "invalid binary value for the type"
        case "22021", "22P05": "character not in the encoding"
        default:
            switch self.class {
            case "22": "bad value"
            case "23": "constraint violation"
            case "44": "check option violation"
            case "P0": "error raised by a function"
            default: "error"
            }
        }
    }
}
