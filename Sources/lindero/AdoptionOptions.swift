import ArgumentParser
import Configuration
import PostgresClient

/// A direction named on the command line alone: a slot and a publication that exist already.
struct AdoptionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Source of an adopted direction: a conninfo without a password, or env:NAME.", valueName: "conninfo"))
    var source: String?

    @Option(
        help: ArgumentHelp(
            "Target of an adopted direction: a conninfo without a password, or env:NAME.", valueName: "conninfo"))
    var target: String?

    @Option(help: "The slot to adopt.")
    var slot: String?

    func validate() throws {
        let count = [source, target, slot].count { $0 != nil }
        guard count == 0 || count == 3 else {
            throw ValidationError("Give --source, --target and --slot (and, for run, --publication) together, or none of them.")
        }
    }

    /// Both databases and the slot; `nil` when the configuration says everything.
    func direction() throws -> (source: Database, target: Database, slot: String)? {
        guard let source, let target, let slot else { return nil }
        let secrets = SecretResolver()
        return (
            Database(
                name: "source",
                options: ConnectionOptions(try secrets.conninfo(argument: source, name: "--source"))),
            Database(
                name: "target",
                options: ConnectionOptions(try secrets.conninfo(argument: target, name: "--target"))),
            slot
        )
    }
}
