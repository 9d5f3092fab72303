import ArgumentParser
import ReplicationCore

/// Options of every command.
struct GlobalOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The configuration file.",
            discussion: "Default: lindero.yaml if it is there, else DATABASE_URL alone, in shared mode.",
            valueName: "file"))
    var config: String?

    @Flag(name: .long, help: "Print one JSON document on stdout.")
    var json = false
}

/// A command whose errors are told in one way and whose exit code follows from them.
protocol LinderoCommand: AsyncParsableCommand {
    var global: GlobalOptions { get }
    func perform() async throws
}

extension LinderoCommand {
    func run() async throws {
        do {
            try await perform()
        } catch let exit as ExitCode {
            throw exit
        } catch {
            StatusLine.clear()
            var failure = CommandFailure(error)
            failure.nextStep = NamedConfiguration(global.config).naming(failure.nextStep)
            failure.report(asJSON: global.json)
            throw ExitCode(failure.exit.rawValue)
        }
    }

    /// Prints the JSON document, or the lines for people.
    func answer(_ json: @autoclosure () -> JSONValue, lines: @autoclosure () -> [String]) {
        let named = NamedConfiguration(global.config)
        let text = global.json ? json().text : lines().map { $0.contains("Next: ") ? named.naming($0) : $0 }.joined(separator: "\n")
        StandardOutput.write(text + "\n")
    }
}

/// Every command answers in it.
typealias JSONValue = ReplicationCore.JSONValue
typealias PlainText = ReplicationCore.PlainText
