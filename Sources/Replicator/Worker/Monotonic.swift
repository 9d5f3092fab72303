import PostgresClient

/// The clock of waits and lag: never set, never jumps.
public enum Monotonic {
    private static let start = MonotonicClock.nanoseconds()

    /// Milliseconds since the process first asked.
    public static func milliseconds() -> Int64 { (MonotonicClock.nanoseconds() - start) / 1_000_000 }
}
