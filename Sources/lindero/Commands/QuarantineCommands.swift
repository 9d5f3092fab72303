import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator

struct QuarantineGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quarantine", abstract: "Changes that a target refused and that wait for a person.",
        discussion: """
            A table with `on_error: quarantine` in lindero.yaml does not stop its direction: a change that the target \
            refuses is kept in lindero.quarantine on the target, and the rest of its transaction goes on.

            Examples:
              lindero quarantine list
              lindero quarantine show 7 --show-values
              lindero quarantine retry 7
              lindero quarantine discard 7
            """,
        subcommands: [QuarantineList.self, QuarantineShow.self, QuarantineRetry.self, QuarantineDiscard.self])
}

/// The databases whose quarantine a command looks at: in every backend those that a replica has, or once had, as its target.
private struct QuarantinePlace {
    let loaded: LoadedConfiguration
    let databases: [Database]

    init(_ global: GlobalOptions) async throws {
        loaded = try await LoadedConfiguration.current(global)
        databases = try loaded.others()
        guard databases.isEmpty else { return }
        throw CommandFailure(
            "quarantine", "There is no quarantine: \(loaded.path) names no database that changes are applied to.",
            place: loaded.path, nextStep: "Run `lindero status`.", exit: .blocked)
    }

    /// The one database; with several, the change's number alone would not say which.
    func one(_ target: String?) throws -> Database {
        let found = target.map { name in databases.filter { $0.name == name } } ?? databases
        guard found.count == 1, let database = found.first else {
            let names = databases.map(\.name).joined(separator: ", ")
            throw CommandFailure(
                "quarantine", "Which target is meant?", nextStep: "Give --target with one of: \(names).", exit: .blocked)
        }
        return database
    }

    /// The direction that applies to the database, for a change that is to be applied as it would.
    func direction(to database: Database, ids: [Int64]) async throws -> DirectionSettings {
        let plan = try await WorkerPlan.make(loaded)
        for case .replica(let settings) in plan.tasks where settings.targetName == database.name { return settings }
        let numbers = ids.map { "\($0)" }.joined(separator: " ")
        let discard = "`lindero quarantine discard \(numbers)`."
        switch plan.backend {
        case .split:
            throw CommandFailure(
                "quarantine",
                "A split applies no change from quarantine: \(database.name) has gone on by itself since, and would send what was written as its own.",
                place: database.place,
                nextStep: "Run `lindero verify --repair`: it compares the rows and, with --execute, mends them; then " + discard,
                exit: .blocked)
        case .shared, .replica:
            throw CommandFailure(
                "quarantine", "Nothing is applied to \(database.name) in the backend \(plan.backend.rawValue), nor out of its quarantine.",
                place: database.place, nextStep: "If it is to stay so: " + discard, exit: .blocked)
        }
    }
}

struct QuarantineList: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "The changes in quarantine; exits with 3 when some are open.",
        discussion: """
            Example:
              lindero quarantine list --all --json
            """)

    @OptionGroup var global: GlobalOptions

    @Flag(help: "Also those that were applied or discarded.")
    var all = false

    func perform() async throws {
        var changes: [QuarantinedChange] = []
        for database in try await QuarantinePlace(global).databases {
            changes += try await database.connected { connection in
                let store = QuarantineStore(connection: connection)
                return try await store.exists() ? try await store.list(onlyOpen: !all) : []
            }
        }
        answer(.object([("changes", .array(changes.map(\.json)))]), lines: lines(changes))
        if changes.contains(where: { $0.state == .open }) { throw ExitCode(LinderoExit.found.rawValue) }
    }

    private func lines(_ changes: [QuarantinedChange]) -> [String] {
        if changes.isEmpty { return ["Nothing is in quarantine.", "Next: lindero status"] }
        var table = TextTable(["id", "state", "direction", "change", "committed", "reason"])
        for change in changes {
            table.add([
                "\(change.id)", change.state.rawValue, change.direction, "\(change.operation) \(change.table)",
                change.commitTime, change.reason,
            ])
        }
        return table.lines + ["Next: lindero quarantine show ID, then retry ID or discard ID"]
    }
}

struct QuarantineShow: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "One change; its values only when asked.",
        discussion: """
            Example:
              lindero quarantine show 7 --show-values
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The change's number.")
    var id: Int64

    @Option(help: "The target's name, when there are several.")
    var target: String?

    @Flag(help: "Print the row's values, too.")
    var showValues = false

    func perform() async throws {
        let (change, values) = try await QuarantinePlace(global).one(target).connected { connection in
            try await QuarantineStore(connection: connection).show(id)
        }
        let fields: [(String, JSONValue)] = values.map { value in
            let text: JSONValue = value.isUnchanged ? .text("(unchanged)") : showValues ? .optional(value.text) : .text("(hidden)")
            return ("\(value.image.rawValue).\(value.column)", text)
        }
        answer(.object([("change", change.json), ("values", .object(fields))]), lines: lines(change, values))
    }

    private func lines(_ change: QuarantinedChange, _ values: [QuarantinedValue]) -> [String] {
        var lines = [
            "\(change.operation) on \(change.table), \(change.state.rawValue), since \(change.quarantinedAt)",
            "source transaction \(change.sourceXID), committed \(change.commitTime) at \(change.commitLSN), change \(change.position)",
            "reason: \(change.reason)",
        ]
        for value in values {
            let text = value.isUnchanged ? "(unchanged)" : showValues ? value.text ?? "NULL" : "(hidden: --show-values)"
            lines.append("  \(value.image.rawValue).\(value.column) = \(text)")
        }
        return lines + ["Next: mend the cause, then lindero quarantine retry \(change.id); or lindero quarantine discard \(change.id)"]
    }
}

struct QuarantineRetry: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "retry", abstract: "Apply changes now; each commits together with its mark.",
        discussion: """
            A row that was written since its change was set aside is left alone: `lindero verify --repair` knows what it should be. \
            So are changes that the rules or the tables of today say otherwise of, and all of them in a split.

            Example:
              lindero quarantine retry 7 8
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The changes' numbers, in the order to apply.")
    var ids: [Int64]

    @Option(help: "The target's name, when there are several.")
    var target: String?

    @Flag(help: "Also over rows that are newer.")
    var force = false

    func perform() async throws {
        let place = try await QuarantinePlace(global)
        let database = try place.one(target)
        let settings = try await place.direction(to: database, ids: ids)
        try await PostgresConnection.with(QuarantineStore.options(settings.target)) { connection in
            try await ids.each("applied", place: database.place) {
                try await QuarantineStore(connection: connection).retry($0, settings: settings, force: force)
            }
        }
        answer(
            .object([("applied", .array(ids.map { .integer($0) }))]),
            lines: ["Applied: \(ids.count).", "Next: lindero \(force ? "verify" : "quarantine list")"])
    }
}

struct QuarantineDiscard: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "discard", abstract: "Give changes up; they stay on record.",
        discussion: """
            Example:
              lindero quarantine discard 7
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The changes' numbers.")
    var ids: [Int64]

    @Option(help: "The target's name, when there are several.")
    var target: String?

    func perform() async throws {
        let database = try await QuarantinePlace(global).one(target)
        try await database.connected { connection in
            try await ids.each("discarded", place: database.place) { try await QuarantineStore(connection: connection).discard($0) }
        }
        answer(.object([("discarded", .array(ids.map { .integer($0) }))]), lines: ["Discarded: \(ids.map(String.init).joined(separator: ", ")).", "Next: lindero quarantine list --all"])
    }
}

extension [Int64] {
    /// One after the other. Where one can't be, the failure tells of the others, too.
    fileprivate func each(_ word: String, place: String, _ decide: (Int64) async throws -> Void) async throws {
        for (number, id) in enumerated() {
            do {
                try await decide(id)
            } catch where count > 1 {
                let (done, left) = (self[..<number], self[(number + 1)...])
                var failure = CommandFailure(error, place: place)
                if !done.isEmpty { failure.message += " Before it, \(word): \(done.map(String.init).joined(separator: ", "))." }
                if !left.isEmpty { failure.message += " Not tried: \(left.map(String.init).joined(separator: ", "))." }
                failure.details += [
                    (word, .array(done.map { .integer($0) })), ("not_tried", .array(left.map { .integer($0) })),
                ]
                throw failure
            }
        }
    }
}

extension QuarantinedChange {
    fileprivate var json: JSONValue {
        .object([
            ("id", .integer(id)), ("state", .text(state.rawValue)), ("direction", .text(direction)), ("table", .text("\(table)")),
            ("operation", .text(operation)), ("sourceXid", .integer(sourceXID)), ("commitLsn", .text(commitLSN)),
            ("commitTime", .text(commitTime)), ("position", .integer(position)), ("sqlState", .optional(sqlState)),
            ("reason", .text(reason)), ("quarantinedAt", .text(quarantinedAt)),
        ])
    }
}
