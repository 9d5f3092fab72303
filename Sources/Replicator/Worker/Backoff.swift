/// Waits between attempts: doubling, bounded, with jitter so that several workers don't come at once.
struct Backoff: Sendable {
    static let firstMilliseconds = 100
    static let longestMilliseconds = 10_000

    private var attempts = 0

    /// The next wait: half of it fixed, half random.
    mutating func nextMilliseconds(random: (ClosedRange<Int>) -> Int = { Int.random(in: $0) }) -> Int {
        let full = min(Self.longestMilliseconds, Self.firstMilliseconds << min(attempts, 16))
        attempts += 1
        return full / 2 + random(0...(full / 2))
    }

    /// After something worked.
    mutating func reset() { attempts = 0 }
}
