/// The clock of waits and lag: never set, never jumps.
public enum Monotonic {
    private static let start = ContinuousClock.now

    /// Milliseconds since the process first asked.
    public static func milliseconds() -> Int64 {
        let elapsed = start.duration(to: .now).components
        return elapsed.seconds * 1_000 + elapsed.attoseconds / 1_000_000_000_000_000
    }
}
