import PostgresClient

/// The transactions of a server that have written and are still open: a slot that is made waits for each of them.
public enum OpenTransactions {
    /// The oldest few, such as `pid 5315 of postgres, open for 5 s`; none of what they did.
    public static func oldest(_ source: PostgresConnection) async throws(PostgresError) -> [String] {
        let sessions = try await source.query(
            """
            SELECT pid::text, coalesce(usename, ''), extract(epoch FROM clock_timestamp() - xact_start)::int::text
            FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 3
            """
        ).rows.map { "pid \($0[0] ?? "?") of \($0[1] ?? "?"), open for \($0[2] ?? "?") s" }
        return try await sessions
            + source.query("SELECT gid FROM pg_catalog.pg_prepared_xacts ORDER BY prepared LIMIT 3").rows.map { "prepared transaction \($0[0] ?? "?")" }
    }
}
