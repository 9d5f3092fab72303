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
                "configuration", error.description, nextStep: "Correct the file, then run `lindero check`.",
                exit: .blocked)
        case let error as OwnershipError:
            self.init(
                "ownership", error.description, place: place, nextStep: "Correct the file, then run `lindero check`.",
                exit: .blocked)
        case let error as SecretError:
            self.init(
                "secret", error.description, place: place,
                nextStep: "Set it, then run the same command again.", exit: .blocked)
        case let failure as ReplicationFailure:
            self.init(
                failure.code.rawValue, failure.message, place: place, nextStep: failure.nextStep,
                exit: failure.isBlocker ? .blocked : .failed)
        case let problem as Migrator.Problem:
            self.init("migration", problem.description, place: place, exit: .blocked)
        case let error as PipelineError:
            self.init(postgres: error.error, place: place)
        case let error as PostgresError:
            self.init(postgres: error, place: place)
        case let failure as GuardCommand.Failure:
            self.init("guard", failure.description, place: place, exit: .blocked)
        case let failure as UpsertFailure:
            self.init("upsert", failure.description, place: place, exit: .blocked)
        case let failure as LineOutput.Failure:
            self.init("output", failure.description)
        case is CancellationError:
            self.init("cancelled", "The command was interrupted.", place: place)
        default:
            self.init("internal", Self.words(error), place: place, nextStep: "Run it again with LINDERO_LOG_LEVEL=debug.")
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
                nextStep: isPrivilege ? "Grant what is missing, or run it as the owner of the database." : nil)
        case .timeout, .cancelled, .closed, .parameter, .protocolViolation:
            self.init("connection_lost", error.description, place: place, nextStep: "Run the same command again.")
        }
    }

    private init(connection failure: ConnectionFailure, place: String?) {
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
            case .nameServiceDown, .timedOut, .lost, .resources, .server, .other:
                ("unreachable", "Check host, port and network, then run the same command again.")
            }
        self.init(code, failure.description, place: place, nextStep: nextStep)
    }

    /// An error's own words; for one that has none its type's name, since a dump could show values.
    private static func words(_ error: any Error) -> String {
        let type: Any.Type = Swift.type(of: error)
        return type is any CustomStringConvertible.Type ? "\(error)" : "Something went wrong inside Lindero (\(type))."
    }
}
