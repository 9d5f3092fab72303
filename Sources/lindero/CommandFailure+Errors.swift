import Configuration
import PostgresClient
import ReplicationCore
import Replicator
import SharedBackend
import Sinks

extension CommandFailure {
    /// The failure that a person should read for any error that reaches the edge.
    ///
    /// - Parameter place: what the command was talking to, for errors that do not know it themselves.
    init(_ error: any Error, place: String? = nil) {
        switch error {
        case let failure as CommandFailure:
            self = failure
        case let error as ConfigurationError:
            self.init(
                "configuration", error.description, place: place, nextStep: Self.next(error),
                exit: .blocked)
        case let error as OwnershipError:
            self.init(
                "ownership", error.description, place: place, nextStep: "Correct the file, then run `lindero check`.",
                exit: .blocked)
        case let error as SecretError:
            self.init(
                "secret", error.description, place: place,
                nextStep: Self.next(error), exit: .blocked)
        case let failure as ReplicationFailure:
            self.init(
                failure.code.rawValue, failure.message, place: place, nextStep: failure.nextStep,
                exit: failure.isBlocker ? .blocked : .failed)
        case let problem as Migrator.Problem:
            self.init(
                "migration", problem.description, place: place,
                nextStep: "Do as it says, then run `lindero migrate --dry-run`.", exit: .blocked)
        case let error as PipelineError:
            self.init(postgres: error.error, place: place)
        case let error as PostgresError:
            self.init(postgres: error, place: place)
        case let failure as GuardCommand.Failure:
            let nextStep =
                failure == .notMigrated
                ? "Run `lindero migrate`, then the same command again." : "Mend that, then run `lindero guard plan`."
            self.init("guard", failure.description, place: place, nextStep: nextStep, exit: .blocked)
        case let failure as UpsertFailure:
            self.init(
                "upsert", failure.description, place: place,
                nextStep: "Correct the input or lindero.yaml, then run the same command again.", exit: .blocked)
        case let error as QuarantineError:
            self.init(quarantine: error, place: place)
        case let error as ConflictError:
            self.init(conflict: error, place: place)
        case let error as VerifyError:
            self.init(verify: error, place: place)
        case let error as PhaseStore.UnknownWord:
            self.init(
                PhaseStore.UnknownWord.code, error.description, place: place, nextStep: "Use that Lindero to end the move.", exit: .blocked)
        case let error as SplitDrainError:
            self.init("drain", error.description, place: place, nextStep: "Then the same command again.")
        case let failure as LineOutput.Failure:
            self.init("output", failure.description, nextStep: "Make room or give it a reader that stays, then run the same command again.")
        case is CancellationError:
            self.init("cancelled", "The command was interrupted.", place: place,
                nextStep: "Run the same command again.", exit: .interrupted)
        default:
            self.init("internal", Self.words(error), place: place, nextStep: "Run it again with LINDERO_LOG_LEVEL=debug.")
        }
    }

    private init(quarantine error: QuarantineError, place: String?) {
        let list = "Run `lindero quarantine list --all`."
        switch error {
        case .unknown(let id):
            self.init("quarantine", "There is no change \(id) in quarantine.", place: place, nextStep: list, exit: .blocked)
        case .alreadyDecided(let id, let state):
            self.init("quarantine", "Change \(id) is \(state.rawValue) already.", place: place, nextStep: list, exit: .blocked)
        case .refused(let id, let reason):
            self.init(
                "quarantine", "Change \(id) is still refused: \(reason). It stays in quarantine.", place: place,
                nextStep: "Mend the cause and run `lindero quarantine retry \(id)` again, or `lindero quarantine discard \(id)`.")
        case .superseded(let id, let reason):
            self.init(
                "quarantine", "Change \(id) is older than what the target has: \(reason). It stays in quarantine.", place: place,
                nextStep: "Run `lindero verify --repair`: it compares the row with the source's and, with --execute, mends it; then "
                    + "`lindero quarantine discard \(id)`. To write the old values all the same: `lindero quarantine retry --force \(id)`.",
                exit: .blocked)
        case .withheld(let id, let reason):
            self.init(
                "quarantine", "Change \(id) is not applied: \(reason). It stays in quarantine.", place: place,
                nextStep: "If it is to travel, say so in lindero.yaml and run `lindero quarantine retry \(id)` again; if not, "
                    + "`lindero quarantine discard \(id)`.")
        case .outdated(let id, let reason):
            self.init(
                "quarantine", "Change \(id) is not applied: \(reason). It stays in quarantine.", place: place,
                nextStep: "Run `lindero verify --repair`: it compares the row with the source's and, with --execute, mends it; then "
                    + "`lindero quarantine discard \(id)`.")
        case .cannotBeRead(let id):
            self.init("quarantine", "Change \(id) cannot be read: its row in lindero.quarantine was altered.", place: place, nextStep: list)
        }
    }

    private init(postgres error: PostgresError, place: String?) {
        switch error {
        case .connection(let failure):
            self.init(connection: failure, place: place)
        case .server(let server):
            let isPrivilege = server.sqlState.rawValue == "42501"
            self.init(
                isPrivilege ? "privileges" : "server_\(server.sqlState)", server.description, place: place,
                nextStep: isPrivilege
                    ? "Grant what is missing, or run it as the owner of the database."
                    : Self.next(server.sqlState))
        case .timeout, .cancelled, .closed, .parameter, .protocolViolation:
            self.init("connection_lost", error.description, place: place, nextStep: "Run the same command again.")
        }
    }

    private init(connection failure: ConnectionFailure, place: String?) {
        var exit = LinderoExit.failed
        if failure.reason == .options || failure.sqlState?.rawValue == "42501" { exit = .blocked }
        let (code, nextStep) =
            switch failure.reason {
            case .authentication:
                ("authentication", "Check user, password (~/.pgpass or PGPASSWORD can hold it) and the server's pg_hba.conf.")
            case .unknownHost: ("unknown_host", "Check the host name of the connection.")
            case .refused: ("unreachable", "Check that the server runs and listens there (host and port).")
            case .encryption: ("tls", "Check sslmode and sslrootcert of the connection.")
            case .options: ("connection_options", "Correct the connection string, service file or password file.")
            case .server where failure.sqlState?.rawValue == "3D000":
                ("no_such_database", "Check the name of the database.")
            case .server where failure.sqlState?.rawValue == "42501":
                ("privileges", "Run `ALTER ROLE … REPLICATION;` for that role there, or name one that has it; then `lindero check`.")
            case .server where failure.sqlState?.class == "53":
                ("server_\(failure.sqlState?.rawValue ?? "")", failure.sqlState.map { Self.next($0) } ?? "")
            case .nameServiceDown, .timedOut, .lost, .resources, .server, .other:
                ("unreachable", "Check host, port and network, then run the same command again.")
            }
        self.init(code, failure.description, place: place, nextStep: nextStep, exit: exit)
    }

    private static func next(_ state: SQLState) -> String {
        switch state.rawValue {
        case "53100": "Free disk space on that server, then run the same command again: it goes on where it was."
        case "53300": "Close connections or raise max_connections there, then run the same command again."
        case "53400": "Run `lindero check`: a setting of the server is used up, such as max_replication_slots."
        default: "Run `lindero check`, then the same command again."
        }
    }

    private static func next(_ error: ConfigurationError) -> String {
        let hasFile = error.problems.contains { $0.path != ConfigurationFile.environmentPath }
        return hasFile
            ? "Correct the file, then run `lindero check`."
            : "Set DATABASE_URL (export DATABASE_URL=postgresql://…), or run `lindero init`."
    }

    private static func next(_ error: SecretError) -> String {
        switch error {
        case .missingVariable(let name, _), .emptyVariable(let name, _):
            "Set \(name) (export \(name)=postgresql://…), then run the same command again."
        case .unreadableFile(let path, _), .emptyFile(let path, _):
            "Write the connection string into \(path), then run the same command again."
        case .notAConnection, .prismaProxy: "Correct it, then run the same command again."
        case .passwordInArgument, .malformedArgument: "Write it in one of these forms, then run the same command again."
        }
    }

    /// An error's own words; for one that has none its type's name, since a dump could show values.
    private static func words(_ error: any Error) -> String {
        let type: Any.Type = Swift.type(of: error)
        return type is any CustomStringConvertible.Type ? "\(error)" : "Something went wrong inside Lindero (\(type))."
    }
}
