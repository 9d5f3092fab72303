import PostgresClient
import ReplicationCore

/// Why a service was not moved. Unless the words say otherwise it is where it was.
public enum ServiceMoveError: Error, Sendable, CustomStringConvertible {
    /// `databases.X.roles` is empty: its sessions can't be told from others.
    case noRoles(service: String)
    /// The schema lindero is not up to date there.
    case notMigrated(side: String)
    /// Something could not be stopped in time: these sessions hold it.
    case notHeld(service: String, side: String, milliseconds: Int, by: [ServiceSession])
    /// Sessions of the service that did not leave the old side in time.
    case sessionsLeft(service: String, side: String, milliseconds: Int, [ServiceSession])
    /// A write of this role got through the fence.
    case fencePassed(side: String, role: String, table: QualifiedName)
    /// The fence was gone before the service had moved: its deadline passed, or its session was ended.
    case fenceLost(side: String)
    /// What was written on the old side did not reach the new one in time, or the wait for it failed.
    case notDrained(side: String, milliseconds: Int, cause: String?)
    /// pgbouncer's file.
    case file(path: String, FileProblem)
    /// pgbouncer's console.
    case bouncer(BouncerProblem)
    case command(program: String, CommandProblem)
    /// The program that lets clients go on if this one dies could not be started, so nobody was paused.
    case noPauseWatch(String)
    /// It failed, and could not be put back either: both reasons.
    indirect case notUndone(ServiceMoveError, service: String, left: [String])
    case server(side: String, PostgresError)
    case cancelled

    public enum FileProblem: Sendable, Equatable {
        case noEntry(String)
        case twice(String)
        case malformed(String)
        /// The system's reason.
        case unreadable(String)
        case unwritable(String)
        /// pgbouncer says other things of the entry than the file after a reload.
        case notRead(entry: String)
    }

    public enum BouncerProblem: Sendable, Equatable {
        case unreachable(String)
        /// The console refused a command.
        case refused(String)
        /// There is no such entry in the running pgbouncer.
        case noDatabase(String)
    }

    public enum CommandProblem: Sendable, Equatable {
        case notStarted(String)
        case exited(code: Int32)
        case tookTooLong(milliseconds: Int)
    }

    public var description: String {
        switch self {
        case .noRoles(let service):
            "Service \(service) has no roles in the configuration, so its sessions can't be told from others. "
                + "Write databases.\(service).roles: [the role it logs in with]."
        case .notMigrated(let side):
            "The schema lindero is not up to date on \(side). Run `lindero migrate`."
        case .notHeld(let service, let side, let milliseconds, let sessions):
            "The writers on \(side) could not be stopped within \(milliseconds) ms: \(Self.list(sessions)). Service \(service) is "
                + "where it was, and all go on. End those transactions, or raise gates.cutover_timeout; then run the same command again."
        case .sessionsLeft(let service, let side, let milliseconds, let sessions):
            "After \(milliseconds) ms service \(service) still has sessions on \(side): \(Self.list(sessions)). It was put back to where "
                + "it was. Make them connect to the new database, then run the same command again."
        case .fencePassed(let side, let role, let table):
            "The fence on \(side) does not hold: a write of role \(role) to \(table) got through it. The service was not moved. "
                + "Run the same command again; if this stays, run `lindero check`."
        case .fenceLost(let side):
            "The fence on \(side) was gone before the service had moved: its deadline passed, or somebody ended its session. The "
                + "service is where it was. Raise gates.cutover_timeout, then run the same command again."
        case .notDrained(let side, let milliseconds, let cause):
            "What was written on \(side) did not reach the other side within \(milliseconds) ms\(cause.map { " (\($0))" } ?? ""). The "
                + "service is where it was. See `lindero lag`, then run the same command again."
        case .file(let path, let problem): Self.words(problem, path)
        case .bouncer(let problem): Self.words(problem)
        case .command(let program, let problem): Self.words(problem, program)
        case .noPauseWatch(let reason):
            "Nobody was paused: the process that would let clients go on if this one dies could not start (\(reason)). "
                + "Run the same command again."
        case .notUndone(let error, let service, let left):
            "\(error) But it could not be put back: \(left.joined(separator: "; ")). Service \(service) may be on both sides; both take "
                + "its writes while the move lasts. Run the same command again to finish, or `lindero rollback --execute`."
        case .server(let side, let error): "Database \(side): \(error). Run the same command again."
        case .cancelled: "The move was stopped; the service is where it was. Run the same command again."
        }
    }

    private static func list(_ sessions: [ServiceSession]) -> String {
        if sessions.isEmpty { return "no session that could be named" }
        let shown = sessions.prefix(10).map(\.description).joined(separator: ", ")
        return sessions.count > 10 ? "\(shown) and \(sessions.count - 10) more" : shown
    }

    private static func words(_ problem: FileProblem, _ path: String) -> String {
        switch problem {
        case .noEntry(let entry): "\(path) has no entry \(entry) in [databases]. Name the right one in cutover.pgbouncer.databases."
        case .twice(let entry): "\(path) has the entry \(entry) twice. Take one away."
        case .malformed(let entry): "The entry \(entry) in \(path) is not of the form key=value key='quoted value'."
        case .unreadable(let reason): "\(path) can't be read: \(reason)."
        case .unwritable(let reason):
            "\(path) can't be replaced: \(reason). Lindero writes a file beside it, with its owner and mode, and renames that."
        case .notRead(let entry):
            "pgbouncer does not say of \(entry) what \(path) says, after a reload; the file was put back. Is it the file that "
                + "pgbouncer reads?"
        }
    }

    private static func words(_ problem: BouncerProblem) -> String {
        switch problem {
        case .unreachable(let reason): "pgbouncer's admin console: \(reason). See cutover.pgbouncer.admin."
        case .refused(let reason): "pgbouncer refused: \(reason)."
        case .noDatabase(let entry):
            "The running pgbouncer has no database \(entry). Name the right one in cutover.pgbouncer.databases."
        }
    }

    private static func words(_ problem: CommandProblem, _ program: String) -> String {
        let end = "Run it by hand with LINDERO_STEP=move to see why, then run the same command again."
        return switch problem {
        case .notStarted(let reason): "cutover.command \(program) could not be started: \(reason)."
        case .exited(let code): "cutover.command \(program) ended with exit code \(code). \(end)"
        case .tookTooLong(let milliseconds): "cutover.command \(program) did not end within \(milliseconds) ms. \(end)"
        }
    }
}
