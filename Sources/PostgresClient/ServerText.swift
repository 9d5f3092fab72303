/// How names, values and positions are written in commands to the server.
enum ServerText {
    /// A quoted identifier.
    static func identifier(_ name: String) -> String {
        "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }

    /// A string literal; sessions have `standard_conforming_strings` on, and the escape form needs it not.
    static func literal(_ text: String) -> String {
        let quoted = "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
        guard text.contains("\\") else { return quoted }
        return "E" + quoted.split(separator: "\\", omittingEmptySubsequences: false).joined(separator: "\\\\")
    }

    /// A literal of the replication protocol, which knows no escapes but the doubled quote.
    static func replicationLiteral(_ text: String) -> String {
        "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    }

    /// A WAL position as the server writes it: `16/B374D848`.
    static func position(_ lsn: UInt64) -> String {
        String(lsn >> 32, radix: 16, uppercase: true) + "/"
            + String(UInt32(truncatingIfNeeded: lsn), radix: 16, uppercase: true)
    }

    /// Reads a WAL position; nil when the text is none.
    static func position(_ text: String) -> UInt64? {
        let halves = text.split(separator: "/", omittingEmptySubsequences: false)
        guard halves.count == 2, let high = UInt32(halves[0], radix: 16), let low = UInt32(halves[1], radix: 16)
        else { return nil }
        return UInt64(high) << 32 | UInt64(low)
    }
}
