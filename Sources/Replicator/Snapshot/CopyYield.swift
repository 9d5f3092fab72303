import PostgresClient
import ReplicationCore
import Synchronization

/// Somebody alters a table that the copy reads, or waits to: the copy ends, and goes on after them with what is left.
struct CopyYield: Error, CustomStringConvertible {
    let description: String

    /// - Parameter waiting: who waits for what, without any statement.
    init(waiting: String) { description = "\(waiting), which the copy reads; it lets them pass" }

    /// It is another one in the snapshot than it was before.
    init(altered table: QualifiedName) { description = "\(table) was altered as the copy began" }

    /// The copy's sessions on the source, by their process.
    final class Sessions: Sendable {
        private let processes = Mutex<Set<String>>([])

        var array: String { "{" + processes.withLock { $0.sorted() }.joined(separator: ",") + "}" }

        func add(_ process: String) { processes.withLock { _ = $0.insert(process) } }
        func remove(_ process: String) { processes.withLock { _ = $0.remove(process) } }
    }
}

/// Looks each second whether anybody waits for a lock that the copy holds.
///
/// The copy holds every table it reads until it is through, as a dump does, and whoever wants to alter one waits, and everybody who reads
/// or writes it waits behind them. Worse, of two sessions of the copy one may wait behind them for a table that the other one holds, and no
/// server sees that circle.
struct CopyLockWatch: Sendable {
    static let pollMilliseconds = 1_000

    let source: ConnectionOptions
    let sessions: CopyYield.Sessions

    /// Runs `body`; ends it where somebody has waited at two looks.
    ///
    /// - Throws: `CopyYield`; what `body` throws.
    func whileWatching(_ body: @escaping @Sendable () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                try await body()
                return true
            }
            group.addTask {
                try await run()
                return false
            }
            defer { group.cancelAll() }
            while let isDone = try await group.next(), !isDone {}
        }
    }

    /// Runs until cancelled; where the source can't be asked, the copy's own sessions tell that.
    private func run() async throws {
        var options = source
        options.settings.append((name: "statement_timeout", value: "5s"))
        var waited: Set<String> = []
        while true {
            do {
                try await PostgresConnection.with(options) { connection in
                    while true {
                        try await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
                        let waiting = try await look(connection)
                        if let first = waiting.first(where: { waited.contains($0.process) }) { throw CopyYield(waiting: first.words) }
                        waited = Set(waiting.map(\.process))
                    }
                }
            } catch is PostgresError {
                try await Task.sleep(for: .milliseconds(Self.pollMilliseconds))
            }
        }
    }

    private func look(_ connection: PostgresConnection) async throws(PostgresError) -> [(process: String, words: String)] {
        try await connection.query(
            """
            SELECT w.pid::text, coalesce(a.usename, a.backend_type, 'another user'), coalesce(c.relname, w.relation::text)
            FROM pg_catalog.pg_locks w JOIN pg_catalog.pg_database d ON d.oid = w.database AND d.datname = pg_catalog.current_database()
                 LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = w.pid LEFT JOIN pg_catalog.pg_class c ON c.oid = w.relation
            WHERE NOT w.granted AND w.locktype = 'relation' AND w.mode = 'AccessExclusiveLock'
              AND pg_catalog.pg_blocking_pids(w.pid) && $1::text::int[]
            ORDER BY w.pid
            """, [.text(sessions.array)]
        ).rows.map { row in
            (row[0] ?? "", "pid \(row[0] ?? "?") of \(row[1] ?? "?") waits for table \(row[2] ?? "?")")
        }
    }
}
