import PostgresClient
import ReplicationCore

/// Waits until a database shows what another had committed at a position of its log.
///
/// The position to wait for is `pg_current_wal_insert_lsn()`, asked on the writing server after the commit: the commit is
/// before it, even one that did not wait for the disk.
public struct LSNWait: Sendable {
    /// What tells how far a database is.
    public enum Place: Sendable, Equatable {
        /// The progress row of a direction, which commits together with the data.
        case direction(String)
        /// A physical standby's replay.
        case standby
    }

    public enum Outcome: Sendable, Equatable {
        case shown(LSN)
        /// How far it was at the end; `nil` when nothing tells.
        case timedOut(LSN?)
    }

    /// How long before the source is asked for a sign of life: what came after the last commit is only told with the next.
    public static let nudgeMilliseconds: Int64 = 15

    let place: Place
    let target: PostgresConnection

    public init(place: Place, target: PostgresConnection) {
        self.place = place
        self.target = target
    }

    /// - Parameter nudge: writes something small on the source, so that its position moves past what was asked for.
    public func wait(
        for lsn: LSN, timeoutMilliseconds: Int, nudge: (() async throws -> Void)? = nil
    ) async throws -> Outcome {
        let start = Monotonic.milliseconds()
        var schedule = WaitSchedule()
        var hasNudged = nudge == nil || place == .standby
        while true {
            let shown = try await position()
            if let shown, shown >= lsn { return .shown(shown) }
            let waited = Monotonic.milliseconds() - start
            guard waited < timeoutMilliseconds else { return .timedOut(shown) }
            if !hasNudged, waited >= Self.nudgeMilliseconds {
                hasNudged = true
                try await nudge?()
            }
            let pause = min(Int64(schedule.nextMilliseconds()), Int64(timeoutMilliseconds) - waited)
            try await Task.sleep(for: .milliseconds(pause))
        }
    }

    /// How far the target is; `nil` when nothing tells.
    public func position() async throws -> LSN? {
        switch place {
        case .direction(let name):
            // Where the copy is not complete the slot's place is known, and what lies before it is not all there.
            let result = try await target.query(
                """
                SELECT greatest(applied_lsn, start_lsn)::text FROM lindero.direction
                WHERE name = $1 AND (prepared_at IS NOT NULL OR applied_lsn IS NOT NULL)
                """, [.text(name)])
            return result.firstValue.flatMap { LSN($0) }
        case .standby:
            return try await target.query("SELECT pg_catalog.pg_last_wal_replay_lsn()::text").firstValue.flatMap { LSN($0) }
        }
    }
}

/// A sign of life in the source's log that no worker takes for its own.
public enum Marker {
    /// What is to be waited for: everything that the source shows by now is before it. Insert, not write or flush: a commit
    /// that did not wait for the disk is visible, too.
    public static func position(on source: PostgresConnection) async throws -> LSN? {
        try await source.query("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").firstValue.flatMap { LSN($0) }
    }

    /// Never waits for standbys: what it is for is in the log as soon as it is written.
    public static func write(on source: PostgresConnection) async throws {
        _ = try await source.query(
            """
            SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)
            FROM (SELECT pg_catalog.set_config('synchronous_commit', 'local', true) OFFSET 0) AS set(value)
            WHERE value IS NOT NULL
            """,
            [.text(Heartbeat.messagePrefix), .text(Heartbeat.content(sequence: 0, worker: Heartbeat.markerWorker))],
            parameterTypes: [OID.text, OID.text])
    }
}
