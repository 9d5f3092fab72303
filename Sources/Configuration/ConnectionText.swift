/// Looks at libpq connection strings without opening them: enough to find a password and to edit parameters.
enum ConnectionText {
    static func isURI(_ text: String) -> Bool {
        text.hasPrefix("postgres://") || text.hasPrefix("postgresql://")
    }

    /// libpq's keywords whose values are secrets.
    static let secretKeywords: Set<String> = [
        "password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key",
    ]

    /// Whether a URI carries a password: `user:secret@host`, or a `password` parameter.
    static func uriHoldsPassword(_ text: String) -> Bool {
        guard let start = text.firstRange(of: "://")?.upperBound else { return false }
        let rest = text[start...]
        let (base, query) = splitQuery(rest)
        if query.contains(where: { secretKeywords.contains(String($0.prefix { $0 != "=" }).lowercased()) }) {
            return true
        }
        // A password may itself hold "@" or "/" where somebody forgot to encode it: look before the last "@".
        guard let at = base.lastIndex(of: "@") else { return false }
        let credentials = base[..<at]
        guard let colon = credentials.firstIndex(of: ":") else { return false }
        return credentials.index(after: colon) < credentials.endIndex
    }

    /// A URI's part before `?`, and its parameters, still encoded.
    static func splitQuery<Text: StringProtocol>(_ uri: Text) -> (base: String, parameters: [String]) {
        guard let mark = uri.firstIndex(of: "?") else { return (String(uri), []) }
        let query = String(uri[uri.index(after: mark)...])
        return (String(uri[..<mark]), query.split(separator: "&" as Character).map { String($0) })
    }

    /// The keywords of `key=value key='quoted value'`; `nil` when the text is not of that form.
    static func keywords(_ text: String) -> [String]? {
        var keywords: [String] = []
        var rest = Substring(text)
        while true {
            rest = rest.drop { $0.isWhitespace }
            if rest.isEmpty { return keywords.isEmpty ? nil : keywords }
            let key = rest.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
            rest = rest[key.endIndex...].drop { $0.isWhitespace }
            guard !key.isEmpty, rest.first == "=" else { return nil }
            keywords.append(key.lowercased())
            rest = rest.dropFirst().drop { $0.isWhitespace }
            guard let after = skipValue(rest) else { return nil }
            rest = after
        }
    }

    /// What follows a value; `nil` when its quote never closes.
    private static func skipValue(_ text: Substring) -> Substring? {
        var rest = text
        let isQuoted = rest.first == "'"
        if isQuoted { rest = rest.dropFirst() }
        while let character = rest.first {
            if isQuoted, character == "'" { return rest.dropFirst() }
            if !isQuoted, character.isWhitespace { return rest }
            rest = rest.dropFirst(character == "\\" ? 2 : 1)
        }
        return isQuoted ? nil : rest
    }

    /// A value in libpq's quotes.
    static func quoted(_ value: String) -> String {
        var result = "'"
        for character in value {
            if character == "'" || character == "\\" { result.append("\\") }
            result.append(character)
        }
        return result + "'"
    }
}
