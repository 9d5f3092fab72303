import ArgumentParser
import ReplicationCore

/// The words of a command line that name a command, for what to say when they don't.
struct CommandWords {
    /// Those that do, such as `guard apply`.
    private(set) var known: [String] = []
    /// The nearest command to the first word that names none.
    private(set) var suggestion: String?

    init(_ arguments: ArraySlice<String>) { read(arguments, below: Lindero.self) }

    private mutating func read(_ arguments: ArraySlice<String>, below command: any ParsableCommand.Type) {
        let children = command.configuration.subcommands
        guard let word = arguments.first, !children.isEmpty, !word.hasPrefix("-") else { return }
        for child in children where child.configuration.commandName == word {
            known.append(word)
            return read(arguments.dropFirst(), below: child)
        }
        let call = (["lindero"] + known + [word]).joined(separator: " ")
        suggestion = "There is no command \"\(call)\"" + Self.hint(children.compactMap { $0.configuration.commandName }, word)
    }

    private static func hint(_ names: [String], _ word: String) -> String {
        NearestWord.among(names, to: word).map { " (did you mean \"\($0)\"?)." } ?? "; there are \(names.joined(separator: ", "))."
    }
}
