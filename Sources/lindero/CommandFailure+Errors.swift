import Configuration
import PostgresClient
import ReplicationCore
import Replicator
import SharedBackend

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
        case is CancellationError:
            self.init("cancelled", "The command was interrupted.", place: place)
        default:
            self.init("internal", Self.words(error), place: place, nextStep: "Run it again with LINDERO_LOG_LEVEL=debug.")
        }
    }

    private init(postgres error: PostgresError, place: String?) {
        switch error {
        case .connection(let message, let state):
            self.init(connection: message, state: state, place: place)
        case .server(let server):
            let isPrivilege = server.sqlState.rawValue == "42501"
            self.init(
                isPrivilege ? "privileges" : "server_\(server.sqlState)", server.description, place: place,
                nextStep: isPrivilege ? "Grant what is missing, or run it as the owner of the database." : nil)
        case .timeout, .cancelled, .closed, .protocolViolation:
            self.init("connection_lost", error.description, place: place, nextStep: "Run the same command again.")
        }
    }

    private init(connection message: String, state: SQLState?, place: String?) {
        let lower = message.lowercased()
        let (code, nextStep) =
            if state?.rawValue == "28P01" || lower.contains("password authentication failed") {
                ("authentication", "Check user and password of the connection; ~/.pgpass or PGPASSWORD can hold the password.")
            } else if state?.class == "28" || lower.contains("no pg_hba.conf entry") {
                ("authentication", "Check the user, and pg_hba.conf on the server.")
            } else if lower.contains("no password supplied") {
                ("authentication", "Give the password in the connection's secret, ~/.pgpass or PGPASSWORD.")
            } else if lower.contains("translate host name") {
                ("unknown_host", "Check the host name of the connection.")
            } else if lower.contains("connection refused") || lower.contains("no such file or directory") {
                ("unreachable", "Check that the server runs and listens there (host and port).")
            } else if state?.rawValue == "3D000" || lower.contains("does not exist") {
                ("no_such_database", "Check the names of database and role.")
            } else if lower.contains("ssl") || lower.contains("certificate") {
                ("tls", "Check sslmode and sslrootcert of the connection.")
            } else {
                ("unreachable", "Check host, port and network, then run the same command again.")
            }
        self.init(code, message, place: place, nextStep: nextStep)
    }

    /// An error's own words; for one that has none its type's name, since a dump could show values.
    private static func words(_ error: any Error) -> String {
        let type: Any.Type = Swift.type(of: error)
        return type is any CustomStringConvertible.Type ? "\(error)" : "Something went wrong inside Lindero (\(type))."
    }
}
