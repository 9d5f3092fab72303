import ReplicationCore

/// How long a transaction that still runs at the source may stay open on the target: until nothing more of it has come for
/// a while, or a heartbeat has waited that long for its end, so that it neither holds rows for hours nor makes the lag untrue.
struct EarlyPatience {
    static let limitMilliseconds: Int64 = 3_000
    private var messageCount = 0
    private var sinceMilliseconds: Int64?

    /// - Parameter isHeldUp: whether more may have come, and waits to be read.
    mutating func isOver(_ early: EarlyReplay?, isHeldUp: Bool, atMilliseconds now: Int64) -> Bool {
        guard let early, early.xid != nil else {
            sinceMilliseconds = nil
            return false
        }
        let isNew = (early.messageCount != messageCount || isHeldUp) && !early.holdsHeartbeat
        messageCount = early.messageCount
        guard let since = sinceMilliseconds, !isNew else {
            sinceMilliseconds = now
            return false
        }
        return now - since >= Self.limitMilliseconds
    }
}
