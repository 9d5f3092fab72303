import Logging
import PostgresClient
import ReplicationCore

/// Says who holds what an applier waits for: the lag that grows meanwhile looks as if the target were slow.
struct LockWatch: Sendable {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger
    /// Of the applier's session on the target.
    let processID: String

    /// How long nothing may be applied before it is worth a question.
    static let stillMilliseconds = 3_000

    static func processID(of target: PostgresConnection) async throws(PostgresError) -> String {
        try await target.query("SELECT pg_catalog.pg_backend_pid()::text").firstValue ?? "0"
    }

    /// Runs until cancelled.
    func run() async throws {
        let notice = DirectionNotice(settings: settings, logger: logger)
        var isTold = false
        while !Task.isCancelled {
            let applied = state.appliedLSN
            try await Task.sleep(for: .milliseconds(Self.stillMilliseconds))
            let isStill = state.appliedLSN == applied && state.receivedLSN > applied
            if isTold, !isStill {
                isTold = false
                await notice.end(state)
            } else if isStill, !isTold, !state.isDraining, let holders = await holders() {
                isTold = true
                await notice.begin(
                    state, as: .catchingUp,
                    because: "\(settings.targetName) has the next transaction wait for a lock that \(holders); it goes on when that ends")
            }
        }
    }

    /// - Returns: `nil` where nobody stands in the way, or the target does not say.
    private func holders() async -> String? {
        var target = settings.target
        target.settings.append((name: "statement_timeout", value: "5s"))
        let found = try? await PostgresConnection.with(target) { target in
            try await target.query(
                """
                SELECT a.pid::text, coalesce(a.usename, a.backend_type, 'another user'),
                       pg_catalog.trunc(extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start))::text
                FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids($1::text::int)) held (pid)
                     JOIN pg_catalog.pg_stat_activity a ON a.pid = held.pid
                ORDER BY a.xact_start LIMIT 3
                """, [.text(processID)]
            ).rows
        }
        guard let found, !found.isEmpty else { return nil }
        return found.map { row in
            "pid \(row[0] ?? "?") of \(row[1] ?? "?") holds" + (row[2].map { " (in a transaction for \($0) s)" } ?? "")
        }.joined(separator: ", ")
    }
}
