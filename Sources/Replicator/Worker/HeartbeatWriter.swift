import PostgresClient
import ReplicationCore
import Synchronization

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
        var backlogEnd: LSN?
        while !Task.isCancelled {
            if interval > 0 {
                let sequence = HeartbeatSequence.next()
                state.withLag { $0.handleHeartbeatSent(sequence: sequence, atMilliseconds: Monotonic.milliseconds()) }
                try await beat(sequence)
            }
            let end = try await SlotLook(settings: settings, state: state).read(source)
            if interval == 0 {
                backlogEnd = backlogEnd ?? end
                try await noteCaughtUp(backlogEnd)
            }
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

    /// Without a sign of life nothing would tell that the backlog has ended but the position: everything that the source had
    /// when the stream began is on the target's disk.
    private func noteCaughtUp(_ backlogEnd: LSN?) async throws {
        guard let backlogEnd, state.phase == .catchingUp, state.durableLSN >= backlogEnd else { return }
        // The applier's connection is the applier's.
        try await PostgresConnection.with(settings.target) {
            try await DirectionRecord(connection: $0, settings: settings).note(state: .streaming, problem: nil)
        }
        state.set(.streaming)
        state.withLag { $0.handleCaughtUp() }
    }
}

/// Numbers the heartbeats of this process, over all its directions and streams: none is ever used twice, so an old one
/// that comes again with the backlog is known to be old.
enum HeartbeatSequence {
    private static let counter = Atomic<Int64>(0)

    static func next() -> Int64 { counter.add(1, ordering: .relaxed).newValue }
    static var last: Int64 { counter.load(ordering: .relaxed) }
}

extension PostgresTime {
    /// SQL for a time as this type counts it, as text.
    static func sql(_ time: String) -> String {
        "pg_catalog.trunc(extract(epoch FROM \(time) - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::bigint::text"
    }
}
