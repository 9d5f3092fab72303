import CLibPQ

/// What may be shown of a conninfo string.
enum ConninfoText {
    private static let shown: Set<String> = ["host", "hostaddr", "port", "dbname", "user", "service"]

    static func redacted(_ conninfo: String) -> String {
        let parts = parse(conninfo).filter { shown.contains($0.key) && !$0.value.isEmpty }
        return parts.isEmpty ? "(default server)" : parts.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
    }

    /// libpq's text without the password, should it ever quote it.
    static func redact(_ message: String, conninfo: String) -> String {
        var text = message.split(separator: "\n").joined(separator: " ")
        for part in parse(conninfo) where ["password", "sslpassword"].contains(part.key) && !part.value.isEmpty {
            text = text.split(separator: part.value, omittingEmptySubsequences: false).joined(separator: "***")
        }
        // A string that libpq cannot parse is quoted whole in its complaint.
        if parse(conninfo).isEmpty && !conninfo.isEmpty {
            text = text.split(separator: conninfo, omittingEmptySubsequences: false).joined(separator: "***")
            if text.contains("\"") { text = "The connection string cannot be parsed." }
        }
        return text
    }

    static func parse(_ conninfo: String) -> [(key: String, value: String)] {
        guard let list = PQconninfoParse(conninfo, nil) else { return [] }
        defer { PQconninfoFree(list) }
        var result: [(String, String)] = []
        var index = 0
        while let keyword = list[index].keyword {
            if let value = list[index].val { result.append((String(cString: keyword), String(cString: value))) }
            index += 1
        }
        return result
    }
}
