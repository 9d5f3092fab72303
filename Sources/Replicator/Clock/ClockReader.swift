import PostgresClient
import ReplicationCore

/// Compares the clocks of two servers through this process's own steady one, which need not be right.
public enum ClockReader {
    /// Readings of each server; the best of them counts.
    static let readings = 8

    /// How far the target's clock is ahead of the source's.
    public static func offset(
        source: PostgresConnection, target: PostgresConnection
    ) async throws(PostgresError) -> ClockOffset? {
        let start = ContinuousClock.now
        var estimates = [ClockEstimate(), ClockEstimate()]
        // In turn, so that a clock that is being set while we look shows as little as it can.
        for _ in 0..<readings {
            for (index, connection) in [source, target].enumerated() {
                let sentAt = microseconds(ContinuousClock.now - start)
                let result = try await connection.query(sql)
                let receivedAt = microseconds(ContinuousClock.now - start)
                guard let server = result.firstValue.flatMap({ Int64($0) }) else { continue }
                estimates[index].add(server: server, sentAt: sentAt, receivedAt: receivedAt)
            }
        }
        return ClockOffset(of: estimates[1], over: estimates[0])
    }

    private static let sql = "SELECT \(PostgresTime.sql("pg_catalog.clock_timestamp()"))"

    private static func microseconds(_ duration: Duration) -> Int64 {
        duration.components.seconds * 1_000_000 + duration.components.attoseconds / 1_000_000_000_000
    }
}

/// Whether the clocks are near enough for what the configuration lets them decide.
public struct ClockCheck: Sendable {
    public let source: String
    public let target: String
    public let limitMilliseconds: Int
    /// Whether a column has `policy: last_write`.
    public let decides: Bool

    public init(source: String, target: String, gates: Gates, policy: OwnershipPolicy) {
        self.source = source
        self.target = target
        limitMilliseconds = gates.maxClockOffsetMilliseconds
        decides = policy.tables.values.contains { table in
            table.columns.values.contains { $0 == .shared(SharedColumnRule(policy: .lastWrite)) }
        }
    }

    /// Refuses to let the later write win by clocks that are surely too far apart.
    ///
    /// - Throws: `ReplicationFailure`, a blocker.
    public func require(_ offset: ClockOffset) throws(ReplicationFailure) {
        guard decides, offset.verdict(limitMilliseconds: limitMilliseconds) == .past else { return }
        throw ReplicationFailure(
            .clockOffset,
            "\(offset.words(source: source, target: target)); gates.max_clock_offset allows \(limitMilliseconds) ms, and "
                + "policy last_write would let the wrong write win.",
            nextStep: "Run an NTP client (chrony) on both servers, then start again; or give those columns another policy.",
            isBlocker: true)
    }
}
