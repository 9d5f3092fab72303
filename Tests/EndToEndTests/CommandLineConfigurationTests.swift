import Foundation
import TestSupport
import Testing

/// A folder with a configuration file, removed at the end of the test.
final class ConfigurationFolder: Sendable {
    let path: String

    init(_ text: String? = nil) throws {
        path = NSTemporaryDirectory() + "lindero-e2e-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        if let text { try write(text) }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ text: String, to name: String = "lindero.yaml") throws {
        try text.write(toFile: path + "/" + name, atomically: true, encoding: .utf8)
    }

    func text(of name: String = "lindero.yaml") throws -> String {
        try String(contentsOfFile: path + "/" + name, encoding: .utf8)
    }
}

@Suite struct CommandLineConfigurationTests {
    @Test func malformedYAMLIsToldWithFileAndLine() async throws {
        let folder = try ConfigurationFolder("version: 1\nbackend: [shared\ndatabases: {}\n")
        let outcome = try await LinderoProcess.run(["migrate"], folder: folder.path)
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("lindero.yaml:"))
        #expect(outcome.errors.contains("lindero.yaml:3") || outcome.errors.contains("lindero.yaml:2"))
    }

    @Test func unknownKeyIsToldWithTheNearestWord() async throws {
        let folder = try ConfigurationFolder(
            "version: 1\nbackend: shared\ndatabses: { primary: { url: env:DATABASE_URL } }\n")
        let outcome = try await LinderoProcess.run(["run"], folder: folder.path)
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("lindero.yaml:3:1"))
        #expect(outcome.errors.contains("did you mean \"databases\"?"))
    }

    @Test func missingVariableIsNamed() async throws {
        let folder = try ConfigurationFolder("version: 1\ndatabases: { primary: { url: env:HOTEL_URL } }\n")
        let outcome = try await LinderoProcess.run(["migrate", "--json"], folder: folder.path)
        #expect(outcome.exitCode == 2)
        let failure = try failure(outcome)
        #expect(failure.code == "secret")
        #expect(failure.message.contains("HOTEL_URL"))
    }

    @Test func nothingConfiguredSaysWhatToSet() async throws {
        let folder = try ConfigurationFolder()
        let outcome = try await LinderoProcess.run(["run"], folder: folder.path)
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("DATABASE_URL"))
        #expect(outcome.errors.contains("next: Set DATABASE_URL"))
        #expect(outcome.errors.contains("`lindero init`"))
    }

    @Test func namedFileThatIsMissingIsABlocker() async throws {
        let outcome = try await LinderoProcess.run(["run", "--config", "/nowhere/hotel.yaml"])
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("/nowhere/hotel.yaml"))
    }

    @Test func passwordInAnArgumentIsRefusedAndNotRepeated() async throws {
        let outcome = try await LinderoProcess.run([
            "run", "--source", "postgresql://bot:verysecret@localhost/a", "--target", "host=localhost", "--slot", "s",
            "--publication", "p",
        ])
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("PGPASSFILE"))
        #expect(!outcome.errors.contains("verysecret"))
    }
}
