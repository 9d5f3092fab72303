import PostgresClient
import ReplicationCore

/// The source's catalog, as of what its stream has told.
///
/// A commit is sent once it is logged, and shows a moment later; where it waits for a standby, as long as that takes.
struct StreamedCatalog {
    let source: PostgresConnection
    /// How long what runs there is waited for. It may have nothing to do with the table.
    var limitMilliseconds: Int64 = 10_000

    private static let lookMilliseconds = 50
    /// Transactions that have a number, by the lock that each holds on its own until it shows. A snapshot lists none that is newer than
    /// the last that ended. One that is prepared ends when somebody says so.
    private static let running = "FROM pg_catalog.pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted AND pid IS NOT NULL"

    /// The table of a mismatch as it is once it explains what the stream told, or once everything that was under way has ended and it
    /// does not: then it was altered again since.
    ///
    /// - Parameter isOver: whether nobody wants to know any more.
    /// - Returns: `nil` where there is none.
    func table(of mismatch: SchemaMismatch, isOver: () -> Bool) async throws -> TableDescription? {
        let start = Monotonic.milliseconds()
        let underWay = try await source.query("SELECT pg_catalog.array_agg(transactionid)::text \(Self.running)").firstValue
        while true {
            let isSettled = try await hasEnded(underWay)
            let table = try await MendingSQL.table(mismatch.table, on: source)
            let isExplained = mismatch.problems.allSatisfy { MendingSQL.explains($0, source: table) }
            if isSettled || isExplained || isOver() || Monotonic.milliseconds() - start > limitMilliseconds { return table }
            try await Task.sleep(for: .milliseconds(Self.lookMilliseconds))
        }
    }

    private func hasEnded(_ underWay: String?) async throws -> Bool {
        guard let underWay else { return true }
        return try await source.query(
            "SELECT 1 \(Self.running) AND transactionid::text = ANY ($1::text[])", [.text(underWay)]
        ).rowCount == 0
    }
}
