import ArgumentParser
import Migrations
import PostgresClient

struct VersionCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Print the version of Lindero and of its schema.",
        discussion: """
            Example:
              lindero version --json
            """)

    @OptionGroup var global: GlobalOptions

    func perform() async throws {
        let schemaVersion = Migrations.all.map(\.version).max() ?? 0
        answer(
            .object([
                ("version", .text(LinderoVersion.current)), ("schemaVersion", .integer(Int64(schemaVersion))),
            ]),
            lines: [
                "lindero \(LinderoVersion.current), schema version \(schemaVersion)",
                "Next: lindero check",
            ])
    }
}
