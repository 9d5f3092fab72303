import PostgresClient
import ReplicationCore

/// What a worker's own sign of life tells when the target shows it: how long the way is, and that the backlog has ended.
struct HeartbeatArrival: Sendable {
    let settings: DirectionSettings
    let state: DirectionState
    /// The last one that was sent before the stream began: a later one has everything of the backlog before it.
    let backlogSequence: Int64

    /// - Returns: whether the direction has just caught up, which is to be noted on the target.
    func handle(_ beat: Heartbeat) -> Bool {
        state.withLag { $0.handleHeartbeatSeen(sequence: beat.sequence, atMilliseconds: Monotonic.milliseconds()) }
        guard state.phase == .catchingUp, beat.sequence > backlogSequence else { return false }
        state.set(.streaming)
        state.withLag { $0.handleCaughtUp() }
        return true
    }

    func noteCaughtUp(on target: PostgresConnection) async throws {
        try await DirectionRecord(connection: target, settings: settings).note(state: .streaming, problem: nil)
    }
}
