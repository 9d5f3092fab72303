import Foundation
import TestSupport
import Testing

@testable import lindero

@Suite struct CommandLineHelpTests {
    static let commands = Lindero.configuration.subcommands.compactMap { $0.configuration.commandName }

    @Test(arguments: commands) func helpOfEveryCommandHasAnExample(_ command: String) async throws {
        let outcome = try await LinderoProcess.run([command, "--help"])
        #expect(outcome.exitCode == 0)
        #expect(outcome.output.contains("Example"))
        #expect(outcome.output.contains("lindero \(command)"))
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
