import Foundation
import TestSupport
import Testing

/// One mistake in lindero.yaml as a newcomer makes it, and what the program must answer.
struct FileMistake: Sendable, CustomTestStringConvertible {
    var name: String
    var file: String
    var says: [String]

    init(_ name: String, _ file: String, _ says: String...) {
        self.name = name
        self.file = file
        self.says = says
    }

    var testDescription: String { name }
}

/// Mistakes in the configuration and on the command line: exit code 2, the place, the nearest word, the next command.
@Suite struct BadConfigurationTests {
    private static let good = BadInputScene.file(tables: "guest: { columns: { bot: [id, name] } }")

    private static func with(_ change: (from: String, to: String)) -> String {
        good.replacingOccurrences(of: change.from, with: change.to)
    }

    /// Those that the file alone shows.
    static let mistakes: [FileMistake] = [
        FileMistake("flowNeverClosed", "version: 1\nbackend: [shared\ndatabases: {}\n", "lindero.yaml:3:", "not closed"),
        FileMistake("quoteNeverClosed", "version: 1\nbackend: \"shared\n", "lindero.yaml:", "quote", "never closed"),
        FileMistake("keyWithoutColon", "version: 1\nbackend shared\norigin: a\n", "lindero.yaml:", "key: value"),
        FileMistake("tabInsteadOfSpaces", with(("  bot:  {", "\tbot:  {")), "lindero.yaml:4:1", "a tab indents this line"),
        FileMistake("emptyFile", "", "lindero.yaml: the file is empty", "lindero init --force"),
        FileMistake("commentsOnly", "# later\n", "the file is empty"),
        FileMistake("listInsteadOfMapping", "- version: 1\n", "lindero.yaml:1:1", "must be a mapping"),
        FileMistake("backend", with(("replica", "replika")), "lindero.yaml:2:10", "(did you mean \"replica\"?)"),
        FileMistake("owner", with(("bot: [id", "bott: [id")), "lindero.yaml:9:", "(did you mean \"bot\"?)"),
        FileMistake("origin", with(("origin: bot", "origin: bto")), "lindero.yaml:6:9", "(did you mean \"bot\"?)"),
        FileMistake("key", with(("tables:", "tabels:")), "lindero.yaml:8:1", "(did you mean \"tables\"?)"),
        FileMistake("listForName", with(("origin: bot", "origin: [bot]")), "lindero.yaml:6:9", "is a list"),
        FileMistake("wordForNumber", with(("version: 1", "version: one")), "lindero.yaml:1:10", "version 1"),
        FileMistake(
            "passwordInTheFile", with(("env:BOT_URL", "\"postgresql://bot:\(BadInputScene.password)@h/d\"")),
            "lindero.yaml:4:", "holds a password", "env:NAME"),
        FileMistake(
            "passwordAsKeyword", with(("env:BOT_URL", "host=h password=\(BadInputScene.password)")),
            "lindero.yaml:4:", "holds a password"),
        FileMistake("secretItself", with(("env:BOT_URL", BadInputScene.password)), "lindero.yaml:4:", "env:NAME, file:PATH"),
    ]

    @Test(arguments: mistakes) func mistakeInTheFileIsToldWithItsPlace(_ mistake: FileMistake) async throws {
        let folder = try ConfigurationFolder(mistake.file)
        for command in [["check"], ["run", "--http", "none"]] {
            let outcome = try await LinderoProcess.run(command, folder: folder.path)
            expectComplaint(outcome, exit: 2, says: mistake.says + ["lindero check"])
        }
        let json = try await LinderoProcess.run(["check", "--json"], folder: folder.path)
        #expect(json.exitCode == 2)
        #expect(try failure(json).code == "configuration")
        expectNoPassword(json)
    }

    @Test(arguments: [
        ("guest:", "guset:", "the database has no table \"guset\" (did you mean \"guest\"?)"),
        ("[id, name]", "[id, naem]", "table \"guest\" has no column \"naem\" (did you mean \"name\"?)"),
        ("[id, name]", "[id]", "nobody owns \"name\" of table \"guest\""),
    ]) func namesThatTheDatabaseLacksAreToldWithTheNearest(_ change: (String, String, String)) async throws {
        let scene = try await BadInputScene(tables: "guest: { columns: { bot: [id, name] } }")
        try scene.folder.write(Self.with((change.0, change.1)))
        let run = try await scene.run(["run", "--http", "none"])
        expectComplaint(run, exit: 2, says: ["lindero.yaml:9:", change.2, "where: bot (", "lindero check"])
        let check = try await scene.run(["check"])
        #expect(check.exitCode == 2)
        #expect(check.output.contains(change.2))
        #expect(check.output.contains("at: lindero.yaml:9:"))
        #expect(check.output.contains("Next: mend the blockers"))
    }

    @Test func fileThatCannotBeReadIsToldWithTheReason() async throws {
        let folder = try ConfigurationFolder()
        try FileManager.default.createDirectory(atPath: folder.path + "/lindero.yaml", withIntermediateDirectories: false)
        let isFolder = try await LinderoProcess.run(["check"], folder: folder.path)
        expectComplaint(isFolder, exit: 2, says: ["is a folder", "where: lindero.yaml"])
        // The kernel refuses to read it whoever asks, root included.
        let unreadable = try await LinderoProcess.run(["run", "--config", "/proc/self/mem"])
        expectComplaint(unreadable, exit: 2, says: ["can't be read", "where: /proc/self/mem"])
        try Data([0xff, 0xfe, 0x00, 0x76]).write(to: URL(fileURLWithPath: folder.path + "/latin.yaml"))
        let binary = try await LinderoProcess.run(["check", "--config", "latin.yaml"], folder: folder.path)
        expectComplaint(binary, exit: 2, says: ["not UTF-8", "where: latin.yaml"])
        let missing = try await LinderoProcess.run(["lag", "--config", "none.yaml"], folder: folder.path)
        expectComplaint(missing, exit: 2, says: ["does not exist", "where: none.yaml", "lindero init --config none.yaml"])
    }

    @Test func fileThatCannotBeWrittenIsToldWithItsPath() async throws {
        let outcome = try await LinderoProcess.run(["init", "--config", "/nowhere/at/all.yaml"])
        expectComplaint(outcome, exit: 2, says: ["can't be written", "where: /nowhere/at/all.yaml", "--config"])
    }

    @Test func connectionStringThatIsNoneIsAConfigurationError() async throws {
        let folder = try ConfigurationFolder(Self.good)
        let environment = [
            "BOT_URL": "host=127.0.0.1 port=1 passwrod=\(BadInputScene.password)", "SYNC_URL": "host=127.0.0.1 port=1",
        ]
        let outcome = try await LinderoProcess.run(["run"], environment: environment, folder: folder.path)
        expectComplaint(outcome, exit: 2, says: ["connection string", "bot", "Correct the connection string"])
        let missing = try await LinderoProcess.run(["run"], folder: folder.path)
        expectComplaint(missing, exit: 2, says: ["database bot: the environment variable BOT_URL is not set", "Set BOT_URL"])
    }

    @Test func inputOfUpsertThatCannotBeReadIsNamed() async throws {
        let scene = try await BadInputScene()
        for (file, words) in [("none.ndjson", "No such file"), (scene.folder.path, "Is a directory")] {
            let outcome = try await scene.run(["upsert", "guest", "--as", "bot", file])
            expectComplaint(outcome, exit: 2, says: [words, "where: \(file)"])
        }
        let table = try await scene.run(["upsert", "geust", "--as", "bot", "-"])
        expectComplaint(table, exit: 2, says: ["no table \"geust\" (did you mean \"guest\"?)", "where: bot ("])
        let side = try await scene.run(["upsert", "guest", "--as", "bott", "-"])
        expectComplaint(side, exit: 2, says: ["no side \"bott\" (did you mean \"bot\"?)", "bot, sync"])
        #expect(try await scene.source.query("SELECT 1 FROM guest").rowCount == 0)
    }

    @Test(arguments: [
        (["chek"], "There is no command \"lindero chek\" (did you mean \"check\"?)", "lindero --help"),
        (["guard", "plann"], "\"lindero guard plann\" (did you mean \"plan\"?)", "lindero guard --help"),
        (["run", "--htpp", "none"], "'--htpp'. Did you mean '--http'?", "lindero run --help"),
        (["run", "--http", "nine"], "127.0.0.1:8432, or none; not 'nine'", "lindero run --help"),
        (["run", "--slot", "s"], "--source, --target and --slot (and, for run, --publication)", "lindero run --help"),
        (["upsert"], "<table>", "lindero upsert --help"),
        (["upsert", "guest", "--format", "xml"], "'ndjson' and 'csv'", "lindero upsert --help"),
        (["upsert", "guest", "--timeout-seconds", "soon"], "'soon' is invalid", "lindero upsert --help"),
        (["guard", "plan", "--mode", "enforced"], "'enforce' and 'audit'", "lindero guard plan --help"),
    ]) func commandLineThatMakesNoSenseIsToldWithTheHelpToRead(_ call: ([String], String, String)) async throws {
        let outcome = try await LinderoProcess.run(call.0)
        #expect(outcome.exitCode == 2)
        #expect(outcome.output.isEmpty)
        #expect(outcome.errors.contains(call.1), "\(outcome.errors)")
        #expect(outcome.errors.contains(call.2), "\(outcome.errors)")
        let json = try await LinderoProcess.run(call.0 + ["--json"])
        #expect(json.exitCode == 2)
        let document = try failure(json)
        #expect(document.code == "usage")
        #expect(document.next == "Run `\(call.2)`.")
    }
}
