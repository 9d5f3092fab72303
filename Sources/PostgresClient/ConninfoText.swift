import CLibPQ

/// Reads connection strings for what may be shown, and cleans libpq's texts of what may not.
enum ConninfoText {
    /// The options a connection string spells out; nil when libpq cannot parse it.
    static func parse(_ conninfo: String) -> [String: String]? {
        guard conninfo.contains("=") || conninfo.contains("://") else { return ["dbname": conninfo] }
        var message: UnsafeMutablePointer<CChar>?
        // The message may quote the string, so it is freed unread.
        let options = PQconninfoParse(conninfo, &message)
        PQfreemem(message)
        guard let options else { return nil }
        defer { PQconninfoFree(options) }
        var values: [String: String] = [:]
        var next = options
        while let keyword = next.pointee.keyword {
            if let value = next.pointee.val { values[String(cString: keyword)] = String(cString: value) }
            next += 1
        }
        return values
    }

    /// An option as libpq has it for a connection, from whatever place it took it.
    static func effective(_ keyword: String, _ handle: OpaquePointer) -> String? {
        guard let options = PQconninfo(handle) else { return nil }
        defer { PQconninfoFree(options) }
        var next = options
        while let name = next.pointee.keyword {
            if String(cString: name) == keyword { return next.pointee.val.map { String(cString: $0) } }
            next += 1
        }
        return nil
    }

    /// `user@host:port/database`, as far as the string says.
    static func target(of conninfo: String) -> String {
        guard let values = parse(conninfo) else { return "(connection string that cannot be read)" }
        // A password with a bare @ or / slips into the host or port; such parts are not shown.
        func shown(_ key: String) -> String? {
            guard let value = values[key], !value.isEmpty else { return nil }
            return value.contains("@") ? "…" : value
        }
        var text = shown("user").map { $0 + "@" } ?? ""
        let host = shown("host") ?? shown("hostaddr")
        text += host ?? (values["service"].map { "service \($0)" } ?? "local")
        if let port = shown("port") {
            text += port.allSatisfy { $0.isNumber || $0 == "," } ? ":\(port)" : ":…"
        }
        if let database = shown("dbname") { text += "/\(database)" }
        return text
    }

    /// libpq's text with every known secret, and every quoted piece that may be one, taken out.
    static func redacted(_ text: String, conninfo: String) -> String {
        var clean = text
        let values = parse(conninfo) ?? [:]
        for key in ["password", "sslpassword"] {
            if let secret = values[key], secret.count >= 3 { clean = clean.replacing(secret, with: "…") }
        }
        clean = withoutQuotedSecrets(clean)
        let lines = clean.split(separator: "\n").filter { !$0.hasPrefix("LOCATION:") }
        return lines.joined(separator: " ").replacing("\t", with: " ")
    }

    /// Hides quoted pieces that hold an `@`, follow `://`, or are what libpq takes for a number.
    private static func withoutQuotedSecrets(_ text: String) -> String {
        let pieces = text.split(separator: "\"", omittingEmptySubsequences: false)
        var clean = ""
        for (index, piece) in pieces.enumerated() {
            if index > 0 { clean += "\"" }
            let isQuoted = index % 2 == 1
            let isNumber = index > 0 && (pieces[index - 1].hasSuffix("port number: ")
                || pieces[index - 1].hasSuffix("integer value "))
            clean += isQuoted && (piece.contains("@") || piece.contains("://") || isNumber) ? "…" : piece
        }
        return clean
    }

    /// Finds what failed in libpq's (verbose) text of a failed connection.
    static func failure(_ text: String, conninfo: String) -> ConnectionFailure {
        let (sqlState, plain) = takingSQLState(from: text)
        return ConnectionFailure(
            reason: reason(plain, sqlState), message: redacted(plain, conninfo: conninfo),
            target: target(of: conninfo), sqlState: sqlState)
    }

    /// Verbose texts read `FATAL:  28P01: password …`: takes the code out of the last of them.
    ///
    /// With `sslmode=prefer` libpq tries once more without TLS. A server that insists on TLS answers that with 28000
    /// (no entry in `pg_hba.conf`), which says less than the wrong password before it.
    private static func takingSQLState(from text: String) -> (SQLState?, String) {
        var found: SQLState?
        let plain = text.replacing(#/(FATAL|ERROR|PANIC): +([0-9A-Z]{5}): /#) { match in
            let code = String(match.output.2)
            if code != "28000" || found?.rawValue != "28P01" { found = SQLState(code) }
            return ""
        }
        return (found, plain)
    }

    private static func reason(_ text: String, _ sqlState: SQLState?) -> ConnectionFailure.Reason {
        if let sqlState { return sqlState.class == "28" ? .authentication : .server }
        let signs: [(sign: String, reason: ConnectionFailure.Reason)] = [
            ("could not translate host name", .unknownHost),
            ("certificate", .encryption), ("SSL", .encryption),
            ("password", .authentication), ("SCRAM", .authentication), ("authentication", .authentication),
            ("service", .options), ("invalid", .options), ("could not match", .options),
            ("Connection refused", .refused), ("No such file or directory", .refused),
            ("Connection timed out", .timedOut),
            ("closed the connection", .lost), ("Connection reset", .lost), ("Broken pipe", .lost),
            ("could not receive data", .lost), ("could not send data", .lost),
            ("No route to host", .timedOut), ("unreachable", .timedOut),
            ("Too many open files", .resources), ("out of memory", .resources),
        ]
        if text.contains("Temporary failure in name resolution") { return .nameServiceDown }
        return signs.first { text.contains($0.sign) }?.reason ?? .other
    }
}
