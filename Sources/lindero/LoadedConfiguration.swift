import Configuration
import Foundation
import PostgresClient
import ReplicationCore
import Replicator

/// The configuration in force, and how its databases are reached.
struct LoadedConfiguration: Sendable {
    static let defaultPath = "lindero.yaml"

    var configuration: LinderoConfiguration
    /// The file, or `environment`.
    var path: String
    private var isFromFile: Bool { path != Self.environmentPath }
    private static let environmentPath = "environment"
    private let resolver: SecretResolver
    /// What `advance` and `rollback` left in the origin; `nil` before the first move: then the file's backend holds.
    private(set) var phase: PhaseState?
    /// Why the record could not be read.
    private(set) var phaseProblem: String?
    /// What the file itself says.
    private(set) var fileBackend: Phase?

    /// Reads the file that was asked for, else `lindero.yaml`, else `DATABASE_URL`.
    static func load(
        _ global: GlobalOptions, environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws -> LoadedConfiguration {
        try load(file: global.config, environment: environment)
    }

    /// As the file is now, in the same phase.
    func reloaded() throws -> LoadedConfiguration {
        guard isFromFile else { return self }
        return try Self.load(file: path).following(phase)
    }

    /// The same, in the phase that the origin's record says. An origin that can't be reached leaves the file's backend, and
    /// whoever needs it is told so then; so does a role that may not read the record, such as a service's own.
    static func current(_ global: GlobalOptions) async throws -> LoadedConfiguration {
        var loaded = try load(global)
        do {
            let state = try await loaded.origin().connected { try await PhaseStore(connection: $0).read() }
            return loaded.following(state)
        } catch let failure as CommandFailure where failure.code == PhaseStore.UnknownWord.code {
            throw failure
        } catch {
            loaded.phaseProblem = "the phase is not known, so lindero.yaml alone says what holds: \(CommandFailure(error).message)"
            return loaded
        }
    }

    /// Where the system is: what the record says, else what the file does.
    var state: PhaseState { phase ?? PhaseState(phase: configuration.backend) }

    /// With the backend that a state of the phases means.
    func following(_ state: PhaseState?) -> LoadedConfiguration {
        guard let state else { return self }
        var loaded = self
        loaded.phase = state
        loaded.fileBackend = fileBackend ?? configuration.backend
        loaded.configuration.backend = state.worker.backend
        return loaded
    }

    /// As it is while a worker runs a mode, whatever the record says now: a move looks ahead.
    func running(_ mode: WorkerMode) -> LoadedConfiguration {
        var state = phase ?? PhaseState(phase: mode.backend)
        state.worker = mode
        return following(state)
    }

    private static func load(
        file: String?, environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws -> LoadedConfiguration {
        let path = file ?? defaultPath
        var isFolder = ObjCBool(false)
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            guard file == nil else {
                throw CommandFailure(
                    "configuration", "The configuration file does not exist.", place: path,
                    nextStep: "Run `lindero init --config \(path)` to write one.", exit: .blocked)
            }
            return LoadedConfiguration(
                configuration: try ConfigurationFile.fromEnvironment(environment), path: environmentPath,
                resolver: SecretResolver(environment: environment))
        }
        let text = try text(of: path, isFolder: isFolder.boolValue)
        let folder = (path as NSString).deletingLastPathComponent
        return LoadedConfiguration(
            configuration: try ConfigurationFile.parse(text, path: path), path: path,
            resolver: SecretResolver(environment: environment, directory: folder.isEmpty ? "." : folder))
    }

    private static func text(of path: String, isFolder: Bool) throws -> String {
        func failure(_ message: String, _ nextStep: String) -> CommandFailure {
            CommandFailure("configuration", message, place: path, nextStep: nextStep, exit: .blocked)
        }
        if isFolder {
            throw failure(
                "The configuration file is a folder.", "Name the file itself: --config \(path)/\(defaultPath).")
        }
        guard let data = FileManager.default.contents(atPath: path) else {
            throw failure("The configuration file can't be read.", "Give yourself the right to: chmod u+r \(path).")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw failure("The configuration file is not UTF-8 text.", "Save it as UTF-8, then run `lindero check`.")
        }
        return text
    }

    /// The database that holds the data.
    func origin() throws -> Database { try database(configuration.origin) }

    func database(_ name: String) throws -> Database {
        guard let settings = configuration.database(name) else {
            let names = configuration.databases.map(\.name)
            let nearest = NearestWord.among(names, to: name).map { " (did you mean \"\($0)\"?)" } ?? ""
            throw CommandFailure(
                "configuration", "There is no database \"\(name)\"\(nearest).", place: path,
                nextStep: "Choose one of: \(names.joined(separator: ", ")).", exit: .blocked)
        }
        return Database(
            name: name, options: ConnectionOptions(try resolver.conninfo(of: settings)),
            isPhysicalStandby: settings.isPhysicalStandby)
    }

    /// Connection string of pgbouncer's admin console; `nil` when no service comes through one.
    func bouncerConsole() throws -> String? {
        guard let bouncer = configuration.cutover.bouncer else { return nil }
        return try resolver.conninfo(of: DatabaseSettings(name: "pgbouncer", url: bouncer.admin))
    }

    /// Every database, in the file's order.
    func databases() throws -> [Database] { try configuration.databases.map { try database($0.name) } }

    /// Those beside the origin that can be written.
    func others() throws -> [Database] { try databases().filter { $0.name != configuration.origin && !$0.isPhysicalStandby } }

    /// Whether services move between the two databases of a split: then both write everything.
    var isInTransition: Bool {
        switch phase?.worker {
        case .towardsSplit, .towardsOrigin: true
        case .shared, .replica, .split, .nothing, nil: false
        }
    }

    /// What the directions carry at the moment, according to the tables that are there.
    func policy(_ connection: PostgresConnection) async throws -> OwnershipPolicy {
        isInTransition ? try await transitionPolicy(connection) : try await ownership(connection)
    }

    /// What they carry while services move.
    func transitionPolicy(_ connection: PostgresConnection) async throws -> OwnershipPolicy {
        let ownership = try await ownership(connection)
        guard let other = configuration.others.first
        else { return ownership }
        return ownership.inTransition(origin: configuration.origin, other: other.name)
    }

    /// Who owns what, according to the tables that are there.
    func ownership(_ connection: PostgresConnection) async throws -> OwnershipPolicy {
        let names = try await CatalogReader.names(connection)
        let selected = OwnershipPolicy.selectedNames(configuration, among: names)
        let tables = try await CatalogReader.tables(connection, matching: selected)
        do {
            return try OwnershipPolicy.resolve(configuration, tables: tables, otherNames: names)
        } catch {
            throw ConfigurationError(error, path: path)
        }
    }
}

/// One database of the configuration and its address.
struct Database: Sendable {
    var name: String
    var options: ConnectionOptions
    var isPhysicalStandby = false

    /// For people: name and address, without secrets.
    var place: String { "\(name) (\(options))" }

    /// Runs `body` with a connection; its errors say which database they are about.
    func connected<Result: Sendable>(_ body: (PostgresConnection) async throws -> Result) async throws -> Result {
        do {
            return try await PostgresConnection.with(options) { connection in
                if let failure = SupportedVersion.failure(await connection.serverVersion) { throw failure }
                return try await body(connection)
            }
        } catch var failure as CommandFailure {
            failure.place = failure.place ?? place
            throw failure
        } catch {
            throw CommandFailure(error, place: place)
        }
    }
}
