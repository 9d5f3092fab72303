/// A clock along one database's stream: commit times, pushed forward where they would contradict causality.
///
/// It gives every local transaction an *effective time*: its commit time, or a microsecond more than anything that the
/// database had committed or received before, whichever is later. So effective times grow along a stream, and a write
/// that has seen another one is later than it, however far the servers' clocks are apart and whenever they step back.
/// A function of the stream alone: read again from a recorded position with the recorded time, it gives the same times.
public struct HybridClock: Sendable, Equatable {
    /// The latest effective time so far.
    public private(set) var time: PostgresTime

    public init(time: PostgresTime = PostgresTime(microseconds: 0)) { self.time = time }

    /// The effective time of the next local transaction.
    public mutating func stamp(_ commitTime: PostgresTime) -> PostgresTime {
        time = max(commitTime, PostgresTime(microseconds: time.microseconds + 1))
        return time
    }

    /// Something that was stamped elsewhere has been committed here.
    public mutating func observe(_ effectiveTime: PostgresTime) { time = max(time, effectiveTime) }
}
