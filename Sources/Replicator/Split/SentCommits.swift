import PostgresClient
import ReplicationCore

/// Transactions that the source has sent and may not show yet: a commit is sent once it is logged, and seen by others only after the
/// last steps of its session, or once a synchronous standby has it. Whoever asks sooner hears how it was before.
struct SentCommits: Sendable {
    private static let longestMilliseconds: Int64 = 30_000
    /// How many are kept unasked.
    private static let enough = 10_000

    private var unseen: Set<UInt32> = []

    var isFull: Bool { unseen.count >= Self.enough }

    mutating func note(_ group: SplitGroup) {
        for item in group.items {
            for span in item.chunk.chunk.transactions { unseen.insert(span.xid) }
        }
    }

    /// Returns once the source shows all of them.
    ///
    /// - Throws: `PostgresError`, `.closed` where that takes too long: the direction begins again then.
    mutating func settle(on source: PostgresConnection) async throws {
        var schedule = WaitSchedule()
        let end = Monotonic.milliseconds() + Self.longestMilliseconds
        while !unseen.isEmpty {
            let snapshot = try await source.query("SELECT pg_catalog.pg_current_snapshot()::text").firstValue
            guard let hidden = snapshot.flatMap({ Self.hidden(unseen, from: $0) }) else {
                throw PostgresError.protocolViolation("a snapshot that can't be read")
            }
            unseen = hidden
            if hidden.isEmpty { return }
            guard Monotonic.milliseconds() < end else {
                throw PostgresError.closed(
                    "the source has sent commits that it does not show for \(Self.longestMilliseconds / 1_000) s; does it wait for a synchronous standby?")
            }
            try await Task.sleep(for: .milliseconds(schedule.nextMilliseconds()))
        }
    }

    /// Those of some transactions that a snapshot does not see; `nil` if it is none.
    ///
    /// - Parameter snapshot: `xmin:xmax:xip,…` with 64 bits each, as `pg_snapshot` is written; transactions come with the lower 32.
    static func hidden(_ xids: Set<UInt32>, from snapshot: String) -> Set<UInt32>? {
        let parts = snapshot.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, let end = UInt64(parts[1]) else { return nil }
        let running = parts[2].split(separator: ",").map { UInt64($0) }
        guard running.allSatisfy({ $0 != nil }) else { return nil }
        let open = Set(running.compactMap { $0.map { UInt32(truncatingIfNeeded: $0) } })
        // Numbers go round: later is what is less than half a round ahead.
        return xids.filter { open.contains($0) || Int32(bitPattern: $0 &- UInt32(truncatingIfNeeded: end)) >= 0 }
    }
}
