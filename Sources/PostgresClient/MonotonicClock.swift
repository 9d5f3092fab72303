import Glibc

/// Time that nobody sets, and that goes on while the machine sleeps, as that of `ContinuousClock`, which is asked here without the
/// arithmetic of 128 bits between a moment and a number: a small transaction asks a dozen times.
public enum MonotonicClock {
    /// Nanoseconds since the machine started.
    public static func nanoseconds() -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_BOOTTIME, &now)
        return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
    }
}
