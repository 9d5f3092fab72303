import Foundation

/// What every deadline is multiplied by: `LINDERO_TEST_PATIENCE`, for machines with more tests than cores.
private let patience =
    ProcessInfo.processInfo.environment["LINDERO_TEST_PATIENCE"].flatMap { Double($0) }.map { max(1, $0) } ?? 1

/// A limit for what must not take for ever, on machines with more tests than cores, too.
public func patient(_ limit: Duration) -> Duration { limit * patience }

/// A condition that did not come true in time.
public struct TimedOut: Error, CustomStringConvertible {
    public let what: String
    public let seconds: Double
    public var description: String { "Waited \(seconds) s in vain until \(what)." }
}

/// Polls a condition until it holds, the longer it lasts the less often: asking takes time from what is waited for. The
/// deadline only says when to give up.
public func waitUntil(
    _ what: String, timeoutSeconds: Double = 30, _ condition: () async throws -> Bool
) async throws {
    let timeoutSeconds = timeoutSeconds * patience
    let start = ContinuousClock.now
    while true {
        if try await condition() { return }
        let waited = start.duration(to: .now)
        guard waited < .seconds(timeoutSeconds) else { throw TimedOut(what: what, seconds: timeoutSeconds) }
        try await Task.sleep(for: min(.milliseconds(100), max(.milliseconds(10), waited / 10)))
    }
}
