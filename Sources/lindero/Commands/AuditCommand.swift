import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator
import SharedBackend

struct AuditCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit", abstract: "Who wrote columns that another side owns: by table, column and role.",
        discussion: """
            Reads what `lindero guard apply --mode audit` recorded. Exits with 3 when there are violations. Roles that \
            lindero.yaml does not list have the side (unlisted). A row that an UPDATE of a partition, not of the \
            partitioned table, moves on to another is recorded as DELETE and INSERT.

            Examples:
              lindero audit
              lindero audit Reservas --newest 100 --json
            """)

    @OptionGroup var global: GlobalOptions

    @Argument(help: "Only these tables, as in lindero.yaml.")
    var tables: [String] = []

    @Option(help: "How many single violations to list.")
    var newest = 10

    func perform() async throws {
        let origin = try LoadedConfiguration.load(global).origin()
        let report = try await origin.connected { connection in
            let names = try await TableArgument.names(tables, on: connection)
            return try await AuditReport.read(
                connection: connection, tables: names.isEmpty ? nil : names, newestCount: max(0, newest))
        }
        answer(json(report), lines: lines(report))
        if report.violationCount > 0 { throw ExitCode(LinderoExit.found.rawValue) }
    }

    private func json(_ report: AuditReport) -> JSONValue {
        .object([
            ("mode", .optional(report.mode?.rawValue)), ("violations", .integer(Int64(report.violationCount))),
            (
                "lines",
                .array(
                    report.lines.map { line in
                        .object([
                            ("table", .text("\(line.table)")), ("column", .optional(line.column)),
                            ("side", .text(line.side)), ("role", .text(line.role)),
                            ("operation", .text(line.operation)), ("count", .integer(Int64(line.count))),
                            ("firstAt", .text(line.firstAt)), ("lastAt", .text(line.lastAt)),
                        ])
                    })
            ),
            (
                "newest",
                .array(
                    report.newest.map { violation in
                        .object([
                            ("at", .text(violation.occurredAt)), ("table", .text("\(violation.table)")),
                            ("operation", .text(violation.operation)), ("side", .text(violation.side)),
                            ("role", .text(violation.role)), ("sessionRole", .text(violation.sessionRole)),
                            ("key", .optional(violation.key)), ("columns", .texts(violation.columns)),
                            ("transaction", .text(violation.transactionID)),
                        ])
                    })
            ),
        ])
    }

    private func lines(_ report: AuditReport) -> [String] {
        guard report.violationCount > 0 else { return nothingLines(report.mode) }
        var table = TextTable(["table", "column", "operation", "side", "role", "count", "last"])
        for line in report.lines {
            table.add([
                "\(line.table)", line.column ?? "(row)", line.operation, line.side, line.role, "\(line.count)", line.lastAt,
            ])
        }
        var lines = table.lines
        if !report.newest.isEmpty {
            lines += ["", "Newest:"]
            lines += report.newest.map { violation in
                "  \(violation.occurredAt)  \(violation.role) \(violation.operation) \(violation.table) "
                    + "\(violation.key ?? "") \(violation.columns.joined(separator: ", "))"
            }
        }
        let next =
            report.mode == .audit ? "Next: correct the service, or lindero guard apply --mode enforce" : Self.notAudited(report.mode)
        return lines + ["", "\(report.violationCount) writes violated ownership.", next]
    }
}

extension AuditCommand {
    private func nothingLines(_ mode: GuardMode?) -> [String] {
        switch mode {
        case .audit: ["No ownership violations recorded.", "Next: lindero guard apply --mode enforce"]
        case .enforce: [Self.notAudited(mode), "Next: lindero status"]
        case nil: [Self.notAudited(mode), "Next: lindero guard apply --mode audit"]
        }
    }

    /// An empty record says nothing when nobody keeps it.
    fileprivate static func notAudited(_ mode: GuardMode?) -> String {
        mode == .enforce
            ? "Nothing is being audited: the guard refuses foreign writes, and refused writes leave no record."
            : "Nothing is being audited: the guard is off."
    }
}

/// A table named on the command line.
enum TableArgument {
    /// The real tables behind the names; each may be `Name`, `schema.Name` or a pattern.
    static func names(_ texts: [String], on connection: PostgresConnection) async throws -> [QualifiedName] {
        guard !texts.isEmpty else { return [] }
        let known = try await CatalogReader.names(connection)
        return try texts.flatMap { text -> [QualifiedName] in
            let found = known.filter { name in TablePattern(text)?.matches(name) ?? false }
            guard found.isEmpty else { return found }
            let nearest = NearestWord.among(known.map(\.description), to: text).map { " (did you mean \"\($0)\"?)" }
            throw CommandFailure(
                "unknown_table", "The database has no table \"\(text)\"\(nearest ?? "").",
                nextStep: "Write the name exactly as it is in the database, with its case.", exit: .blocked)
        }
    }
}
