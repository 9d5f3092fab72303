import ReplicationCore
import Yams

/// Says in plain words what a YAML parser found.
enum YAMLProblem {
    static func describe(_ error: any Error, text: String, path: String) -> ConfigurationProblem {
        guard let error = error as? YamlError else {
            return ConfigurationProblem(path: path, message: "the file is not YAML")
        }
        switch error {
        case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            let place = SourceMark(line: mark.line, column: mark.column)
            return ConfigurationProblem(
                path: path, mark: place, message: sentence(problem, context: context, text: text, mark: place)
            )
        case .duplicatedKeysInMapping(let keys, let context):
            let first = SourceMark(line: context.mark.line, column: context.mark.column)
            let key = keys.first ?? ""
            let again = secondMark(of: key, after: first, in: text)
            let message =
                "\"\(key)\" stands here twice" + (again == nil ? "" : ", first in line \(first.line)")
            return ConfigurationProblem(path: path, mark: again ?? first, message: message)
        case .reader(let problem, let offset, _, let yaml):
            return ConfigurationProblem(
                path: path, mark: offset.map { Self.mark(at: $0, in: yaml) },
                message: "the file holds a character that YAML does not allow (\(problem))")
        case .no, .memory, .writer, .emitter, .representer, .dataCouldNotBeDecoded:
            return ConfigurationProblem(path: path, message: "the file could not be read as YAML")
        }
    }

    private static func sentence(
        _ problem: String, context: YamlError.Context?, text: String, mark: SourceMark
    ) -> String {
        if problem.contains("cannot start any token"), line(mark.line, of: text).contains("\t") {
            return "a tab indents this line; YAML takes spaces only"
        }
        if problem.contains("mapping values are not allowed") {
            return
                "a \":\" is not expected here: is the line above indented differently, or does the text need "
                + "quotes?"
        }
        if problem.contains("could not find expected ':'") {
            return "a key without its \":\"; every line of a mapping is key: value"
        }
        if problem.contains("unexpected end of stream") {
            return "a quote that was opened\(since(context)) is never closed"
        }
        if problem.contains("expected ',' or") {
            return "a bracket or brace that was opened\(since(context)) is not closed, or a comma is missing"
        }
        if problem.contains("expected <block end>") || problem.contains("did not find expected key") {
            return "this line does not fit the block around it\(since(context)); check its indentation"
        }
        if problem.contains("undefined alias") { return "this *alias has no &anchor before it" }
        if problem.contains("another document") { return "a second document begins here; the file holds one" }
        return "not valid YAML: \(problem)"
    }

    private static func since(_ context: YamlError.Context?) -> String {
        context.map { " in line \($0.mark.line)" } ?? ""
    }

    private static func line(_ number: Int, of text: String) -> Substring {
        let lines = text.split(separator: "\n", maxSplits: number, omittingEmptySubsequences: false)
        return lines.indices.contains(number - 1) ? lines[number - 1] : ""
    }

    /// Yams tells only where a repeated key stands first; the next line that begins with it is the other one.
    private static func secondMark(of key: String, after first: SourceMark, in text: String) -> SourceMark? {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated().dropFirst(first.line) {
            let start = line.drop { $0 == " " }
            guard line.count - start.count == first.column - 1 else { continue }
            for form in [key, "\"\(key)\"", "'\(key)'"] where start.hasPrefix(form) {
                if start.dropFirst(form.count).drop(while: { $0 == " " }).first == ":" {
                    return SourceMark(line: index + 1, column: first.column)
                }
            }
        }
        return nil
    }

    private static func mark(at offset: Int, in text: String) -> SourceMark {
        var mark = SourceMark(line: 1, column: 1)
        for character in text.prefix(offset) {
            mark.column += 1
            if character.isNewline { mark = SourceMark(line: mark.line + 1, column: 1) }
        }
        return mark
    }
}
