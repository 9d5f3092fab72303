import PostgresClient
import ReplicationCore

/// Waits for transactions that a server has sent and may not show yet: a commit is sent once it is logged, and seen by others only
/// after the last steps of its session, or once a synchronous standby has it.
struct SentCommits: Sendable {
    /// Numbers of transactions go round: what a snapshot says of them is forgotten well before.
    private static let snapshotMilliseconds: Int64 = 60_000

    /// On the server that sends.
    let connection: PostgresConnection
    /// The last one that was taken, and when: what it shows is shown for good, so a backlog is seldom asked about.
    private var last: (snapshot: SourceSnapshot, atMilliseconds: Int64)?

    init(connection: PostgresConnection) { self.connection = connection }

    /// Returns once the server shows all changes of some pieces of its stream.
    ///
    /// - Parameter whileHidden: told now and then how long that takes already, in milliseconds; there is no limit but its error.
    mutating func settle(_ chunks: [ChangeChunk], whileHidden: (Int64) async throws -> Void) async throws {
        var xids: Set<UInt32> = []
        for chunk in chunks { for span in chunk.transactions where !span.changes.isEmpty { xids.insert(span.xid) } }
        try await settle(xids, whileHidden: whileHidden)
    }

    mutating func settle(_ xids: Set<UInt32>, whileHidden: (Int64) async throws -> Void) async throws {
        let start = Monotonic.milliseconds()
        var hidden = xids
        if let last, start - last.atMilliseconds < Self.snapshotMilliseconds { hidden = hidden.filter { !last.snapshot.shows($0) } }
        var schedule = WaitSchedule()
        while !hidden.isEmpty {
            let now = Monotonic.milliseconds()
            let text = try await connection.query("SELECT pg_catalog.pg_current_snapshot()::text").firstValue
            guard let snapshot = text.flatMap({ SourceSnapshot($0) }) else {
                throw PostgresError.protocolViolation("a snapshot that can't be read")
            }
            last = (snapshot, now)
            hidden = hidden.filter { !snapshot.shows($0) }
            if hidden.isEmpty { return }
            try await whileHidden(now - start)
            try await Task.sleep(for: .milliseconds(schedule.nextMilliseconds()))
        }
    }
}
