import PostgresClient
import ReplicationCore

/// Writes a sign of life into the source's WAL at a fixed interval and looks at the slot.
///
/// The heartbeat keeps lag true on an idle database and lets the slot move on when other databases write.
struct HeartbeatWriter: Sendable {
    let settings: DirectionSettings
    let state: DirectionState
    let source: PostgresConnection
    let worker: String

    /// Runs until cancelled.
    func run() async throws {
        let interval = settings.replication.heartbeatMilliseconds
        var sequence: Int64 = 0
        while !Task.isCancelled {
            if interval > 0 {
                sequence += 1
                let number = sequence
                state.withLag { $0.handleHeartbeatSent(sequence: number, atMilliseconds: Monotonic.milliseconds()) }
                try await beat(sequence)
            }
            try await lookAtSlot()
            try? await Task.sleep(for: .milliseconds(interval > 0 ? interval : 1_000))
        }
    }

    /// Transactional, so that it is flushed at once and comes through the stream in commit order.
    private func beat(_ sequence: Int64) async throws {
        _ = try await source.query(
            "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)",
            [.text(Heartbeat.messagePrefix), .text(Heartbeat.content(sequence: sequence, worker: worker))],
            parameterTypes: [OID.text, OID.text])
    }

    private func lookAtSlot() async throws {
        let result = try await source.query(
            """
            SELECT pg_catalog.pg_current_wal_flush_lsn()::text, active::text, safe_wal_size::text, wal_status,
                   (pg_catalog.pg_current_wal_lsn() - restart_lsn)::text
            FROM pg_catalog.pg_replication_slots WHERE slot_name = $1
            """, [.text(settings.slot)])
        guard let row = result.rows.first else { return }
        var health = SlotHealth()
        health.isActive = row[1] == "true"
        health.safeWALBytes = row[2].flatMap { Int64($0) }
        health.status = row[3]
        health.retainedWALBytes = row[4].flatMap { UInt64($0) }
        let lsn = row[0].flatMap { LSN($0) } ?? .zero
        state.note(source: lsn, slot: health, atMilliseconds: Monotonic.milliseconds())
    }
}
