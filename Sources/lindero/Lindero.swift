import ArgumentParser
import Foundation

@main
struct Lindero: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lindero", abstract: "Column ownership and replication between PostgreSQL databases.",
        discussion: """
            Everything follows from one file, lindero.yaml; without it, DATABASE_URL alone runs shared mode.

            Example:
              lindero init --from-database
              lindero run

            Exit codes: 0 done, 1 failed, 2 blocked by the configuration or a precondition, 3 differences found.

            Completions: lindero --generate-completion-script bash (or zsh, fish), such as
              lindero --generate-completion-script bash > ~/.local/share/bash-completion/completions/lindero
            """,
        version: LinderoVersion.current,
        subcommands: [
            InitCommand.self, CheckCommand.self, MigrateCommand.self, GuardGroup.self, RunCommand.self, LagCommand.self,
            StatusCommand.self,
            UpsertCommand.self, AuditCommand.self, QuarantineGroup.self, ConflictGroup.self,
            SequencesGroup.self, SlotGroup.self, AdvanceCommand.self, RollbackCommand.self, DecommissionCommand.self, VerifyCommand.self, AwaitCommand.self, EventsGroup.self,
            VersionCommand.self, PauseWatchCommand.self,
        ])

    static func main() async {
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            end(with: error)
        }
    }

    /// Help and versions are printed as usual; a command line that makes no sense is a blocker like a bad file.
    private static func end(with error: any Error) -> Never {
        guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
        let words = CommandWords(CommandLine.arguments.dropFirst())
        if CommandLine.arguments.contains("--json") {
            let text = [message(for: error), words.suggestion].compactMap { $0 }.joined(separator: " ")
            let call = words.known.map { " " + $0 }.joined()
            CommandFailure("usage", text, nextStep: "Run `lindero\(call) --help`.", exit: .blocked).report(asJSON: true)
        } else {
            let lines = [words.suggestion, fullMessage(for: error)].compactMap { $0 }
            StandardError.write(lines.joined(separator: "\n") + "\n")
        }
        Foundation.exit(LinderoExit.blocked.rawValue)
    }
}
