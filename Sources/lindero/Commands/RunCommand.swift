import ArgumentParser
import Observability
import Replicator

struct RunCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run the worker in the configured backend until it is told to stop.",
        discussion: """
            shared: migrates the schema lindero, follows the database's changes and measures lag; copies nothing.
            replica: copies the tables to the other database, then streams to it, exactly once.
            split: brings the other database up to date, then carries each side's own and shared columns to the other.

            SIGTERM or Ctrl-C finishes what is under way and exits with 0. A second one ends at once, which is safe \
            too: progress commits together with the data.

            Examples:
              DATABASE_URL=postgresql://bot@localhost/hotel lindero run
              lindero run --config lindero.yaml --verbose
              lindero run --source service=old --target service=new --slot s --publication p
                  adopts a slot and a publication that exist and streams from there; creates nothing on the source
            """)

    @OptionGroup var global: GlobalOptions

    @OptionGroup var adoption: AdoptionOptions

    @Option(help: "The publication to adopt.")
    var publication: String?

    @Flag(name: .shortAndLong, help: "Tell the status every two seconds, even when stderr is no terminal.")
    var verbose = false

    @Option(help: "Where to serve the status page, /metrics, /health, /status.json and /await: an address, or none.")
    var http = "127.0.0.1:8432"

    func validate() throws {
        if http != "none", HTTPAddress(http) == nil {
            throw ValidationError("--http takes an address such as 127.0.0.1:8432, or none; not '\(http)'.")
        }
        if (adoption.slot == nil) != (publication == nil) {
            throw ValidationError("Give --source, --target, --slot and --publication together, or none of them.")
        }
    }

    func perform() async throws {
        let logger = LineLogHandler.logger()
        let stopRequest = StopRequest()
        WorkerSignals.install(atOnce: "Progress is safe: it commits together with the data. Next: lindero run") {
            logger.notice("stopping, once more ends at once")
            stopRequest.request()
        }
        let runner = PhaseFollower(
            global: global, logger: logger, showsStatus: verbose || StandardError.isTerminal, address: HTTPAddress(http),
            stopRequest: stopRequest)
        if let adopted = try adoption.direction(), let publication {
            try await runner.run { try await Self.adopting(adopted, publication) }
        } else {
            try await runner.run()
        }
        answer(.object([("stopped", .bool(true))]), lines: ["Stopped cleanly. Next: lindero run"])
    }

    private static func adopting(
        _ adopted: (source: Database, target: Database, slot: String), _ publication: String
    ) async throws -> WorkerPlan {
        // A wrong address is told with its name before anything starts.
        async let source: Void = adopted.source.connected { _ in }
        async let target: Void = adopted.target.connected { _ in }
        try await source
        try await target
        return WorkerPlan.adopting(
            source: adopted.source.options, target: adopted.target.options, slot: adopted.slot, publication: publication)
    }
}
