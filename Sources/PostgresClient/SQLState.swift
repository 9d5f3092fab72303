/// A five-character code that says what went wrong, as listed in PostgreSQL's appendix A.
public struct SQLState: Sendable, Hashable, CustomStringConvertible {
    public let rawValue: String

    public init(_ rawValue: String) { self.rawValue = rawValue }

    /// The first two characters: the family of the error.
    public var `class`: String { String(rawValue.prefix(2)) }

    /// The condition's name, such as `unique_violation`; the code itself when it has no name here.
    public var conditionName: String { SQLStateNames.names[rawValue] ?? "error \(rawValue)" }

    public var description: String { rawValue }

    /// Whether the same work, repeated as a whole, can succeed without anybody changing anything.
    ///
    /// The one place where retrying is decided: lost or refused connections (class 08), serialization
    /// failures and deadlocks, locks not available, a server out of resources (class 53), shutting down or
    /// starting up.
    public var isTransient: Bool {
        switch self.class {
        case "08", "53": true
        default: SQLState.transientCodes.contains(rawValue)
        }
    }

    private static let transientCodes: Set<String> = [
        "40001",  // serialization_failure
        "40P01",  // deadlock_detected
        "55P03",  // lock_not_available
        "57P01",  // admin_shutdown
        "57P02",  // crash_shutdown
        "57P03",  // cannot_connect_now
    ]

    /// Whether the server's text may quote row values. Only classes that speak of objects, sessions and resources are
    /// trusted: a function or an extension may raise any other with whatever it holds.
    var textQuotesValues: Bool { !SQLState.plainClasses.contains(self.class) }

    private static let plainClasses: Set<String> = [
        "00", "01", "02", "03", "08", "0A", "0B", "0L", "0P", "25", "26", "28", "2B", "2D", "34", "3B", "3D", "3F", "40", "42",
        "53", "54", "55", "57", "58", "72", "F0",
    ]
}
