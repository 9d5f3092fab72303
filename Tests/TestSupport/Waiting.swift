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

/// Polls a condition every few milliseconds until it holds; the deadline only says when to give up.
public func waitUntil(
    _ what: String, timeoutSeconds: Double = 30, _ condition: () async throws -> Bool
) async throws {
    let timeoutSeconds = timeoutSeconds * patience
    let end = ContinuousClock.now.advanced(by: .seconds(timeoutSeconds))
    while true {
        if try await condition() { return }
        guard ContinuousClock.now < end else { throw TimedOut(what: what, seconds: timeoutSeconds) }
        try await Task.sleep(for: .milliseconds(10))
    }
}
