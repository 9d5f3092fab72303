import PostgresClient
import ReplicationCore

/// Commits that a server has logged, and so may have sent, but does not show yet: they wait for a synchronous standby, or
/// for the last microseconds of a commit.
struct HiddenCommits: Sendable {
    static let longestMilliseconds: Int64 = 30_000

    let connection: PostgresConnection
    var limitMilliseconds = longestMilliseconds

    /// Returns once no commit is hidden that was logged before.
    ///
    /// A transaction that is idle has not begun to commit, so nobody waits for it; nor has one that is prepared, unless a
    /// session is at that. One of another database, of which a cluster may have many, has no row of this one.
    /// - Returns: false when one still runs at the end of a long wait.
    func settle() async throws -> Bool {
        // A snapshot lists only those before the newest that has ended: so one that is newer than all of them ends first.
        _ = try await connection.query("SELECT pg_catalog.pg_current_xact_id()::text")
        let running = try await connection.query(
            "SELECT pg_catalog.array_agg(xid)::text FROM pg_catalog.pg_snapshot_xip(pg_catalog.pg_current_snapshot()) AS xid"
        ).firstValue
        guard let running else { return true }
        var schedule = WaitSchedule()
        let end = Monotonic.milliseconds() + limitMilliseconds
        while try await isRunning(running) {
            guard Monotonic.milliseconds() < end else { return false }
            try await Task.sleep(for: .milliseconds(schedule.nextMilliseconds()))
        }
        return true
    }

    private func isRunning(_ xids: String) async throws -> Bool {
        try await connection.query(
            """
            SELECT 1 FROM pg_catalog.unnest($1::pg_catalog.xid8[]) AS running(xid)
            WHERE pg_catalog.pg_xact_status(xid) = 'in progress' AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_stat_activity a
              WHERE a.backend_xid = running.xid::pg_catalog.xid
                AND (a.state LIKE 'idle in transaction%' OR a.datname <> pg_catalog.current_database()))
            AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_prepared_xacts p
              WHERE p.transaction = running.xid::pg_catalog.xid AND (p.database <> pg_catalog.current_database() OR NOT EXISTS (
                SELECT FROM pg_catalog.pg_stat_activity a
                WHERE a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
                  AND (a.state IS NULL OR a.state = 'active' AND a.query ~* 'commit\\s+prepared'))))
            LIMIT 1
            """, [.text(xids)]
        ).rowCount > 0
    }
}
