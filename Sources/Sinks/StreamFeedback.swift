import PostgresClient
import ReplicationCore
import Replicator

/// Tells the server how far the output is, often enough that it doesn't give a slow reader up.
actor StreamFeedback {
    private let stream: ReplicationConnection
    private var schedule: FeedbackSchedule
    private var written: LSN

    init(stream: ReplicationConnection, senderTimeoutMilliseconds: Int, start: LSN) {
        self.stream = stream
        schedule = FeedbackSchedule(
            senderTimeoutMilliseconds: senderTimeoutMilliseconds, startedAtMilliseconds: Monotonic.milliseconds())
        written = start
    }

    /// Everything before this position has been written; the server may forget it.
    func note(written lsn: LSN) { written = max(written, lsn) }
    func handleReplyRequest() { schedule.handleReplyRequest() }

    /// Sends a status if one is due, or wanted.
    ///
    /// - Parameter asksForReply: the server then says how far it has read, even when there is nothing to send.
    func report(asksForReply: Bool = false) async throws {
        let lsn = written
        guard asksForReply || schedule.isDue(durableLSN: lsn, atMilliseconds: Monotonic.milliseconds()) else { return }
        schedule.handleSent(durableLSN: lsn, atMilliseconds: Monotonic.milliseconds())
        try await stream.sendStatus(
            received: lsn.rawValue, flushed: lsn.rawValue, applied: lsn.rawValue, replyRequested: asksForReply)
    }
}
