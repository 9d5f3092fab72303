import ArgumentParser

/// What a person is told when a command fails: what happened, where, and what to run next.
struct CommandFailure: Error, Sendable, CustomStringConvertible {
    /// Stable word for scripts.
    var code: String
    /// What happened; never row values or secrets.
    var message: String
    /// Database, file or object concerned.
    var place: String?
    /// The next useful command or step.
    var nextStep: String
    var exit: LinderoExit
    /// What else scripts are told, beside the key `error`.
    var details: [(String, JSONValue)] = []

    init(
        _ code: String, _ message: String, place: String? = nil, nextStep: String, exit: LinderoExit = .failed
    ) {
        self.code = code
        self.message = message
        self.place = place
        self.nextStep = nextStep
        self.exit = exit
    }

    /// The form for a terminal.
    var text: String {
        var text = message.split(separator: "\n").map { "error: \($0)" }.joined(separator: "\n")
        if let place { text += "\n  where: \(place)" }
        return text + "\n  next: \(nextStep)"
    }

    /// The form for scripts: one document with the key `error`, and the details.
    var json: JSONValue {
        .object([
            (
                "error",
                .object([
                    ("code", .text(code)), ("message", .text(message)), ("where", .optional(place)),
                    ("next", .text(nextStep)),
                ])
            )
        ] + details)
    }

    /// The form for the middle of another text.
    var description: String { "\(message) \(nextStep)" }

    /// Prints the failure where the person or the script looks for it.
    func report(asJSON: Bool) {
        if asJSON { StandardOutput.write(json.text + "\n") } else { StandardError.write(text + "\n") }
    }
}
