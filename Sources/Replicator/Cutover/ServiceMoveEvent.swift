import ReplicationCore

/// What a move is doing, for a progress display. Names and figures, never values or query texts.
public enum ServiceMoveEvent: Sendable, Equatable {
    /// Who of the service is on the old side.
    case found(sessions: [ServiceSession])
    /// Who could write the declared tables there, whatever service it is; of a strict fence alone.
    case writers([WritingRole])
    case begun(MoveStep)
    /// Writers could not be stopped in that time, and go on until the next try.
    case released(afterMilliseconds: Int)
    /// Roles whose writes were seen to wait at the fence, and those that could not be tried.
    case probed(roles: [String], untried: [String])
    case paused(milliseconds: Int)
    case fenced(milliseconds: Int)
    /// Sessions of the service that waited at the fence, or were left after it, and were ended.
    case ended(sessions: Int)
    /// Of the service's sessions, those still on the old side.
    case waiting(sessions: [ServiceSession])
    case undoing(MovePlan.Undoing)
    case done(ServiceMoveFigures)
}

/// What a move has cost, as measured.
public struct ServiceMoveFigures: Sendable, Equatable {
    /// The longest time that clients waited in pgbouncer at a stretch, tries that failed included.
    public var longestPauseMilliseconds = 0
    /// The longest time that the fence was held or waited for.
    public var longestFenceMilliseconds = 0
    /// Sessions of the service that were on the old side at some time and are not any more.
    public var sessionsMoved = 0
    /// Those of them that were ended.
    public var sessionsEnded = 0
    public var totalMilliseconds = 0

    public init() {}

    /// The longest time that anything made a writer wait.
    public var longestWriteWaitMilliseconds: Int { max(longestPauseMilliseconds, longestFenceMilliseconds) }
}

/// A session on a server, for people.
public struct ServiceSession: Sendable, Hashable, CustomStringConvertible {
    public var processID: Int
    public var role: String
    public var application: String
    /// The client's address, or `local` for a socket.
    public var client: String
    public var isInTransaction: Bool

    public var description: String {
        let name = application.isEmpty ? role : "\(role) (\(application))"
        return "\(name) from \(client), pid \(processID)\(isInTransaction ? ", in a transaction" : "")"
    }
}

/// A role that may log in and write the declared tables.
public struct WritingRole: Sendable, Hashable {
    public var name: String
    public var isSuperuser: Bool
    /// Its sessions in the database now.
    public var sessions: Int
    /// One of the tables that it may write.
    public var table: QualifiedName
}
