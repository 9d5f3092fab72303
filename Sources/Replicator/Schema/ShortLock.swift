import Logging
import PostgresClient
import ReplicationCore

/// Changes that need a table for themselves, made in short tries.
///
/// Whoever waits for such a lock behind a long transaction keeps everybody else waiting behind it: so each try waits for a
/// moment only, and lets those who came meanwhile go first.
struct ShortLock: Sendable {
    /// Of the database, for people.
    let name: String
    let connection: PostgresConnection
    /// How long others may have to wait behind one try.
    var lockMilliseconds = 100
    /// How long to try.
    var limitMilliseconds: Int64 = 60_000
    /// Hears of a wait that a person would notice.
    var logger: Logger?

    private static let tellMilliseconds: Int64 = 2_000

    /// Makes one transaction of `before` and `sql`, in this order, as soon as the tables are free for a moment. The lock is held
    /// for one round trip: the script ends with the commit.
    ///
    /// - Parameters:
    ///   - tables: those that `sql` locks, for the error.
    ///   - before: statements that wait for nobody; done again with each try.
    /// - Throws: `ReplicationFailure` when one is in use all the time; `PostgresError`.
    func run(_ sql: String, on tables: [QualifiedName], before: () async throws -> Void = {}) async throws {
        let start = Monotonic.milliseconds()
        var isTold = logger == nil
        while true {
            do {
                _ = try await connection.execute("BEGIN")
                try await before()
                _ = try await connection.execute("SET LOCAL lock_timeout = \(lockMilliseconds); \(sql); COMMIT")
                return
            } catch {
                try? await connection.rollback()
                // A deadlock is one of which we are to give way.
                guard let refusal = error as? PostgresError, ["55P03", "40P01"].contains(refusal.sqlState?.rawValue) else { throw error }
                let waited = Monotonic.milliseconds() - start
                guard waited < limitMilliseconds else { throw try await inUse(tables, sql) }
                if !isTold, waited >= Self.tellMilliseconds {
                    isTold = true
                    let holders = try await holders(of: tables)
                    logger?.notice(
                        "waiting for a lock",
                        metadata: [
                            "database": "\(name)", "tables": "\(tables.map(\.description).joined(separator: ", "))",
                            "because": "\(holders)", "upTo": "\(limitMilliseconds / 1_000) s",
                        ])
                }
            }
            try await Task.sleep(for: .milliseconds(3 * lockMilliseconds))
        }
    }

    private func holders(of tables: [QualifiedName]) async throws -> String {
        let holders = try await connection.query(
            """
            SELECT a.pid::text, coalesce(a.usename, a.backend_type) FROM pg_catalog.pg_locks l
                 JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
            WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid()
              AND l.relation = ANY (SELECT pg_catalog.to_regclass(t)::pg_catalog.oid FROM pg_catalog.unnest($1::text[]) t)
              AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
            GROUP BY 1, 2, a.xact_start ORDER BY a.xact_start LIMIT 3
            """, [.text(SQLText.arrayLiteral(tables.map(\.sql)))]
        ).rows.map { "pid \($0[0] ?? "?") of \($0[1] ?? "?")" }
        return holders.isEmpty ? "others come all the time" : "held by " + holders.joined(separator: ", ")
    }

    private func inUse(_ tables: [QualifiedName], _ sql: String) async throws -> ReplicationFailure {
        let who = try await holders(of: tables)
        let what = tables.count == 1 ? "Table \(tables[0])" : "One of the tables \(tables.map(\.description).joined(separator: ", "))"
        return ReplicationFailure(
            .tableInUse, "\(what) of \(name) was not free for a moment in \(limitMilliseconds / 1_000) s: \(who).",
            nextStep: "End what holds it (an autovacuum worker: SELECT pg_cancel_backend(PID)), or run there: \(sql); Then the same "
                + "command again.")
    }
}
