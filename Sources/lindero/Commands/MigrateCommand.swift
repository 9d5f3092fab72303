import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator
import SharedBackend

struct MigrateCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate", abstract: "Bring the schema lindero in each database up to date, or remove it.",
        discussion: """
            Lindero keeps its own tables in the schema lindero and touches no table of yours here. Running it twice \
            changes nothing. Physical standbys are passed over; with backend: shared all services are in one database, \
            which is reached as the origin.

            Examples:
              lindero migrate --dry-run     print the SQL that would run
              lindero migrate
              lindero migrate --down        remove Lindero again: schema, slots, publications, replication origins

            The way down leaves tables and rows as they are, and slots and publications that lindero.yaml names. It takes \
            down all databases or none, and refuses while a worker runs, a guard is on, sequences are shared out, or \
            conflicts and quarantined changes wait for a person.
            """)

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Print the SQL that would run, and change nothing.")
    var dryRun = false

    @Flag(help: "Remove everything of Lindero; tables and rows stay.")
    var down = false

    func validate() throws {
        if dryRun && down { throw ValidationError("Choose either --dry-run or --down.") }
    }

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let reports = down ? try await remove(loaded) : try await migrate(loaded)
        answer(
            .object([("databases", .array(reports.map(\.json)))]),
            lines: reports.flatMap { $0.lines } + ["Next: \(nextCommand)"])
    }

    /// The databases that Lindero keeps something in. A service that shares the origin's database logs in there with
    /// a role of its own, which has nothing to do with the schema lindero.
    private func databases(_ loaded: LoadedConfiguration) throws -> [Database] {
        if loaded.configuration.backend == .shared { return [try loaded.origin()] }
        return try loaded.databases().filter { !$0.isPhysicalStandby }
    }

    private var nextCommand: String {
        if dryRun { return "lindero migrate" }
        return down ? "lindero migrate (to begin anew)" : "lindero run"
    }

    private func migrate(_ loaded: LoadedConfiguration) async throws -> [MigrationReport] {
        var reports: [MigrationReport] = []
        for database in try databases(loaded) {
            reports.append(
                try await database.connected { connection in
                    let migrator = Migrator(connection: connection)
                    if dryRun {
                        return MigrationReport(database: database.name, action: .plan, statements: try await migrator.plan())
                    }
                    return MigrationReport(database: database.name, action: .up, versions: try await migrator.migrate())
                })
        }
        return reports
    }

    /// All databases or none.
    private func remove(_ loaded: LoadedConfiguration) async throws -> [MigrationReport] {
        let places = try await SeparateDatabases.read(loaded)
        let kept = loaded.namedObjects
        try await loaded.origin().connected { try await requireRest($0) }
        for database in places.databases {
            try await database.connected { connection in
                try await requireNoGuard(connection, database, loaded)
                try await untilLetGo { try await Migrator(connection: connection).requireRemovable(keeping: kept) }
            }
        }
        var reports = places.passedOver.map { MigrationReport(database: $0, action: .passedOver) }
        for database in places.databases {
            reports.append(
                try await database.connected { connection in
                    let objects = try await OwnObjects.read(connection, keeping: kept)
                    let versions = try await Migrator(connection: connection).migrateDown(keeping: kept)
                    return MigrationReport(database: database.name, action: .down, versions: versions, objects: objects)
                })
        }
        return reports
    }

    /// The sessions of a worker that has just ended may need a moment.
    private func untilLetGo(_ body: () async throws -> Void) async throws {
        for _ in 0..<Self.patienceAttempts {
            do {
                return try await body()
            } catch Migrator.Problem.workerRunning {
                try await Task.sleep(for: .milliseconds(Self.betweenMilliseconds))
            }
        }
        try await body()
    }

    private static let patienceAttempts = 20
    private static let betweenMilliseconds = 100

    /// Nobody may run or lead what is being taken down.
    private func requireRest(_ origin: PostgresConnection) async throws {
        let locks = PhaseLocks(connection: origin)
        if let leader = try await locks.leader() {
            throw CommandFailure(
                "phase_held", "Somebody leads a move: \(leader). Nothing was removed.",
                nextStep: "Wait for it (`lindero status` tells how far it is), then run `lindero migrate --down` again.", exit: .blocked)
        }
        try await untilLetGo { if try await !locks.running().isEmpty { throw Migrator.Problem.workerRunning } }
    }

    /// `guard remove` is for the origin; elsewhere a guard came with a copy of the whole server.
    private func requireNoGuard(_ connection: PostgresConnection, _ database: Database, _ loaded: LoadedConfiguration) async throws {
        guard database.name != loaded.configuration.origin, let state = try await GuardCommand.state(connection: connection) else { return }
        throw CommandFailure(
            "migration", "Not yet: the guard is still on. Nothing was removed.",
            nextStep: "Run `lindero decommission --remove \(database.name):guard/\(state.mode.rawValue)` first.", exit: .blocked)
    }
}

extension LoadedConfiguration {
    /// Slots and publications that the file names: they were there before Lindero.
    var namedObjects: Set<String> {
        Set([configuration.replication.slot, configuration.replication.publication].compactMap { $0 })
    }
}

/// What happened to one database.
private struct MigrationReport: Sendable {
    enum Action: String {
        case plan, up, down
        case passedOver = "passed_over"
    }

    var database: String
    var action: Action
    var versions: [Int] = []
    var statements: [String] = []
    /// Removed beside the schema.
    var objects = OwnObjects()

    var json: JSONValue {
        .object([
            ("database", .text(database)), ("action", .text(action.rawValue)),
            ("versions", .array(versions.map { .integer(Int64($0)) })), ("sql", .texts(statements)),
            ("slots", .texts(objects.slots.map(\.name))), ("publications", .texts(objects.publications)),
            ("origins", .texts(objects.origins.map(\.name))),
        ])
    }

    var lines: [String] {
        let list = versions.map(String.init).joined(separator: ", ")
        switch action {
        case .plan:
            return statements.isEmpty
                ? ["-- \(database): up to date, nothing to run"]
                : ["-- \(database): would run"] + statements
        case .up:
            return [versions.isEmpty ? "\(database): up to date" : "\(database): applied migration \(list)"]
        case .down:
            let done = versions.isEmpty ? "\(database): no schema lindero here" : "\(database): removed migration \(list)"
            return [done]
                + objects.slots.map { "\(database): dropped slot \($0.name)" }
                + objects.publications.map { "\(database): dropped publication \($0)" }
                + objects.origins.map { "\(database): dropped replication origin \($0.name)" }
        case .passedOver:
            return ["\(database): can't be reached; nothing says that it is another database than the origin's, so it was passed over"]
        }
    }
}
