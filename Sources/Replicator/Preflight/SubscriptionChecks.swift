import PostgresClient
import ReplicationCore

/// PostgreSQL's own subscriptions beside a target: what they write, too, and the workers that they, not Lindero, need.
struct SubscriptionChecks {
    struct Subscription: Sendable, Equatable {
        var name: String
        /// Declared tables that it writes.
        var tables: [QualifiedName]
    }

    let database: String
    /// Those of this database that are switched on and write a declared table.
    var subscriptions: [Subscription] = []
    /// Of all databases of the server.
    var enabledCount = 0
    var workerLimit = 0

    func findings() -> [PreflightFinding] {
        var findings = subscriptions.map { subscription in
            let name = SQLText.identifier(subscription.name)
            let more = subscription.tables.count > 1 ? " and \(subscription.tables.count - 1) more" : ""
            return PreflightFinding(
                .blocker, .subscription, database: database, object: subscription.name,
                "subscription \(name) writes table \(subscription.tables[0])\(more), which Lindero would write, too",
                fix: "ALTER SUBSCRIPTION \(name) DISABLE; or leave its tables out of tables:")
        }
        if enabledCount > workerLimit {
            findings.append(
                PreflightFinding(
                    .warning, .workers, database: database,
                    "\(enabledCount) subscriptions of this server are switched on and \(workerLimit) workers may run "
                        + "(max_logical_replication_workers): some stand still; Lindero itself needs no such worker",
                    fix: "ALTER SYSTEM SET max_logical_replication_workers = '\(enabledCount + 2)'; (within max_worker_processes) "
                        + "then restart the server; or drop those that nobody needs"))
        }
        return findings
    }

    // MARK: reading

    static func read(_ side: PreflightSide, tables: [QualifiedName]) async throws(PostgresError) -> SubscriptionChecks {
        var checks = SubscriptionChecks(database: side.name)
        let row = try await side.connection.query(
            """
            SELECT (SELECT count(*) FROM pg_catalog.pg_subscription WHERE subenabled)::text,
                   pg_catalog.current_setting('max_logical_replication_workers')
            """
        ).rows.first
        checks.enabledCount = row?[0].flatMap { Int($0) } ?? 0
        checks.workerLimit = row?[1].flatMap { Int($0) } ?? 0
        if checks.enabledCount == 0 { return checks }
        let found = try await side.connection.query(
            """
            SELECT DISTINCT s.subname, n.nspname, c.relname
            FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_subscription_rel r ON r.srsubid = s.oid
                 JOIN pg_catalog.pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(r.srrelid), r.srrelid)
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE s.subenabled AND s.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
            ORDER BY 1, 2, 3
            """
        ).rows
        for row in found {
            let table = QualifiedName(schema: row[1] ?? "", name: row[2] ?? "")
            guard tables.contains(table), let name = row[0] else { continue }
            if checks.subscriptions.last?.name == name {
                checks.subscriptions[checks.subscriptions.count - 1].tables.append(table)
            } else {
                checks.subscriptions.append(Subscription(name: name, tables: [table]))
            }
        }
        return checks
    }
}
