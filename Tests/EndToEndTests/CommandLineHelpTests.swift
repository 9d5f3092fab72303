import ArgumentParser
import Foundation
import TestSupport
import Testing

@testable import lindero

@Suite struct CommandLineHelpTests {
    /// Every command and subcommand that a person may run, as the words that call it.
    static let commands = paths(of: Lindero.self)

    private static func paths(of command: any ParsableCommand.Type) -> [[String]] {
        command.configuration.subcommands.flatMap { child -> [[String]] in
            if !child.configuration.shouldDisplay { return [] }
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

    @Test func helpTellsOfCommandsExitCodesAndCompletions() async throws {
        let text = try await LinderoProcess.run(["--help"]).output
        #expect(text.contains("Example"))
        #expect(text.contains("Exit codes: 0 done, 1 failed, 2 blocked"))
        #expect(text.contains("lindero --generate-completion-script bash"))
        for command in Self.commands where command.count == 1 { #expect(text.contains("\n  \(command[0]) ")) }
        #expect(try Self.repositoryText("README.md").contains("`lindero --generate-completion-script bash|zsh|fish`"))
    }

    @Test(arguments: ["bash", "zsh", "fish"]) func completionScriptKnowsEveryCommand(_ shell: String) async throws {
        let outcome = try await LinderoProcess.run(["--generate-completion-script", shell])
        #expect(outcome.exitCode == 0)
        for word in Set(Self.commands.joined()) { #expect(outcome.output.contains(word), "\(word)") }
    }

    @Test(arguments: [("lindero gua", "guard"), ("lindero guard ap", "apply"), ("lindero run --pub", "--publication")])
    func bashCompletesCommandsAndOptions(_ line: (typed: String, answer: String)) async throws {
        let folder = try ConfigurationFolder()
        try folder.write(
            try await LinderoProcess.run(["--generate-completion-script", "bash"]).output, to: "lindero.bash")
        let script = """
            source lindero.bash
            COMP_LINE=$1 COMP_POINT=${#1}; read -ra COMP_WORDS <<<"$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            handler=$(complete -p lindero | sed 's/.*-F \\([^ ]*\\).*/\\1/')
            "$handler" lindero "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\\n' "${COMPREPLY[@]}"
            """
        let bash = try ChildProcess("/bin/bash", ["-c", "cd \"$0\" && \(script)", folder.path, line.typed])
        defer {
            try? FileManager.default.removeItem(at: URL(fileURLWithPath: bash.outputPath).deletingLastPathComponent())
        }
        #expect(try await bash.wait(timeoutSeconds: 30) == 0, "\(bash.errors)")
        #expect(bash.output.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) } == [line.answer])
    }

    /// A next step that does not exist would be worse than none.
    @Test func everyCommandThatMessagesAndREADMENameExists() throws {
        let known = Set(Self.commands.map { $0.joined(separator: " ") }).union(["help"])
        let sources = Self.repository + "/Sources"
        let files = FileManager.default.enumerator(atPath: sources)?.compactMap { $0 as? String } ?? []
        var texts = files.filter { $0.hasSuffix(".swift") }.map { (name: $0, path: sources + "/" + $0) }
        texts.append((name: "README.md", path: Self.repository + "/README.md"))
        #expect(texts.count > 100)
        for file in texts {
            let text = try String(contentsOfFile: file.path, encoding: .utf8)
            for match in text.matches(of: /`lindero ([a-z]+)/) {
                #expect(known.contains(String(match.1)), "\(file.name) names lindero \(match.1)")
            }
        }
    }

    private static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path

    private static func repositoryText(_ name: String) throws -> String {
        try String(contentsOfFile: repository + "/" + name, encoding: .utf8)
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
