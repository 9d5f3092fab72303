import ArgumentParser
import Foundation
import TestSupport
import Testing

@testable import lindero

@Suite struct CommandLineHelpTests {
    /// Every command and subcommand, as the words that call it.
    static let commands = paths(of: Lindero.self)

    private static func paths(of command: any ParsableCommand.Type) -> [[String]] {
        command.configuration.subcommands.flatMap { child -> [[String]] in
            let name = child.configuration.commandName ?? ""
            return [[name]] + paths(of: child).map { [name] + $0 }
        }
    }

    @Test(arguments: commands) func helpOfEveryCommandHasAnExample(_ command: [String]) async throws {
        let outcome = try await LinderoProcess.run(command + ["--help"])
        #expect(outcome.exitCode == 0)
        let text = outcome.output
        #expect(text.contains("Example"))
        let call = "lindero \(command.joined(separator: " "))"
        #expect(text.components(separatedBy: "USAGE").first?.contains(call) == true)
    }

    @Test func unknownOptionIsAUsageErrorWithExitCode2() async throws {
        let outcome = try await LinderoProcess.run(["migrate", "--dryrun"])
        #expect(outcome.exitCode == 2)
        #expect(outcome.output.isEmpty)
        #expect(outcome.errors.contains("--dryrun"))
    }

    @Test func usageErrorIsJSONWhenAskedFor() async throws {
        let outcome = try await LinderoProcess.run(["migrate", "--json", "--dryrun"])
        #expect(outcome.exitCode == 2)
        #expect(try failure(outcome).code == "usage")
    }

    @Test func versionIsPrinted() async throws {
        let outcome = try await LinderoProcess.run(["version", "--json"])
        let document = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any]
        #expect(document?["version"] as? String == LinderoVersion.current)
    }
}

/// What a failed command said with `--json`.
func failure(_ outcome: LinderoProcess.Outcome) throws -> FailureDocument.Failure {
    try JSONDecoder().decode(FailureDocument.self, from: Data(outcome.output.utf8)).error
}

struct FailureDocument: Decodable {
    struct Failure: Decodable {
        var code: String
        var message: String
        var `where`: String?
        var next: String?
    }
    var error: Failure
}
