import PostgresClient
import ReplicationCore

/// How far the source is, and what a direction's slot holds back there.
struct SlotLook: Sendable {
    let settings: DirectionSettings
    let state: DirectionState

    /// Notes it in the direction's state.
    ///
    /// - Returns: what the source has on its disk; `nil` without a slot.
    func read(_ source: PostgresConnection) async throws -> LSN? {
        let result = try await source.query(
            """
            SELECT pg_catalog.pg_current_wal_flush_lsn()::text, active::text, safe_wal_size::text, wal_status,
                   (pg_catalog.pg_current_wal_lsn() - restart_lsn)::text, \(PostgresTime.sql("pg_catalog.clock_timestamp()"))
            FROM pg_catalog.pg_replication_slots WHERE slot_name = $1
            """, [.text(settings.slot)])
        guard let row = result.rows.first else { return nil }
        var health = SlotHealth()
        health.isActive = row[1] == "true"
        health.safeWALBytes = row[2].flatMap { Int64($0) }
        health.status = row[3]
        health.retainedWALBytes = row[4].flatMap { UInt64($0) }
        let lsn = row[0].flatMap { LSN($0) } ?? .zero
        let now = Monotonic.milliseconds()
        state.note(source: lsn, slot: health, atMilliseconds: now)
        // Without heartbeats nothing would ever say that the backlog has ended.
        if settings.replication.heartbeatMilliseconds > 0, let clock = row[5].flatMap({ Int64($0) }) {
            state.withLag { $0.handleSourceClock(PostgresTime(microseconds: clock), atMilliseconds: now) }
        }
        return lsn
    }
}
