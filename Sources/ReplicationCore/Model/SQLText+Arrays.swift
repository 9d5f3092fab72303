extension SQLText {
    /// An array of text that may hold NULLs, as PostgreSQL reads it.
    public static func arrayLiteral(nullable values: some Sequence<String?>) -> String {
        "{" + values.map { value in value.map { String(arrayLiteral([$0]).dropFirst().dropLast()) } ?? "NULL" }.joined(separator: ",") + "}"
    }

    /// The elements of a one-dimensional array of text in PostgreSQL's output form; NULLs are left out.
    public static func elements(ofArray text: String) -> [String] {
        var elements: [String] = []
        var current = ""
        var isQuoted = false
        var wasQuoted = false
        var isEscaped = false
        for scalar in text.unicodeScalars.dropFirst().dropLast() {
            if isEscaped {
                current.unicodeScalars.append(scalar)
                isEscaped = false
            } else if scalar == "\\" {
                isEscaped = true
            } else if scalar == "\"" {
                isQuoted.toggle()
                wasQuoted = true
            } else if scalar == "," && !isQuoted {
                if wasQuoted || current != "NULL" { elements.append(current) }
                (current, wasQuoted) = ("", false)
            } else {
                current.unicodeScalars.append(scalar)
            }
        }
        if wasQuoted || !current.isEmpty && current != "NULL" { elements.append(current) }
        return elements
    }
}
