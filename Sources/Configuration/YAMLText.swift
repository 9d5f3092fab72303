/// Writes words so that YAML reads them back unchanged.
enum YAMLText {
    private static let reserved: Set<String> = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]

    /// The word bare when it is a plain identifier, else in double quotes.
    static func word(_ text: String) -> String {
        let isPlain =
            !text.isEmpty && !reserved.contains(text.lowercased())
            && !("0"..."9" ~= text.unicodeScalars[text.unicodeScalars.startIndex])
            && text.unicodeScalars.allSatisfy {
                "a"..."z" ~= $0 || "A"..."Z" ~= $0 || "0"..."9" ~= $0 || $0 == "_"
            }
        return isPlain ? text : quoted(text)
    }

    /// `schema.name` may stay bare as well.
    static func key(_ text: String) -> String {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        return parts.allSatisfy { word($0) == $0 } ? text : quoted(text)
    }

    /// The reference to a connection: bare as people write it, when YAML takes it so everywhere.
    static func reference(_ text: String) -> String {
        let isPlain = text.unicodeScalars.allSatisfy {
            "a"..."z" ~= $0 || "A"..."Z" ~= $0 || "0"..."9" ~= $0 || "_-.:/@?=".unicodeScalars.contains($0)
        }
        return isPlain && text.first?.isLetter == true && text.last != ":" ? text : quoted(text)
    }

    static func list(_ words: [String]) -> String { "[" + words.map(word).joined(separator: ", ") + "]" }

    /// One line of text for a comment.
    static func comment(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { isControl($0) ? " " : $0 }))
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\" + String(scalar)
            case _ where isControl(scalar):
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    /// Control characters and the line breaks of Unicode, which YAML would fold.
    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
            || [0x2028, 0x2029, 0xfeff].contains(scalar.value)
    }
}
