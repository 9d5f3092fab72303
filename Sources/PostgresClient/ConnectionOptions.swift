import CLibPQ

/// Where to connect, and how the session is set up.
///
/// The connection string goes to libpq as it is, so services, password files, TLS options and several hosts
/// all work. Showing these options never shows a password.
public struct ConnectionOptions: Sendable, CustomStringConvertible {
    let conninfo: String
    /// Shown in `pg_stat_activity`. A name in the connection string wins over the default `lindero`.
    public var applicationName: String? = ConnectionOptions.defaultApplicationName
    /// Whether the connection speaks the replication protocol (`replication=database`).
    public var isReplication = false
    /// Used when the connection string has no `connect_timeout`; for each address. 0 waits for ever.
    public var connectTimeoutSeconds = 10
    /// Whether a server will do that only reads, whatever the connection string wants of one.
    public var acceptsAnyServer = false
    /// Parameters set right after connecting, in order, after the pinned ones.
    public var settings: [(name: String, value: String)] = []
    /// Whether `pinnedSettings` are set first. They make every database print and read values alike.
    public var usesPinnedSettings = true
    /// Receives the server's warnings and notices. Without it they are dropped.
    public var noticeHandler: (@Sendable (ServerError) -> Void)?

    static let defaultApplicationName = "lindero"

    /// - Parameter conninfo: a URI (`postgresql://…`) or keywords (`host=… dbname=…`), as libpq takes them.
    public init(_ conninfo: String) {
        self.conninfo = conninfo
    }

    /// The settings on which source and target must agree, whatever their databases and roles say.
    public static let pinnedSettings: [(name: String, value: String)] = [
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("search_path", ""),
        ("datestyle", "ISO, YMD"),
        ("intervalstyle", "postgres"),
        ("timezone", "UTC"),
        ("extra_float_digits", "3"),
        ("bytea_output", "hex"),
        ("xmloption", "content"),
        ("lc_monetary", "C"),
        ("array_nulls", "on"),
        ("quote_all_identifiers", "off"),
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_read_only", "off"),
        ("default_transaction_deferrable", "off"),
        ("row_security", "off"),
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        // As ours: the session of a host that is gone ends, with the locks and the replication origin that it holds. No
        // `tcp_user_timeout` for all: it would end a COPY whose rows wait for so long, since the other server is busy.
        ("tcp_keepalives_idle", "30"),
        ("tcp_keepalives_interval", "10"),
        ("tcp_keepalives_count", "3"),
    ]

    /// How long a server keeps the session of a host that is gone: what `pinnedSettings` and `answersInTime` come to.
    public static let silenceMilliseconds: Int64 = 60_000
    /// For a session that the server never sends much: a host that is gone, with an answer on its way to it, gets no keepalives.
    public static let answersInTime: (name: String, value: String) = ("tcp_user_timeout", "60s")

    /// `user@host:port/database`, or the service's name; never a secret.
    public var description: String { ConninfoText.target(of: conninfo) }

    /// The settings for a server of this version (150018 form), pinned ones first.
    func settings(forServerVersion version: Int) -> [(name: String, value: String)] {
        guard usesPinnedSettings else { return settings }
        var pinned = ConnectionOptions.pinnedSettings
        if version >= 140_000 { pinned.append(("idle_session_timeout", "0")) }
        if version >= 170_000 { pinned.append(("transaction_timeout", "0")) }
        return pinned + settings
    }

    /// What libpq gets. Later entries win, so what stands before the connection string (`dbname`) is a default.
    var keywords: [(name: String, value: String)] {
        var list: [(name: String, value: String)] = [
            ("fallback_application_name", ConnectionOptions.defaultApplicationName),
            ("keepalives", "1"), ("keepalives_idle", "30"), ("keepalives_interval", "10"),
            ("keepalives_count", "3"), ("tcp_user_timeout", "60000"),
            ("dbname", conninfo),
            ("client_encoding", "UTF8"),
        ]
        if let applicationName, applicationName != ConnectionOptions.defaultApplicationName {
            list.append(("application_name", applicationName))
        }
        if isReplication { list.append(("replication", "database")) }
        if acceptsAnyServer { list.append(("target_session_attrs", "any")) }
        return list
    }
}
