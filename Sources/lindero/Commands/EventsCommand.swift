import ArgumentParser
import Configuration
import Foundation
import Logging
import PostgresClient
import ReplicationCore
import Replicator
import Sinks

struct EventsGroup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "The committed changes, as events.",
        discussion: """
            Example:
              lindero events tail --table Reservas
            """,
        subcommands: [EventsTailCommand.self, EventsMeasureCommand.self])
}

struct EventsTailCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "tail", abstract: "Print every change that is committed from now on, one JSON object a line.",
        discussion: """
            Each line has lsn, commitLsn, commitTime, xid, schema, table, operation (insert, update, delete, truncate), \
            key and new. An update names in unchanged the large values that PostgreSQL did not send, and has oldKey \
            when it changed the key; old comes with REPLICA IDENTITY FULL. Numbers, booleans and JSON documents are \
            themselves, every other value is a string.

            It reads through a temporary slot of its own: nothing is left behind, and no worker is disturbed. While it \
            runs, the server keeps the WAL that it has not printed yet. Logs go to stderr and hold no values.

            Examples:
              lindero events tail
              lindero events tail --table Reservas --limit 10 | jq .new
              lindero events tail --table "crm.*" >> events.ndjson
            """)

    @OptionGroup var global: GlobalOptions

    @Option(name: .customLong("table"), help: "Only this table, as in lindero.yaml; may be given several times.")
    var tables: [String] = []

    @Option(help: "End after so many events.")
    var limit: Int?

    @Flag(help: "End once everything is printed that was committed when the stream began.")
    var untilCaughtUp = false

    @Option(help: "Read through this publication; default: the worker's, else one for all tables.")
    var publication: String?

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1.") }
    }

    func perform() async throws {
        let logger = LineLogHandler.logger()
        let stopRequest = StopRequest()
        WorkerSignals.install(atOnce: "Nothing is kept of a tail. Next: lindero status") { stopRequest.request() }
        let tailing = Task { try await tail(logger) }
        stopRequest.onRequest { tailing.cancel() }
        switch await tailing.result {
        case .success(let count): logger.info("stopped", metadata: ["events": "\(count)"])
        case .failure(let error): if !stopRequest.isRequested { throw error }
        }
    }

    private func tail(_ logger: Logger) async throws -> Int {
        let loaded = try await LoadedConfiguration.current(global)
        let origin = try loaded.origin()
        var settings = DirectionSettings(
            sourceName: origin.name, targetName: "tail", source: origin.options, target: origin.options,
            slot: Self.slotName(), publication: "", backend: .shared, replication: loaded.configuration.replication,
            policy: nil)
        let choice = try await origin.connected { [settings] connection in
            try await SourceCheck(settings: settings, connection: connection).requireLogicalWAL()
            return try await choose(loaded, on: connection)
        }
        settings.publication = choice.name
        if !choice.missing.isEmpty {
            logger.warning(
                "some tables are not published; their changes are not printed",
                metadata: [
                    "tables": "\(choice.missing.map(\.description).joined(separator: ", "))", "next": "\(choice.advice)",
                ])
        }
        let tail = EventTail(
            settings: settings, tables: choice.tables.filter { [settings] in settings.includes($0) }, limit: limit,
            stopsWhenCaughtUp: untilCaughtUp, output: LineOutput(), logger: logger)
        do {
            return try await tail.run()
        } catch {
            throw CommandFailure(error, place: origin.place)
        }
    }

    /// Two tails may run side by side.
    private static func slotName() -> String {
        "lindero_tail_\(ProcessInfo.processInfo.processIdentifier)_\(String(UInt32.random(in: 0...UInt32.max), radix: 36))"
    }

    private func choose(_ loaded: LoadedConfiguration, on connection: PostgresConnection) async throws -> PublicationChoice {
        let wanted = try await wantedTables(loaded, on: connection)
        if let wanted, wanted.isEmpty {
            throw CommandFailure(
                "tables", "There is no table to follow.", place: loaded.path,
                nextStep: "Create one, or list it under tables: in the configuration.", exit: .blocked)
        }
        let choice = try await PublicationChoice.choose(
            on: connection, preferring: try await publications(loaded, on: connection), tables: wanted)
        if let publication, choice.name != publication {
            throw CommandFailure(
                "publication_missing", "Publication \(publication) does not exist, or does not cover the tables.",
                nextStep: "See pg_publication_tables, or leave --publication out.", exit: .blocked)
        }
        guard tables.isEmpty || choice.missing.isEmpty else {
            throw CommandFailure(
                "publication_missing",
                "Publication \(choice.name) does not cover \(choice.missing.map(\.description).joined(separator: ", ")).",
                nextStep: "Run as its owner: \(choice.advice)", exit: .blocked)
        }
        return choice
    }

    /// The tables that were named, else those of the configuration; `nil` when an adopted publication alone decides.
    private func wantedTables(
        _ loaded: LoadedConfiguration, on connection: PostgresConnection
    ) async throws -> Set<QualifiedName>? {
        if !tables.isEmpty { return Set(try await TableArgument.names(tables, on: connection)) }
        if loaded.configuration.replication.publication != nil && loaded.configuration.tables.isEmpty { return nil }
        return Set(try await loaded.policy(connection).tables.keys)
    }

    /// Publications to prefer: the one that was named, the configuration's, those that the worker makes.
    private func publications(
        _ loaded: LoadedConfiguration, on connection: PostgresConnection
    ) async throws -> [String] {
        if let publication { return [publication] }
        let configuration = loaded.configuration
        var names = configuration.replication.publication.map { [$0] } ?? []
        let targets = configuration.others
        let purposes = configuration.backend == .shared ? ["feed"] : targets.map(\.name) + ["feed"]
        for purpose in purposes { names.append(try await SlotName.make(connection, purpose: purpose)) }
        return names
    }
}
