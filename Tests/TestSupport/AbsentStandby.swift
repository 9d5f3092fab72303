extension PostgresCluster {
    /// Starts a server that demands a synchronous standby, which is not there: a commit under `synchronous_commit = on` is logged and
    /// waits. Others are not affected.
    ///
    /// Demanded from the start: after a reload commits wait only once the checkpointer has seen it, which nothing shows.
    public static func startWithoutStandby() async throws -> PostgresCluster {
        try await start(settings: ["synchronous_standby_names": "nobody", "synchronous_commit": "local"])
    }

    /// Lets those go that wait for the standby.
    public func doWithoutStandby() async throws { try await demandStandbys("") }

    /// Sets `synchronous_standby_names`; sessions hear of it in a moment.
    public func demandStandbys(_ names: String) async throws {
        try await execute("ALTER SYSTEM SET synchronous_standby_names = '\(names)'")
        try await execute("SELECT pg_reload_conf()")
    }
}
