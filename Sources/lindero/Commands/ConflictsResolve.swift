import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator

struct ConflictsResolve: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "resolve", abstract: "Decide a conflict: the value is written, and reaches the other side like any write.",
        discussion: """
            The write and the mark commit together in the database that holds the conflict; the worker takes the write \
            to the other one. If the row holds another value by now than the conflict kept, nothing is done without \
            --force. Arguments of a process can be read by every user of the machine: --value-from keeps a value out \
            of them.

            Examples:
              lindero conflicts resolve sync:7 --take bot
              lindero conflicts resolve sync:7 --take '+34 600 000 000'
              lindero conflicts resolve sync:7 --value-from value.txt
              lindero conflicts resolve sync:7 --null
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The conflict, as `conflicts list` names it.")
    var id: ConflictName

    @Option(help: ArgumentHelp("A database whose value shall stand, or else the value itself.", valueName: "side|value"))
    var take: String?

    @Option(help: ArgumentHelp("Read the value from a file, - for stdin; a newline at its end is left off.", valueName: "file"))
    var valueFrom: String?

    @Flag(help: "NULL shall stand.")
    var null = false

    @Flag(help: "Also when the row has changed since, or is gone.")
    var force = false

    func validate() throws {
        let given = [take != nil, valueFrom != nil, null].count { $0 }
        if given != 1 { throw ValidationError("Give one of --take, --value-from and --null.") }
    }

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let choice = try await choice(loaded)
        let place = try await ConflictPlace.find(id, loaded)
        let policy = try await loaded.origin().connected { try await loaded.policy($0) }
        let name = place.database.name
        let number = place.number
        let force = force
        let outcome = try await place.database.connected { connection in
            do {
                return try await ManualResolver(connection: connection) { table, column in
                    policy.tables[table]?.mayWrite(column, side: name) ?? false
                }.resolve(number, take: choice, force: force)
            } catch let error as ConflictError {
                throw CommandFailure(conflict: error, of: name)
            }
        }
        let what =
            switch outcome {
            case .written: "the value was written to \(name)"
            case .stands: "the row holds that value already"
            case .rowGone: "the row is not there any more, so nothing was written"
            }
        answer(
            .object([("resolved", .text(place.name)), ("written", .bool(outcome == .written))]),
            lines: ["Resolved \(place.name): \(what).", "Next: lindero conflicts list"])
    }

    private func choice(_ loaded: LoadedConfiguration) async throws -> ConflictChoice {
        if null { return .value(nil) }
        if let take {
            let isSide = loaded.configuration.databases.contains { $0.name == take }
            return isSide ? .side(take) : .value(take)
        }
        var bytes: [UInt8] = []
        let input = try InputBytes(valueFrom)
        while let piece = try await input.read() { bytes += piece }
        if bytes.last == 0x0A { bytes.removeLast() }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw CommandFailure(
                "conflicts", "The value is not UTF-8 text.", place: valueFrom, nextStep: "Write it in the text form of its type.",
                exit: .blocked)
        }
        return .value(text)
    }
}

/// `sync:7`, or `7` where one database alone has that number.
struct ConflictName: ExpressibleByArgument {
    var database: String?
    var number: Int64

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
        guard let last = parts.last, let number = Int64(last), parts.count <= 2 else { return nil }
        self.number = number
        database = parts.count == 2 ? String(parts[0]) : nil
    }
}

/// The database that holds a conflict.
struct ConflictPlace: Sendable {
    var database: Database
    var number: Int64

    var name: String { "\(database.name):\(number)" }

    /// The databases that may hold some: both sides of a split, and what is left of one after it.
    static func databases(_ loaded: LoadedConfiguration) throws -> [Database] {
        if loaded.configuration.backend == .shared { return [try loaded.origin()] }
        return try loaded.databases().filter { !$0.isPhysicalStandby }
    }

    static func find(_ name: ConflictName, _ loaded: LoadedConfiguration) async throws -> ConflictPlace {
        if let database = name.database { return ConflictPlace(database: try loaded.database(database), number: name.number) }
        var found: [ConflictPlace] = []
        for database in try databases(loaded) {
            let isThere = try await database.connected { try await ConflictStore(connection: $0).show(name.number) != nil }
            if isThere { found.append(ConflictPlace(database: database, number: name.number)) }
        }
        guard let place = found.first else { throw ConflictError.unknown(name.number) }
        guard found.count == 1 else {
            throw CommandFailure(
                "conflicts", "Which conflict is meant?", nextStep: "Give \(found.map(\.name).joined(separator: " or ")).",
                exit: .blocked)
        }
        return place
    }
}
