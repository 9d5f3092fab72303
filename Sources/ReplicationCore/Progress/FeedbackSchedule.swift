/// Decides when the server is told how far we are. No clock inside: times are the caller's monotonic milliseconds.
public struct FeedbackSchedule: Sendable {
    /// Progress is reported at most this often, unless the server asks.
    public static let progressIntervalMilliseconds: Int64 = 100

    private let intervalMilliseconds: Int64
    private var sentAtMilliseconds: Int64
    private var sentLSN = LSN.zero
    private var isRequested = false

    /// A sixth of the timeout, as PostgreSQL's own receiver keeps by default (`wal_receiver_status_interval`): the server's
    /// own question, at half of it, waits behind all that it has sent of a backlog; and a machine that is short of time lets
    /// us be late by seconds.
    ///
    /// - Parameter senderTimeoutMilliseconds: the server's `wal_sender_timeout`; 0 means that it has none.
    public init(senderTimeoutMilliseconds: Int, startedAtMilliseconds: Int64) {
        intervalMilliseconds = senderTimeoutMilliseconds > 0 ? Int64(senderTimeoutMilliseconds) / 6 : 10_000
        sentAtMilliseconds = startedAtMilliseconds
    }

    /// The server asked for an answer at once.
    public mutating func handleReplyRequest() { isRequested = true }

    /// Whether a status is due now.
    public func isDue(durableLSN: LSN, atMilliseconds now: Int64) -> Bool {
        let elapsed = now - sentAtMilliseconds
        return isRequested || elapsed >= intervalMilliseconds || elapsed < 0
            || durableLSN > sentLSN && elapsed >= Self.progressIntervalMilliseconds
    }

    public mutating func handleSent(durableLSN: LSN, atMilliseconds now: Int64) {
        sentAtMilliseconds = now
        sentLSN = max(sentLSN, durableLSN)
        isRequested = false
    }
}
