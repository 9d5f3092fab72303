/// What can go wrong between Lindero and a PostgreSQL server. No case holds or prints row values or secrets.
public enum PostgresError: Error, Sendable, CustomStringConvertible {
    /// The connection could not be made; the message is libpq's, without secrets.
    case connection(String, SQLState?)
    case server(ServerError)
    /// Took longer than was allowed and was interrupted.
    case timeout(milliseconds: Int)
    /// The task was cancelled; the statement was interrupted.
    case cancelled
    /// The connection is gone.
    case closed(String)
    /// The server or the caller broke the protocol's order.
    case protocolViolation(String)

    /// Whether the same work may succeed if it is tried again, on a new connection if need be.
    public var isTransient: Bool {
        switch self {
        case .connection(let message, let state):
            state?.isTransient ?? !message.contains("could not translate host name")
        case .server(let error): error.sqlState.isTransient
        case .timeout, .closed: true
        case .cancelled, .protocolViolation: false
        }
    }

    public var description: String {
        switch self {
        case .connection(let message, _): message
        case .server(let error): error.description
        case .timeout(let milliseconds): "The statement took longer than \(milliseconds) ms and was interrupted."
        case .cancelled: "The statement was cancelled."
        case .closed(let reason): "The connection is closed. \(reason)"
        case .protocolViolation(let what): "Protocol violation: \(what)"
        }
    }
}

/// An error that the server reported.
///
/// `description` is fit for logs: where the server's text may quote row values (SQLSTATE classes 22, 23 and others)
/// it is replaced by the condition's name and the objects concerned.
public struct ServerError: Error, Sendable, Equatable, CustomStringConvertible {
    public var severity: String
    public var sqlState: SQLState
    /// The server's primary text. May quote values: never log it, print `description`.
    public var message: String
    public var hint: String?
    public var schema: String?
    public var table: String?
    public var column: String?
    public var constraint: String?

    public var description: String {
        guard sqlState.quotesValues else {
            return "\(message) (SQLSTATE \(sqlState))" + (hint.map { " \($0)" } ?? "")
        }
        let place = [schema, table, column].compactMap { $0 }.joined(separator: ".")
        return sqlState.conditionName + (place.isEmpty ? "" : " on \(place)")
            + (constraint.map { " (constraint \($0))" } ?? "") + " (SQLSTATE \(sqlState))"
    }
}

/// One step of a pipeline failed; none after it ran.
public struct PipelineError: Error, Sendable, CustomStringConvertible {
    public var stepIndex: Int
    public var error: PostgresError
    public var description: String { "Step \(stepIndex): \(error)" }
}
