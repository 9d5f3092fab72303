/// Lag of one direction from heartbeats and positions. Times are the worker's own monotonic milliseconds, so the
/// servers' clocks may be apart.
public struct LagMeter: Sendable {
    /// Heartbeats that are still on their way; older ones are forgotten once a newer one was seen.
    static let pendingLimit = 4_096
    static let sampleLimit = 1_024

    private var pending: [(sequence: Int64, sentAtMilliseconds: Int64)] = []
    private var samples: [Int64] = []
    private var nextSample = 0
    private var lastSeen: (sentAtMilliseconds: Int64, latencyMilliseconds: Int64)?
    private var lastLag: (bytes: UInt64, atMilliseconds: Int64)?
    private var shrinkBytesPerSecond = 0.0
    /// While a stream works off what was there before it: commit time of what the target shows, by the source's clock.
    private var backlog: (isOpen: Bool, shown: PostgresTime?) = (false, nil)
    private var sourceClock: (time: PostgresTime, atMilliseconds: Int64)?
    private var rows: (count: Int, atMilliseconds: Int64)?
    private var hasStreamed = false
    private var stoodSinceMilliseconds: Int64?

    public private(set) var lagBytes: UInt64 = 0
    /// Smoothed over a few seconds.
    public private(set) var rowsPerSecond = 0.0

    public init() {}

    /// Whether no stream runs any more, after one did.
    public var isStanding: Bool { stoodSinceMilliseconds != nil }

    /// A stream runs, or none does: from then on nothing arrives, nor is any heartbeat sent that would tell.
    public mutating func handleStreaming(_ isStreaming: Bool, atMilliseconds now: Int64) {
        if isStreaming {
            hasStreamed = true
            stoodSinceMilliseconds = nil
        } else if hasStreamed, stoodSinceMilliseconds == nil {
            stoodSinceMilliseconds = now
        }
    }

    /// A heartbeat is about to be written into the source.
    public mutating func handleHeartbeatSent(sequence: Int64, atMilliseconds now: Int64) {
        if pending.count >= Self.pendingLimit {
            // Keep the oldest: it is the one that tells how long nothing has come through.
            pending.remove(at: 1)
        }
        pending.append((sequence, now))
    }

    /// A heartbeat has become visible on the target.
    public mutating func handleHeartbeatSeen(sequence: Int64, atMilliseconds now: Int64) {
        guard let index = pending.firstIndex(where: { $0.sequence == sequence }) else { return }
        let sentAt = pending[index].sentAtMilliseconds
        pending.removeSubrange(...index)
        let latency = max(0, now - sentAt)
        lastSeen = (sentAt, latency)
        if samples.count < Self.sampleLimit {
            samples.append(latency)
        } else {
            samples[nextSample] = latency
            nextSample = (nextSample + 1) % Self.sampleLimit
        }
    }

    /// A stream begins; until `handleCaughtUp` the age of what it brings is the lag, whatever is seen on the way.
    ///
    /// Heartbeats of the stream before that have not been seen come with this one.
    /// - Parameter shown: commit time of what the target shows already, if known.
    public mutating func handleStreamStart(shown: PostgresTime?) { backlog = (true, shown) }

    /// A transaction has become visible on the target.
    public mutating func handleApplied(_ commitTime: PostgresTime) {
        if backlog.isOpen { backlog.shown = commitTime }
    }

    /// The source's clock, read just now.
    public mutating func handleSourceClock(_ time: PostgresTime, atMilliseconds now: Int64) { sourceClock = (time, now) }

    /// Everything from before the stream is on the target.
    public mutating func handleCaughtUp() { backlog = (false, nil) }

    private func backlogMilliseconds(at now: Int64) -> Int64? {
        guard let shown = backlog.shown, let clock = sourceClock else { return nil }
        return (clock.time.microseconds - shown.microseconds) / 1_000 + now - clock.atMilliseconds
    }

    public mutating func handlePositions(sourceLSN: LSN, appliedLSN: LSN, atMilliseconds now: Int64) {
        lagBytes = sourceLSN.lagBytes(behind: appliedLSN)
        if let last = lastLag, now > last.atMilliseconds {
            let seconds = Double(now - last.atMilliseconds) / 1_000
            let shrink = (Double(last.bytes) - Double(lagBytes)) / seconds
            shrinkBytesPerSecond += (shrink - shrinkBytesPerSecond) * min(1, seconds / 3)
        }
        lastLag = (lagBytes, now)
    }

    /// - Parameter total: changes applied since the worker started.
    public mutating func handleRows(total: Int, atMilliseconds now: Int64) {
        defer { rows = (total, now) }
        guard let last = rows, now > last.atMilliseconds else { return }
        let seconds = Double(now - last.atMilliseconds) / 1_000
        let rate = Double(max(0, total - last.count)) / seconds
        rowsPerSecond += (rate - rowsPerSecond) * min(1, seconds / 2)
    }

    /// Seconds that the target is behind: the age of the oldest heartbeat it has not shown yet, or the time the
    /// newest took; of a backlog, the age of what is shown; while no stream runs, at least since when. `nil` before the first.
    public func lagSeconds(atMilliseconds now: Int64) -> Double? {
        let waiting = pending.first.map { now - $0.sentAtMilliseconds }
        let seen = lastSeen?.latencyMilliseconds
        let stood = stoodSinceMilliseconds.map { now - $0 }
        guard let lag = [waiting, seen, stood, backlogMilliseconds(at: now)].compactMap({ $0 }).max() else { return nil }
        return Double(max(0, lag)) / 1_000
    }

    /// Time from commit to visible, in milliseconds, at a fraction (0.5, 0.95, …) of the recent heartbeats.
    public func endToEndMilliseconds(at fraction: Double) -> Double? {
        guard !samples.isEmpty else { return nil }
        let sorted = samples.sorted()
        return Double(sorted[min(sorted.count - 1, Int(fraction * Double(sorted.count)))])
    }

    /// Seconds until caught up at the present rate; 0 when there, `nil` when the lag does not shrink or no stream runs.
    public var etaSeconds: Double? {
        if isStanding { return nil }
        if lagBytes == 0 { return 0 }
        return shrinkBytesPerSecond > 0 ? Double(lagBytes) / shrinkBytesPerSecond : nil
    }
}
