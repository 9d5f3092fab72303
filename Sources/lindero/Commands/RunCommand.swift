import ArgumentParser
import Configuration
import PostgresClient
import ReplicationCore

struct RunCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run the worker in the configured backend until it is told to stop.",
        discussion: """
            shared: migrates the schema lindero, follows the database's changes and measures lag; copies nothing.
            replica: copies the tables to the other database, then streams to it, exactly once.

            SIGTERM or Ctrl-C finishes what is under way and exits with 0. A second one ends at once, which is safe \
            too: progress commits together with the data.

            Examples:
              DATABASE_URL=postgresql://bot@localhost/hotel lindero run
              lindero run --config lindero.yaml --verbose
              lindero run --source service=old --target service=new --slot s --publication p
                  adopts a slot and a publication that exist and streams from there; creates nothing on the source
            """)

    @OptionGroup var global: GlobalOptions

    @Option(help: ArgumentHelp("Source of an adopted direction: a conninfo without a password, or env:NAME.", valueName: "conninfo"))
    var source: String?

    @Option(help: ArgumentHelp("Target of an adopted direction: a conninfo without a password, or env:NAME.", valueName: "conninfo"))
    var target: String?

    @Option(help: "The slot to adopt.")
    var slot: String?

    @Option(help: "The publication to adopt.")
    var publication: String?

    @Flag(name: .shortAndLong, help: "Tell the status every two seconds, even when stderr is no terminal.")
    var verbose = false

    func validate() throws {
        let adopting = [source, target, slot, publication]
        guard adopting.allSatisfy({ $0 == nil }) || adopting.allSatisfy({ $0 != nil }) else {
            throw ValidationError("Give --source, --target, --slot and --publication together, or none of them.")
        }
    }

    func perform() async throws {
        let logger = LineLogHandler.logger()
        let plan = try await plan()
        for task in plan.tasks {
            logger.info(
                "worker starts",
                metadata: [
                    "backend": "\(plan.backend.rawValue)", "direction": "\(task.settings.name)",
                    "slot": "\(task.settings.slot)", "publication": "\(task.settings.publication)",
                ])
        }
        let showsStatus = verbose || StandardError.isTerminal
        try await Worker(plan: plan, logger: logger, showsStatus: showsStatus).run()
        answer(.object([("stopped", .bool(true))]), lines: ["Stopped cleanly. Next: lindero run"])
    }

    private func plan() async throws -> WorkerPlan {
        guard let source, let target, let slot, let publication else {
            return try await WorkerPlan.make(try LoadedConfiguration.load(global))
        }
        let secrets = SecretResolver()
        let from = Database(name: "source", options: ConnectionOptions(try secrets.conninfo(argument: source, name: "--source")))
        let to = Database(name: "target", options: ConnectionOptions(try secrets.conninfo(argument: target, name: "--target")))
        // A wrong address is told with its name before anything starts.
        try await from.connected { _ in }
        try await to.connected { _ in }
        return WorkerPlan.adopting(source: from.options, target: to.options, slot: slot, publication: publication)
    }
}
