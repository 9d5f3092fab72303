/// The one place that turns names and strings into SQL text.
public enum SQLText {
    /// A quoted identifier. Always quotes, so case and keywords never matter.
    public static func identifier(_ name: String) -> String { quoted(name, with: "\"") }

    /// A quoted literal for `standard_conforming_strings = on` sessions.
    public static func literal(_ text: String) -> String { quoted(text, with: "'") }

    /// Quoted identifiers joined by commas.
    public static func list(_ names: some Sequence<String>) -> String {
        names.map(identifier).joined(separator: ", ")
    }

    /// The text form of a one-dimensional `text[]` (or any array whose delimiter is a comma), for a parameter.
    public static func arrayLiteral(_ values: some Sequence<String>) -> String {
        var result = "{"
        for (position, value) in values.enumerated() {
            result += position == 0 ? "\"" : ",\""
            for scalar in value.unicodeScalars {
                if scalar == "\"" || scalar == "\\" { result.unicodeScalars.append("\\") }
                result.unicodeScalars.append(scalar)
            }
            result += "\""
        }
        return result + "}"
    }

    private static func quoted(_ text: String, with quote: Character) -> String {
        var result = String(quote)
        // NUL cannot occur in PostgreSQL names or text; cutting there would silently change the name.
        for character in text.unicodeScalars where character != "\0" {
            if Character(character) == quote { result.unicodeScalars.append(character) }
            result.unicodeScalars.append(character)
        }
        result.append(quote)
        return result
    }
}
