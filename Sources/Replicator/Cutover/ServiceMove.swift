import Logging
import PostgresClient
import ReplicationCore

/// Moves one service's writers from one database to the other, while both take writes; a rollback is the same with both
/// swapped.
///
/// Through pgbouncer (PAUSE, another address, RESUME), by a command, by both, or by a person for whom it waits. With
/// `.strict` the old side takes no write of anyone from the fence until the service has moved, and afterwards none of the
/// service's roles. After a kill at any point the same call finishes what was begun; the call with both sides swapped undoes
/// it. What fails is put back before the error is thrown.
public struct ServiceMove: Sendable {
    /// One database. The role should be an owner of the tables or a superuser for a strict fence, may see all sessions
    /// (pg_read_all_stats), and may end those of the service's roles (pg_signal_backend).
    public struct Side: Sendable {
        public var name: String
        public var options: ConnectionOptions

        public init(name: String, options: ConnectionOptions) {
            self.name = name
            self.options = options
        }
    }

    /// The pgbouncer that the service comes through.
    public struct Bouncer: Sendable {
        /// Connection string of the admin console.
        public var console: String
        public var file: String
        public var entry: String
        /// How pgbouncer reaches a database, by its name; where there is none, as we do.
        public var addresses: [String: ServerAddress]

        public init(console: String, file: String, entry: String, addresses: [String: ServerAddress] = [:]) {
            self.console = console
            self.file = file
            self.entry = entry
            self.addresses = addresses
        }
    }

    /// The service, by the name of its database.
    public var service: String
    /// The roles that it logs in with.
    public var roles: [String]
    public var from: Side
    public var to: Side
    /// The declared tables. Those that the old side lacks are passed over.
    public var tables: [QualifiedName]
    public var fence = CutoverSettings.Fence.none
    public var bouncer: Bouncer?
    public var command: [String] = []
    /// For the whole move; putting back what failed may take as long again.
    public var deadlineMilliseconds = 30_000
    /// Returns when all that was written on that side before the call is on the other.
    public var drain: @Sendable (_ side: String) async throws -> Void
    public var logger: Logger
    public var pauseWatch = PauseWatch.Program.own
    /// For a test that wants a fence that does not hold.
    var fenceLockMode: String?

    public init(
        service: String, roles: [String], from: Side, to: Side, tables: [QualifiedName], logger: Logger,
        drain: @escaping @Sendable (_ side: String) async throws -> Void
    ) {
        self.service = service
        self.roles = roles
        self.from = from
        self.to = to
        self.tables = tables
        self.logger = logger
        self.drain = drain
    }

    /// The same with what `cutover:` says of this service.
    ///
    /// - Parameter console: connection string of pgbouncer's admin console; not looked at when the service does not come
    ///   through one.
    public init(
        service: String, from: Side, to: Side, tables: [QualifiedName], configuration: LinderoConfiguration, console: String?,
        logger: Logger, drain: @escaping @Sendable (_ side: String) async throws -> Void
    ) {
        self.init(
            service: service, roles: configuration.database(service)?.roles ?? [], from: from, to: to, tables: tables, logger: logger,
            drain: drain)
        let settings = configuration.cutover
        fence = settings.fence
        command = settings.command
        deadlineMilliseconds = configuration.gates.cutoverTimeoutSeconds * 1_000
        if let bouncer = settings.bouncer, let entry = bouncer.entries[service], let console {
            self.bouncer = Bouncer(console: console, file: bouncer.file, entry: entry, addresses: bouncer.addresses)
        }
    }

    /// Moves the service.
    ///
    /// - Parameter report: told of every step, in order.
    /// - Returns: what it cost. A second call for a service that has moved finds that, and costs nothing.
    /// - Throws: `ServiceMoveError`; the service is where it was then, unless the words say otherwise.
    @discardableResult
    public func run(report: @escaping @Sendable (ServiceMoveEvent) -> Void = { _ in }) async throws(ServiceMoveError) -> ServiceMoveFigures {
        guard !roles.isEmpty else { throw .noRoles(service: service) }
        let run = try await MoveRun.open(self, report: report)
        do throws(ServiceMoveError) {
            let figures = try await run.move()
            await run.close()
            return figures
        } catch {
            // Whatever stopped us, and though our own task may be cancelled.
            let left = await Task { await run.undo() }.value
            await run.close()
            if left.isEmpty { throw error }
            throw .notUndone(error, service: service, left: left)
        }
    }
}
