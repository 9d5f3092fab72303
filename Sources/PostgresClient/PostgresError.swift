/// Everything that can go wrong with a connection. No case ever holds a password or a row's values.
public enum PostgresError: Error, Sendable, Equatable, CustomStringConvertible {
    /// No connection could be made, or it was lost.
    case connection(ConnectionFailure)
    /// The server refused the statement.
    case server(ServerError)
    /// The deadline passed; the statement was cancelled.
    case timeout(milliseconds: Int)
    /// The task was cancelled; the statement was cancelled with it.
    case cancelled
    /// The connection was closed before, for the reason given.
    case closed(String)
    /// A parameter that cannot be sent; `index` counts from 1, as in `$1`.
    case parameter(index: Int, problem: ParameterProblem)
    /// The call does not fit the state of the connection, or the server's answer does not fit the call.
    case protocolViolation(String)

    /// Whether the whole unit of work may simply be done again, on a new connection if this one is gone.
    ///
    /// A passed deadline and a cancelled task are decisions of the caller, so they are not transient.
    public var isTransient: Bool {
        switch self {
        case .connection(let failure): failure.isTransient
        // After a fatal error it is the session that is gone; what caused it shows again on the next, if it stays.
        case .server(let error): error.sqlState.isTransient || error.isFatal
        case .closed: true
        case .timeout, .cancelled, .parameter, .protocolViolation: false
        }
    }

    /// The server's code, when the server said something.
    public var sqlState: SQLState? {
        switch self {
        case .server(let error): error.sqlState
        case .connection(let failure): failure.sqlState
        case .timeout, .cancelled, .closed, .parameter, .protocolViolation: nil
        }
    }

    public var description: String {
        switch self {
        case .connection(let failure): failure.description
        case .server(let error): error.description
        case .timeout(let milliseconds): "no answer within \(milliseconds) ms"
        case .cancelled: "cancelled"
        case .closed(let reason): "the connection is closed: \(reason)"
        case .parameter(let index, .zeroByteInText):
            "parameter $\(index) holds a zero byte, which PostgreSQL's text cannot"
        case .parameter(let index, .tooLarge(let bytes)):
            "parameter $\(index) brings the statement to \(bytes) bytes; PostgreSQL takes less than 1 GB"
        case .parameter(_, .tooMany(let count)):
            "\(count) parameters in one statement; PostgreSQL takes at most 65535"
        case .protocolViolation(let what): what
        }
    }
}

/// Why a connection could not be made, or how it was lost.
public struct ConnectionFailure: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Reason: Sendable, Equatable {
        /// Nobody listens at that address.
        case refused
        /// The name of the host is not known.
        case unknownHost
        /// The name could not be looked up just now.
        case nameServiceDown
        case timedOut
        /// There was a connection and it broke.
        case lost
        /// Password, certificate or `pg_hba.conf`.
        case authentication
        /// TLS: the server has none, or its certificate is not the expected one.
        case encryption
        /// The server refused with a SQLSTATE, such as 3D000 or 53300.
        case server
        /// The connection string, a service file or a password file is wrong.
        case options
        /// This process has no file descriptors or memory left.
        case resources
        case other
    }

    public let reason: Reason
    /// libpq's text, without anything that may be part of a connection string's secrets.
    public let message: String
    /// Where the connection goes, as `user@host:port/database`; empty when unknown.
    public let target: String
    public let sqlState: SQLState?

    public init(reason: Reason, message: String, target: String = "", sqlState: SQLState? = nil) {
        self.reason = reason
        self.message = message
        self.target = target
        self.sqlState = sqlState
    }

    public var isTransient: Bool {
        switch reason {
        case .refused, .nameServiceDown, .timedOut, .lost, .resources: true
        case .server: sqlState?.isTransient ?? true
        case .unknownHost, .authentication, .encryption, .options, .other: false
        }
    }

    public var description: String {
        var text = message
        if !target.isEmpty { text = "\(target): \(text)" }
        if let sqlState { text += " (SQLSTATE \(sqlState))" }
        return text
    }
}
