/// How to reach a server and how the session is set up.
public struct ConnectionOptions: Sendable, CustomStringConvertible {
    /// What libpq is given: a URI or `keyword=value` pairs. May name a service or a password file.
    let conninfo: String
    public var applicationName = "lindero"
    /// A walsender session for logical replication (`replication=database`).
    public var isReplication = false
    public var connectTimeoutSeconds = 10
    /// `SET` after connecting, in order, after the pinned ones.
    public var settings: [(name: String, value: String)] = []
    /// Whether the session's formats and limits are fixed, whatever server, database or role would choose.
    public var usesPinnedSettings = true

    public init(_ conninfo: String) { self.conninfo = conninfo }

    /// Settings on which source and target may disagree, and that change what values look like or what is allowed.
    public static let pinnedSettings: [(name: String, value: String)] = [
        ("datestyle", "ISO"), ("intervalstyle", "postgres"), ("timezone", "UTC"), ("extra_float_digits", "3"),
        ("bytea_output", "hex"), ("search_path", ""), ("xmloption", "content"), ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"), ("default_transaction_isolation", "read committed"),
        ("default_transaction_read_only", "off"), ("default_transaction_deferrable", "off"),
        ("statement_timeout", "0"), ("lock_timeout", "0"), ("idle_in_transaction_session_timeout", "0"),
        ("row_security", "off"),
    ]

    var allSettings: [(name: String, value: String)] {
        (usesPinnedSettings ? Self.pinnedSettings : []) + settings
    }

    /// Host, port, database and user; never a password.
    public var description: String { ConninfoText.redacted(conninfo) }
}
