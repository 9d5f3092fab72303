import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator

struct ConflictGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conflicts", abstract: "What both sides of a split wrote at the same time, and which of it stands.",
        discussion: """
            Shared columns with `policy: queue` keep one value and hold the other for a person: those conflicts are \
            open. All others were settled by their policy and are on record here, the losing value included. A \
            conflict is named DATABASE:NUMBER, as the list prints it.

            Examples:
              lindero conflicts list
              lindero conflicts show sync:7 --show-values
              lindero conflicts resolve sync:7 --take bot
            """,
        subcommands: [ConflictsList.self, ConflictsShow.self, ConflictsResolve.self])
}

struct ConflictsList: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Conflicts and their counts; exits with 3 when some are open.",
        discussion: """
            Prints the open ones unless --state or --all asks for others, and how many there are by table, column and \
            policy.

            Examples:
              lindero conflicts list --table Reservas --column phone
              lindero conflicts list --state settled --limit 20
              lindero conflicts list --all --json
            """)

    @OptionGroup var global: GlobalOptions

    @Option(help: "Only this table: Name or schema.Name.")
    var table: String?

    @Option(help: "Only this column.")
    var column: String?

    @Option(help: "Only this state: open, settled or resolved; may be given again.")
    var state: [RecordedConflict.State] = []

    @Flag(help: "Conflicts of every state.")
    var all = false

    @Option(help: "The newest this many of each database.")
    var limit = 100

    func validate() throws {
        if all, !state.isEmpty { throw ValidationError("--all and --state exclude each other.") }
        if limit < 0 { throw ValidationError("--limit must not be negative.") }
    }

    func perform() async throws {
        var filter = ConflictFilter(states: all ? [] : state.isEmpty ? [.open] : state, limit: limit)
        if let table {
            guard let name = TablePattern(table)?.exactName else {
                throw CommandFailure(
                    "conflicts", "--table \"\(table)\" is no table's name.", nextStep: "Write Name or schema.Name.", exit: .blocked)
            }
            filter.table = name
        }
        filter.column = column
        var listed: [(database: String, conflict: RecordedConflict)] = []
        var counts: [ConflictCount] = []
        for database in try ConflictPlace.databases(try await LoadedConfiguration.current(global)) {
            let chosen = filter
            let found = try await database.connected { connection -> ([RecordedConflict], [ConflictCount]) in
                let store = ConflictStore(connection: connection)
                guard try await store.exists() else { return ([], []) }
                var whole = chosen
                whole.states = []
                return (try await store.list(chosen), try await store.counts(whole))
            }
            listed += found.0.map { (database.name, $0) }
            counts.add(found.1)
        }
        let json = JSONValue.object([
            ("open", .integer(counts.openCount)), ("conflicts", .array(listed.map { $0.conflict.json(database: $0.database) })),
            ("counts", .array(counts.map(\.json))),
        ])
        answer(json, lines: lines(listed, counts))
        if counts.openCount > 0 { throw ExitCode(LinderoExit.found.rawValue) }
    }

    private func lines(
        _ listed: [(database: String, conflict: RecordedConflict)], _ counts: [ConflictCount]
    ) -> [String] {
        if counts.isEmpty { return ["No conflicts are on record.", "Next: lindero status"] }
        var lines: [String] = []
        if listed.isEmpty {
            lines.append("None of them is listed: \(all ? "limit" : "state") leaves them out.")
        } else {
            var table = TextTable(["id", "state", "kind", "place", "policy", "stands", "lost", "recorded"])
            for (database, conflict) in listed {
                table.add([
                    "\(database):\(conflict.id)", conflict.state.rawValue, conflict.kind, conflict.place, conflict.policy,
                    conflict.kept.database, conflict.lost.database, conflict.recordedAt,
                ])
            }
            lines += table.lines
        }
        var table = TextTable(["count", "state", "place", "policy"])
        for count in counts { table.add(["\(count.count)", count.state.rawValue, count.place, count.policy]) }
        lines += [""] + table.lines
        let next =
            counts.openCount > 0
            ? "lindero conflicts show ID --show-values, then lindero conflicts resolve ID --take SIDE" : "lindero status"
        return lines + ["Next: \(next)"]
    }
}

struct ConflictsShow: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "One conflict; its values only when asked.",
        discussion: """
            Example:
              lindero conflicts show sync:7 --show-values
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The conflict, as `conflicts list` names it.")
    var id: ConflictName

    @Flag(help: "Print the key and the values, too.")
    var showValues = false

    func perform() async throws {
        let place = try await ConflictPlace.find(id, try await LoadedConfiguration.current(global))
        let shown = try await place.database.connected { try await ConflictStore(connection: $0).show(place.number) }
        guard let (conflict, values) = shown else { throw CommandFailure(conflict: .unknown(place.number), of: place.database.name) }
        let key = values.key.map { ($0.column, showValues ? JSONValue.text($0.value) : .text("(hidden)")) }
        let json = JSONValue.object([
            ("conflict", conflict.json(database: place.database.name)), ("key", .object(key)),
            ("kept", showValues ? .optional(values.kept) : .text("(hidden)")),
            ("lost", showValues ? .optional(values.lost) : .text("(hidden)")),
        ])
        answer(json, lines: lines(conflict, values, place))
    }

    private func lines(_ conflict: RecordedConflict, _ values: ConflictValues, _ place: ConflictPlace) -> [String] {
        let hidden = "(hidden: --show-values)"
        func text(_ value: String?) -> String { showValues ? value ?? "NULL" : hidden }
        func write(_ word: String, _ write: RecordedConflict.Write, _ value: String?) -> String {
            let committed = write.committedAt.map { ", committed \($0)" } ?? ""
            return "  \(word) by \(write.database)\(committed)\(write.lsn.map { " at \($0)" } ?? ""): \(text(value))"
        }
        var lines = [
            "\(conflict.kind) on \(conflict.place), \(conflict.state.rawValue), policy \(conflict.policy), "
                + "recorded \(conflict.recordedAt)"
        ]
        lines += values.key.map { "  \($0.column) = \(text($0.value))" }
        if conflict.kind == "repair" {
            // Nobody knows who wrote them: that is why it was mended.
            lines += ["  stands, as on \(conflict.kept.database): \(text(values.kept))"]
            lines += ["  was on \(conflict.lost.database), written over by verify --repair: \(text(values.lost))"]
        } else {
            lines += [write("stands, written", conflict.kept, values.kept), write("lost, written", conflict.lost, values.lost)]
        }
        if let at = conflict.resolvedAt {
            lines.append("resolved \(at) by \(conflict.resolvedBy ?? "?"): \(conflict.resolution ?? "?")")
            return lines + ["Next: lindero conflicts list"]
        }
        let take = "lindero conflicts resolve \(place.name) --take"
        return lines + ["Next: \(take) \(conflict.kept.database), or \(take) \(conflict.lost.database)"]
    }
}

extension RecordedConflict {
    /// Table and column, for people.
    fileprivate var place: String { "\(table)" + (column.map { ".\($0)" } ?? " (row)") }

    fileprivate func json(database: String) -> JSONValue {
        func write(_ write: Write) -> JSONValue {
            .object([
                ("database", .text(write.database)), ("committedAt", .optional(write.committedAt)),
                ("version", .optional(write.version)), ("lsn", .optional(write.lsn)),
            ])
        }
        return .object([
            ("id", .text("\(database):\(id)")), ("state", .text(state.rawValue)), ("direction", .text(direction)),
            ("table", .text("\(table)")), ("column", .optional(column)), ("kind", .text(kind)), ("policy", .text(policy)),
            ("stands", write(kept)), ("lost", write(lost)), ("recordedAt", .text(recordedAt)),
            ("resolvedAt", .optional(resolvedAt)), ("resolvedBy", .optional(resolvedBy)), ("resolution", .optional(resolution)),
        ])
    }
}

extension ConflictCount {
    fileprivate var place: String { "\(table)" + (column.map { ".\($0)" } ?? " (row)") }

    fileprivate var json: JSONValue {
        .object([
            ("table", .text("\(table)")), ("column", .optional(column)), ("policy", .text(policy)),
            ("state", .text(state.rawValue)), ("count", .integer(count)),
        ])
    }
}

extension [ConflictCount] {
    fileprivate var openCount: Int64 { filter { $0.state == .open }.reduce(0) { $0 + $1.count } }

    /// Adds another database's counts.
    fileprivate mutating func add(_ others: [ConflictCount]) {
        for other in others {
            let known = firstIndex {
                $0.table == other.table && $0.column == other.column && $0.policy == other.policy && $0.state == other.state
            }
            if let known { self[known].count += other.count } else { append(other) }
        }
    }
}

extension RecordedConflict.State: ExpressibleByArgument {}
