import ReplicationCore

/// A wish to be answered once a replica shows a position: `/await?lsn=0/3A91F20&timeout=5s&on=sync`.
public struct AwaitRequest: Sendable, Equatable {
    public static let defaultMilliseconds = 5_000
    public static let longestMilliseconds = 60_000

    public var lsn: LSN
    public var timeoutMilliseconds: Int
    /// The database that shall show it; `nil` for the only one.
    public var database: String?

    public init(lsn: LSN, timeoutMilliseconds: Int = defaultMilliseconds, database: String? = nil) {
        self.lsn = lsn
        self.timeoutMilliseconds = timeoutMilliseconds
        self.database = database
    }

    /// What a request makes no sense for.
    struct Problem: Error, Equatable {
        var reason: String
    }

    init(query: [(name: String, value: String)]) throws(Problem) {
        var lsn: LSN?
        self.init(lsn: .zero)
        for (name, value) in query {
            switch name {
            case "lsn": lsn = LSN(value)
            case "timeout":
                guard let milliseconds = WaitDuration.milliseconds(value), milliseconds <= Self.longestMilliseconds else {
                    throw Problem(reason: "timeout takes a time with its unit, such as 500ms or 5s, and one minute at most.")
                }
                timeoutMilliseconds = milliseconds
            case "on": database = value
            default: throw Problem(reason: "/await takes lsn, timeout and on.")
            }
        }
        guard let lsn else {
            throw Problem(reason: "lsn is what pg_current_wal_insert_lsn() prints after the commit, such as 0/3A91F20.")
        }
        self.lsn = lsn
    }
}

/// What became of it.
public enum AwaitAnswer: Sendable, Equatable {
    case shown(LSN, waitedMilliseconds: Int64)
    /// How far the replica is; `nil` when that is not known.
    case timedOut(LSN?, waitedMilliseconds: Int64)
    /// The request has to name one of these.
    case choose([String])
    /// Too many wait already, or the replica cannot be asked.
    case unavailable(String)
}

extension StatusAnswer {
    init(_ answer: AwaitAnswer, to request: AwaitRequest) {
        func document(_ reached: Bool, _ shown: LSN?, _ waited: Int64) -> StatusAnswer {
            .json(
                .object([
                    ("reached", .bool(reached)), ("lsn", .text("\(request.lsn)")),
                    ("shownLsn", .optional(shown?.description)), ("waitedMs", .integer(waited)),
                ]))
        }
        switch answer {
        case .shown(let lsn, let waited): self = document(true, lsn, waited)
        case .timedOut(let lsn, let waited):
            self = document(false, lsn, waited)
            status = 504
        case .choose(let names):
            self = .refusal(
                400, names.isEmpty ? "No database follows here." : "Say with on= which one: \(names.joined(separator: ", ")).")
        case .unavailable(let reason): self = .refusal(503, reason)
        }
    }
}
