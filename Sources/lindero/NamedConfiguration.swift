import ReplicationCore

/// Next commands, for whoever named the configuration with `--config`: they must name it, too.
struct NamedConfiguration {
    private let option: String?

    /// - Parameter path: what `--config` said.
    init(_ path: String?) { option = path.map { " --config \(Self.quoted($0))" } }

    /// The text with the option behind every command of ours that has none.
    func naming(_ text: String) -> String {
        guard let option else { return text }
        return text.replacing(/lindero((?: [a-z][a-z-]*)+)(?! [a-z]|[a-z-]| --config)/) { match in
            let words = match.1.split(separator: " ").map(String.init)
            let known = CommandWords(words[...]).known
            if known.isEmpty || ["version", "init"].contains(known[0]) { return String(match.0) }
            let rest = words.dropFirst(known.count).map { " \($0)" }.joined()
            return "lindero " + known.joined(separator: " ") + option + rest
        }
    }

    private static func quoted(_ path: String) -> String {
        let plain = path.utf8.allSatisfy { byte in
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
                || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte || "/._-+".utf8.contains(byte)
        }
        return plain ? path : "'" + path.replacing("'", with: "'\\''") + "'"
    }
}
