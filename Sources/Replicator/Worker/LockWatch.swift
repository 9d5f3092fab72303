import Logging
import PostgresClient
import ReplicationCore

/// Says who holds what an applier waits for: the lag that grows meanwhile looks as if the target were slow.
///
/// What else a direction has to say goes first, and stays.
struct LockWatch: Sendable {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger
    /// Of the applier's session on the target.
    let processID: String

    /// How long nothing may be applied before it is worth a question.
    static let stillMilliseconds = 3_000
    /// How many of these times pass at most between two questions: what takes long is mostly no lock.
    private static let longestPause = 20

    static func processID(of target: PostgresConnection) async throws(PostgresError) -> String {
        try await target.query("SELECT pg_catalog.pg_backend_pid()::text").firstValue ?? "0"
    }

    /// Runs until cancelled.
    func run() async throws {
        var told: String?
        do {
            var (pause, asked) = (1, 0)
            while true {
                let applied = state.appliedLSN
                try await Task.sleep(for: .milliseconds(Self.stillMilliseconds))
                asked += 1
                if state.appliedLSN != applied || state.receivedLSN <= applied {
                    (pause, asked) = (1, 0)
                    await take(back: &told)
                } else if asked >= pause {
                    // Who can't be asked has not let go.
                    guard let holders = await holders() else {
                        asked = 0
                        continue
                    }
                    (pause, asked) = (holders.isEmpty ? min(2 * pause, Self.longestPause) : 1, 0)
                    let problem: String? =
                        holders.isEmpty
                        ? nil
                        : "\(settings.targetName) has the next transaction wait for a lock that \(holders); it goes on when that ends"
                    if problem != told { await take(back: &told, isOver: problem == nil) }
                    if let problem { await tell(problem, &told) }
                }
            }
        } catch {
            // Cancelled with the stream's end; nobody else knows whose words these are.
            let last = told
            await Task {
                var told = last
                await take(back: &told)
            }.value
            throw error
        }
    }

    private func tell(_ problem: String, _ told: inout String?) async {
        let isNew = told != problem
        // Told again where somebody else's words have taken its place, and are gone.
        guard state.tell(problem) else { return }
        told = problem
        if isNew { logger.warning("waiting", metadata: ["direction": "\(settings.name)", "problem": "\(problem)"]) }
        await write("problem = $2, updated_at = pg_catalog.clock_timestamp()", where: "problem IS NULL", problem)
    }

    /// - Parameter isOver: whether nothing takes its place.
    private func take(back told: inout String?, isOver: Bool = true) async {
        guard let problem = told else { return }
        told = nil
        state.takeBack(problem)
        if isOver { logger.notice("going on", metadata: ["direction": "\(settings.name)"]) }
        await write("problem = NULL, updated_at = pg_catalog.clock_timestamp()", where: "problem = $2", problem)
    }

    private func write(_ assignment: String, where condition: String, _ problem: String) async {
        var target = settings.target
        target.settings += [("synchronous_commit", "local"), ("statement_timeout", "5s")]
        _ = try? await PostgresConnection.with(target) { target in
            try await target.query(
                "UPDATE lindero.direction SET \(assignment) WHERE name = $1 AND \(condition)", [.text(settings.name), .text(problem)],
                parameterTypes: [OID.text, OID.text])
        }
    }

    /// - Returns: empty where nobody stands in the way; `nil` where the target does not say.
    private func holders() async -> String? {
        var target = settings.target
        target.settings.append((name: "statement_timeout", value: "5s"))
        let found = try? await PostgresConnection.with(target) { target in
            try await target.query(
                """
                SELECT DISTINCT held.pid::text, coalesce(a.usename, a.backend_type, 'another user'),
                       pg_catalog.date_trunc('second', a.xact_start)::text
                FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids($1::text::int)) held (pid)
                     LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = held.pid
                ORDER BY 3, 1 LIMIT 3
                """, [.text(processID)]
            ).rows
        }
        return found?.map { row in
            if row[0] == "0" { return "a prepared transaction holds (see pg_prepared_xacts)" }
            return "pid \(row[0] ?? "?") of \(row[1] ?? "?") holds" + (row[2].map { " (in a transaction since \($0))" } ?? "")
        }.joined(separator: ", ")
    }
}
