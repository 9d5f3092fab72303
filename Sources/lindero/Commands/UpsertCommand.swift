import ArgumentParser
import PostgresClient
import ReplicationCore
import Replicator
import SharedBackend
import Synchronization

struct UpsertCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "upsert", abstract: "Column-safe bulk upsert of NDJSON or CSV.",
        discussion: """
            Writes only columns that are supplied, changed and owned by the side; keeps everything else, and leaves a \
            row that already is as the record says untouched. Running it again is harmless. Refused records are \
            named with their line on stderr; then the exit code is 3.

            Examples:
              lindero upsert Reservas --as sync reservas.ndjson
              zcat export.csv.gz | lindero upsert Reservas --as sync --format csv -
            """)

    /// Refused records that `--json` lists; all of them are counted.
    static let listedRefusals = 1_000

    @OptionGroup var global: GlobalOptions

    @Argument(help: "The table, as in lindero.yaml.")
    var table: String

    @Option(name: .customLong("as"), help: "The side in whose name the records are written.")
    var side: String?

    @Argument(help: "The input; - or nothing for stdin.")
    var file: String?

    @Option(help: "ndjson or csv; default: by the file's name, else ndjson.")
    var format: UpsertFormat?

    @Option(help: "Statements that take longer are stopped.")
    var timeoutSeconds = 30

    func validate() throws {
        if timeoutSeconds < 1 { throw ValidationError("--timeout-seconds must be at least 1.") }
    }

    func perform() async throws {
        let loaded = try await LoadedConfiguration.current(global)
        let side = try chosenSide(loaded)
        let database = try await UpsertTarget.database(loaded, side: side)
        var upsert = try await prepare(loaded, side: side, database: database)
        let input = try InputBytes(file)
        // A batch that is on its way ends, so that it is known what is committed.
        let stopRequest = StopRequest()
        WorkerSignals.install(atOnce: "What is committed stays, and running it again leaves it as it is.") {
            StandardError.write("stopping after this batch, once more ends at once\n")
            stopRequest.request()
        }
        stopRequest.onRequest { input.stop() }
        upsert.isStopping = { stopRequest.isRequested }
        let refusals = Refusals(isJSON: global.json)
        let summary: UpsertSummary
        do {
            summary = try await upsert.run(
                format: format ?? .named(file), read: { try await input.read() },
                onRefusal: { refusals.add($0) })
        } catch let stop as UpsertInterruption {
            throw failure(stop, refusals, place: database.place)
        } catch {
            throw CommandFailure(error, place: database.place)
        }
        answer(json(summary, refusals), lines: lines(summary))
        if summary.refused > 0 { throw ExitCode(LinderoExit.found.rawValue) }
    }

    /// The failure, and what was committed before it.
    private func failure(_ stop: UpsertInterruption, _ refusals: Refusals, place: String) -> CommandFailure {
        var failure = CommandFailure(stop.cause, place: place)
        guard stop.summary.records > 0 else { return failure }
        failure.details = [
            ("committed", json(stop.summary, refusals)), ("stopped_at_line", .optional(stop.lineNumber)),
        ]
        if !global.json {
            let line = stop.lineNumber.map { " Nothing is applied from line \($0) on." } ?? ""
            StandardError.write("stopped: \(counts(stop.summary))\(line)\n")
        }
        failure.nextStep += " Running it again leaves what is committed as it is."
        return failure
    }

    private func chosenSide(_ loaded: LoadedConfiguration) throws -> String {
        let names = loaded.configuration.databases.filter { !$0.isPhysicalStandby }.map(\.name)
        if let side, names.contains(side) { return side }
        if side == nil, let only = names.first, names.count == 1 { return only }
        let nearest = side.flatMap { NearestWord.among(names, to: $0) }.map { " (did you mean \"\($0)\"?)" } ?? ""
        let problem = side.map { "There is no side \"\($0)\"\(nearest)." } ?? "Say with --as who writes."
        throw CommandFailure(
            "side", problem, place: loaded.path,
            nextStep: "Run it again with --as and one of: \(names.joined(separator: ", ")).", exit: .blocked)
    }

    private func prepare(
        _ loaded: LoadedConfiguration, side: String, database: Database
    ) async throws -> ColumnUpsert {
        try await database.connected { connection in
            let names = try await TableArgument.names([table], on: connection)
            guard let name = names.first, names.count == 1 else {
                throw CommandFailure(
                    "table", "\"\(table)\" stands for \(names.count) tables.", nextStep: "Name one table.", exit: .blocked)
            }
            let policy = try await loaded.ownership(connection)
            guard let ownership = policy.tables[name],
                let description = try await CatalogReader.tables(connection, matching: [name]).first
            else {
                throw CommandFailure(
                    "ownership", "Table \"\(name)\" has no owner in the configuration.", place: loaded.path,
                    nextStep: "Add it under tables: and run `lindero check`.", exit: .blocked)
            }
            var options = UpsertOptions()
            options.statementTimeoutMilliseconds = timeoutSeconds * 1_000
            return try ColumnUpsert(
                connection: database.options, table: description, ownership: ownership, side: side, options: options)
        }
    }

    private func json(_ summary: UpsertSummary, _ refusals: Refusals) -> JSONValue {
        .object([
            ("inserted", .integer(Int64(summary.inserted))), ("updated", .integer(Int64(summary.updated))),
            ("unchanged", .integer(Int64(summary.unchanged))), ("refused", .integer(Int64(summary.refused))),
            ("retries", .integer(Int64(summary.retries))),
            (
                "refusals",
                .array(
                    refusals.listed.map { refusal in
                        .object([
                            ("line", .integer(Int64(refusal.lineNumber))), ("column", .optional(refusal.column)),
                            ("reason", .text(refusal.explanation)),
                        ])
                    })
            ),
        ])
    }

    private func lines(_ summary: UpsertSummary) -> [String] {
        return [
            counts(summary),
            "Next: " + (summary.refused > 0 ? "correct the refused lines and run it again" : "lindero status"),
        ]
    }
}

extension UpsertCommand {
    private func counts(_ summary: UpsertSummary) -> String {
        let retries = summary.retries > 0 ? ", \(summary.retries) batches tried again" : ""
        return "\(summary.records) records: \(summary.inserted) inserted, \(summary.updated) updated, "
            + "\(summary.unchanged) unchanged, \(summary.refused) refused\(retries)."
    }
}

extension UpsertFormat: ExpressibleByArgument {
    /// The format that a file's name tells.
    fileprivate static func named(_ path: String?) -> UpsertFormat {
        path?.lowercased().hasSuffix(".csv") == true ? .csv : .ndjson
    }
}

/// Refused records: told at once to people, kept for the document of scripts.
private final class Refusals: Sendable {
    private let isJSON: Bool
    private let kept = Mutex<[UpsertRefusal]>([])

    init(isJSON: Bool) { self.isJSON = isJSON }

    var listed: [UpsertRefusal] { kept.withLock { $0 } }

    func add(_ refusal: UpsertRefusal) {
        guard isJSON else { return StandardError.write("refused: \(refusal)\n") }
        kept.withLock { kept in
            if kept.count < UpsertCommand.listedRefusals { kept.append(refusal) }
        }
    }
}
