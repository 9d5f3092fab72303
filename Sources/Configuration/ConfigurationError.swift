import ReplicationCore

/// One thing that is wrong with a configuration, and where.
public struct ConfigurationProblem: Sendable, Equatable, CustomStringConvertible {
    /// The file, as it was named; `environment` when there is no file.
    public var path: String
    /// Line and column, 1-based; `nil` when no single place is at fault.
    public var mark: SourceMark?
    public var message: String
    /// The nearest valid word.
    public var suggestion: String?

    public init(path: String, mark: SourceMark? = nil, message: String, suggestion: String? = nil) {
        self.path = path
        self.mark = mark
        self.message = message
        self.suggestion = suggestion
    }

    public var line: Int? { mark?.line }
    public var column: Int? { mark?.column }

    /// `lindero.yaml:12:5: message (did you mean "word"?)`.
    public var description: String {
        var text = path
        if let mark { text += ":\(mark.line):\(mark.column)" }
        text += ": \(message)"
        if let suggestion { text += " (did you mean \"\(suggestion)\"?)" }
        return text
    }
}

/// Everything that is wrong with a configuration, in the file's order. Never holds a secret.
public struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    public var problems: [ConfigurationProblem]

    public init(problems: [ConfigurationProblem]) { self.problems = problems }

    /// What a policy could not resolve, with the place in the file that says so.
    public init(_ error: OwnershipError, path: String) {
        problems = error.problems.map { problem in
            ConfigurationProblem(
                path: path, mark: problem.mark, message: problem.message, suggestion: problem.suggestion)
        }
    }

    /// One problem a line.
    public var description: String { problems.map(\.description).joined(separator: "\n") }
}
