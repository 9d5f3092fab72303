/// Pauses between questions to a database that will have news soon: short at first, then so long that many who wait do no
/// harm.
public struct WaitSchedule: Sendable {
    public static let longestMilliseconds = 25
    /// After so long nobody hurries.
    public static let patientMilliseconds = 250

    private var pauseMilliseconds = 1
    private var waitedMilliseconds = 0

    public init() {}

    public mutating func nextMilliseconds() -> Int {
        let pause = waitedMilliseconds < 5_000 ? pauseMilliseconds : Self.patientMilliseconds
        pauseMilliseconds = min(Self.longestMilliseconds, pauseMilliseconds * 2)
        waitedMilliseconds += pause
        return pause
    }
}
