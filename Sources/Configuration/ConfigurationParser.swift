import ReplicationCore
import Yams

/// Turns YAML nodes into configuration values, and collects every problem on the way instead of stopping at one.
///
/// A reader that finds a problem answers `nil` (or leaves the default), so what follows can still be checked.
struct ConfigurationParser {
    let path: String
    var problems: [ConfigurationProblem] = []
    /// What the file asks for, as far as that can be read.
    var backend = LinderoConfiguration.Backend.shared
    /// Whether `defaults.conflict` is written in the file.
    var saysConflict = false

    struct Entry {
        var key: String
        var keyNode: Node
        var value: Node
    }

    struct Word {
        var text: String
        var mark: SourceMark
    }

    mutating func report(_ message: String, at node: Node?, suggestion: String? = nil) {
        report(message, mark: node.map(Self.mark), suggestion: suggestion)
    }

    mutating func report(_ message: String, mark: SourceMark?, suggestion: String? = nil) {
        problems.append(
            ConfigurationProblem(path: path, mark: mark, message: message, suggestion: suggestion))
    }

    static func mark(_ node: Node) -> SourceMark {
        SourceMark(line: node.mark?.line ?? 1, column: node.mark?.column ?? 1)
    }

    /// What a node is, for people. Never its content: it may be a secret in the wrong place.
    static func kind(_ node: Node) -> String {
        switch node {
        case .scalar(let scalar): isNull(scalar) ? "nothing" : "a single value"
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }

    static func isNull(_ scalar: Node.Scalar) -> Bool {
        scalar.style == .plain && ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    }

    /// The entries of a mapping; with `keys`, any other key is a problem.
    mutating func entries(_ node: Node, of place: String, keys: [String]? = nil) -> [Entry] {
        guard case .mapping(let mapping) = node else {
            let hint = keys.map { " with any of: " + $0.joined(separator: ", ") } ?? ""
            report("\(place) must be a mapping\(hint), but is \(Self.kind(node))", at: node)
            return []
        }
        var entries: [Entry] = []
        for (keyNode, value) in mapping {
            guard case .scalar(let scalar) = keyNode, !Self.isNull(scalar) else {
                report("a key of \(place) must be a name, but is \(Self.kind(keyNode))", at: keyNode)
                continue
            }
            if let keys, !keys.contains(scalar.string) {
                let known = keys.joined(separator: ", ")
                report(
                    "unknown key \"\(scalar.string)\" in \(place), which takes: \(known)", at: keyNode,
                    suggestion: NearestWord.among(keys, to: scalar.string))
                continue
            }
            entries.append(Entry(key: scalar.string, keyNode: keyNode, value: value))
        }
        return entries
    }

    /// One word, of any YAML type: `on` and `123` are names too.
    mutating func word(_ node: Node, of place: String, expected: String = "a name") -> Word? {
        guard case .scalar(let scalar) = node, !Self.isNull(scalar), !scalar.string.isEmpty else {
            report("\(place) must be \(expected), but is \(Self.kind(node))", at: node)
            return nil
        }
        return Word(text: scalar.string, mark: Self.mark(node))
    }

    /// A list of words; a single word is a list of one. Empty lists and repeated words are problems.
    mutating func words(_ node: Node, of place: String, expected: String = "a list of names") -> [Word] {
        guard case .sequence(let sequence) = node else {
            return word(node, of: place, expected: expected).map { [$0] } ?? []
        }
        if sequence.isEmpty { report("\(place) must be \(expected), but is an empty list", at: node) }
        var words: [Word] = []
        var seen: Set<String> = []
        for element in sequence {
            guard let word = word(element, of: "an element of \(place)") else { continue }
            if seen.insert(word.text).inserted {
                words.append(word)
            } else {
                report("\(place) names \"\(word.text)\" twice", at: element)
            }
        }
        return words
    }

    mutating func choice<Choice: RawRepresentable & CaseIterable>(
        _ node: Node, of place: String, as type: Choice.Type = Choice.self
    ) -> Choice? where Choice.RawValue == String {
        let words = Choice.allCases.map(\.rawValue)
        let expected = "one of: " + words.joined(separator: ", ")
        guard let word = word(node, of: place, expected: expected) else { return nil }
        if let choice = Choice(rawValue: word.text) { return choice }
        report(
            "\(place) is \"\(word.text)\", but must be \(expected)", at: node,
            suggestion: NearestWord.among(words, to: word.text))
        return nil
    }

    mutating func flag(_ node: Node, of place: String) -> Bool? {
        guard let word = word(node, of: place, expected: "true or false") else { return nil }
        switch word.text {
        case "true": return true
        case "false": return false
        default:
            report("\(place) is \"\(word.text)\", but must be true or false", at: node)
            return nil
        }
    }

    mutating func count(_ node: Node, of place: String, in range: ClosedRange<Int>) -> Int? {
        let expected = "a number from \(range.lowerBound) to \(range.upperBound)"
        guard let word = word(node, of: place, expected: expected) else { return nil }
        if let number = Int(word.text), range.contains(number) { return number }
        report("\(place) is \"\(word.text)\", but must be \(expected)", at: node)
        return nil
    }

    mutating func milliseconds(_ node: Node, of place: String) -> Int? {
        quantity(node, of: place, units: Quantity.durations, example: "a duration such as 200ms, 2s or 24h")
    }

    /// Whole seconds; a fraction is a problem, not a silent zero.
    mutating func seconds(_ node: Node, of place: String) -> Int? {
        guard let value = milliseconds(node, of: place) else { return nil }
        if value % 1_000 == 0 { return value / 1_000 }
        report("\(place) must be whole seconds, such as 30s or 24h", at: node)
        return nil
    }

    mutating func bytes(_ node: Node, of place: String) -> Int? {
        quantity(node, of: place, units: Quantity.sizes, example: "a size such as 200kB, 64MB or 5GB")
    }

    private mutating func quantity(
        _ node: Node, of place: String, units: [(unit: String, factor: Double)], example: String
    ) -> Int? {
        guard let word = word(node, of: place, expected: example) else { return nil }
        let start = "\(place) is \"\(word.text)\", but must be \(example)"
        let known = units.map(\.unit).joined(separator: ", ")
        do throws(Quantity.Failure) {
            return try Quantity.parse(word.text, units: units)
        } catch {
            switch error {
            case .malformed: report(start, at: node)
            case .missingUnit: report("\(start): the unit is missing, one of: \(known)", at: node)
            case .unknownUnit(let nearest):
                report("\(start): the unit must be one of: \(known)", at: node, suggestion: nearest)
            case .outOfRange: report("\(start): the number is too large", at: node)
            }
            return nil
        }
    }
}
