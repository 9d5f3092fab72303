import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator

struct AwaitCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "await", abstract: "Return once the replica shows what was committed up to a position.",
        discussion: """
            To read your own writes from the replica: after the commit ask the writing server for \
            pg_current_wal_insert_lsn(), and give it here. Works with a replica that Lindero keeps and with a physical \
            standby. Exits with 1 when the time is up. A running worker answers the same over HTTP: \
            /await?lsn=LSN&timeout=5s.

            Examples:
              lindero await --lsn 0/3A91F20
              lindero await --lsn 0/3A91F20 --timeout 500ms --on copy
            """)

    @OptionGroup var global: GlobalOptions

    @Option(help: "The position, as pg_current_wal_insert_lsn() prints it.")
    var lsn: LSN

    @Option(help: "How long to wait, with its unit: 500ms, 5s, 1min.")
    var timeout = WaitTimeout(milliseconds: 5_000)

    @Option(help: "The database that shall show it; default: the only one that follows the origin.")
    var on: String?

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let target = try AwaitPlace.target(on, loaded)
        let source = try AwaitPlace.source(of: target, loaded)
        let direction = "\(source.name)->\(target.name)"
        let start = Monotonic.milliseconds()
        let lsn = lsn
        let place = target.isPhysicalStandby ? LSNWait.Place.standby : .direction(direction)
        let outcome = try await target.connected { connection in
            try await LSNWait(place: place, target: connection).wait(
                for: lsn, timeoutMilliseconds: timeout.milliseconds
            ) { try await source.connected { try await Marker.write(on: $0) } }
        }
        let waited = Monotonic.milliseconds() - start
        switch outcome {
        case .shown(let shown):
            answer(
                .object([
                    ("reached", .bool(true)), ("lsn", .text("\(lsn)")), ("shownLsn", .text("\(shown)")),
                    ("waitedMs", .integer(waited)),
                ]), lines: ["\(direction) shows \(shown), after \(waited) ms."])
        case .timedOut(let shown):
            var failure = CommandFailure(
                "await_timeout",
                "\(direction) does not show \(lsn) yet: it is at \(shown?.description ?? "no known position").",
                place: target.place, nextStep: "Run `lindero lag` to see how far it is behind.")
            failure.details = [
                ("reached", .bool(false)), ("lsn", .text("\(lsn)")), ("shownLsn", .optional(shown?.description)),
                ("waitedMs", .integer(waited)),
            ]
            throw failure
        }
    }
}

/// Which database is waited for, and whose position it is to show.
enum AwaitPlace {
    static func target(_ name: String?, _ loaded: LoadedConfiguration) throws -> Database {
        let configuration = loaded.configuration
        let followers = try loaded.databases().filter { database in
            database.isPhysicalStandby || configuration.backend == .split
                || configuration.backend == .replica && database.name != configuration.origin
        }
        if let name {
            let database = try loaded.database(name)
            if let found = followers.first(where: { $0.name == database.name }) { return found }
        } else {
            let others = followers.filter { $0.name != configuration.origin }
            if let only = others.first, others.count == 1 { return only }
        }
        throw CommandFailure(
            "await",
            followers.isEmpty
                ? "No database follows \(configuration.origin), so there is nothing to wait for."
                : "Say with --on which database is to show it.",
            place: loaded.path,
            nextStep: followers.isEmpty
                ? "Set `backend: replica`, or declare a standby with `physical_standby: true`."
                : "Choose one of: \(followers.map(\.name).joined(separator: ", ")).", exit: .blocked)
    }

    /// The database that was written to: the origin, or in a split the other side.
    static func source(of target: Database, _ loaded: LoadedConfiguration) throws -> Database {
        let origin = try loaded.origin()
        guard target.name == origin.name else { return origin }
        return try loaded.others().first ?? origin
    }
}

/// A time with its unit.
struct WaitTimeout: ExpressibleByArgument, CustomStringConvertible {
    var milliseconds: Int
    var description: String { milliseconds % 1_000 == 0 ? "\(milliseconds / 1_000)s" : "\(milliseconds)ms" }
    var defaultValueDescription: String { description }

    init(milliseconds: Int) { self.milliseconds = milliseconds }

    init?(argument: String) {
        guard let milliseconds = WaitDuration.milliseconds(argument) else { return nil }
        self.milliseconds = milliseconds
    }
}

extension LSN: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}
