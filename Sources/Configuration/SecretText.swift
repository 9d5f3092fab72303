import ReplicationCore

/// Reads the text of a `url:` as a reference to a secret, and refuses the secret itself.
enum SecretText {
    enum Failure: Error, Equatable {
        case containsPassword
        case malformed(suggestion: String?)
    }

    static func parse(_ text: String) throws(Failure) -> SecretReference {
        if let name = text.value(after: "env:") {
            guard isVariableName(name) else {
                throw .malformed(
                    suggestion: isVariableName(name.uppercased()) ? "env:\(name.uppercased())" : nil)
            }
            return .environment(name)
        }
        if let path = text.value(after: "file:") {
            guard !path.isEmpty else { throw .malformed(suggestion: nil) }
            return .file(path)
        }
        if let service = text.value(after: "service:") {
            guard !service.isEmpty else { throw .malformed(suggestion: nil) }
            return .conninfo("service=" + ConnectionText.quoted(service))
        }
        if ConnectionText.isURI(text) {
            if ConnectionText.uriHoldsPassword(text) { throw .containsPassword }
            return .conninfo(PrismaURL.withoutPrismaParameters(text))
        }
        guard let keywords = ConnectionText.keywords(text) else {
            throw .malformed(suggestion: nearestForm(to: text))
        }
        if !ConnectionText.secretKeywords.isDisjoint(with: keywords) { throw .containsPassword }
        return .conninfo(text)
    }

    private static func isVariableName(_ name: String) -> Bool {
        !name.isEmpty && !("0"..."9" ~= name.unicodeScalars[name.unicodeScalars.startIndex])
            && name.unicodeScalars.allSatisfy {
                "a"..."z" ~= $0 || "A"..."Z" ~= $0 || "0"..."9" ~= $0 || $0 == "_"
            }
    }

    /// `$DATABASE_URL`, `${DATABASE_URL}`, `DATABASE_URL` and `ENV:DATABASE_URL` all mean `env:DATABASE_URL`.
    private static func nearestForm(to text: String) -> String? {
        if text.lowercased().hasPrefix("env:") { return "env:" + text.dropFirst(4) }
        if text.lowercased().hasPrefix("file:") { return "file:" + text.dropFirst(5) }
        let name = String(text.drop { $0 == "$" || $0 == "{" }.prefix { $0 != "}" })
        // Only what is surely a variable's name: anything else might be the secret itself, and would be shown.
        guard isVariableName(name), name == name.uppercased(), text.hasPrefix("$") || name.contains("_")
        else {
            return nil
        }
        return "env:" + name
    }
}

extension String {
    fileprivate func value(after prefix: String) -> String? {
        hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
    }
}
