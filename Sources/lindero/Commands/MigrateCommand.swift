import ArgumentParser
import PostgresClient
import Replicator

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
              lindero migrate --down        remove the schema lindero again
            """)

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Print the SQL that would run, and change nothing.")
    var dryRun = false

    @Flag(help: "Remove the schema lindero and everything in it.")
    var down = false

    func validate() throws {
        if dryRun && down { throw ValidationError("Choose either --dry-run or --down.") }
    }

    func perform() async throws {
        let databases = try databases(try await LoadedConfiguration.current(global))
        var reports: [MigrationReport] = []
        for database in databases {
            let report = try await database.connected { connection in
                try await migrate(connection, of: database.name)
            }
            reports.append(report)
        }
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

    private func migrate(_ connection: PostgresConnection, of name: String) async throws -> MigrationReport {
        let migrator = Migrator(connection: connection)
        if dryRun { return MigrationReport(database: name, action: .plan, statements: try await migrator.plan()) }
        if down {
            let versions = try await migrator.migrateDown()
            let slots = try await connection.query(
                """
                SELECT slot_name FROM pg_catalog.pg_replication_slots
                WHERE database = pg_catalog.current_database() AND slot_name LIKE 'lindero\\_%' ORDER BY 1
                """)
            return MigrationReport(
                database: name, action: .down, versions: versions, slots: slots.rows.compactMap { $0[0] })
        }
        return MigrationReport(database: name, action: .up, versions: try await migrator.migrate())
    }
}

/// What happened to one database.
private struct MigrationReport: Sendable {
    enum Action: String { case plan, up, down }

    var database: String
    var action: Action
    var versions: [Int] = []
    var statements: [String] = []
    /// Slots that stay behind and keep WAL.
    var slots: [String] = []

    var json: JSONValue {
        .object([
            ("database", .text(database)), ("action", .text(action.rawValue)),
            ("versions", .array(versions.map { .integer(Int64($0)) })), ("sql", .texts(statements)),
            ("remainingSlots", .texts(slots)),
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
                + slots.map {
                    "\(database): slot \($0) still keeps WAL; when no worker needs it: SELECT pg_drop_replication_slot('\($0)');"
                }
        }
    }
}
