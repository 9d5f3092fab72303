import PostgresClient
import ReplicationCore

/// Waits until what one database has committed is visible in the other.
struct MarkerWait: Sendable {
    /// The direction of the changes.
    let direction: String
    let source: PostgresConnection
    let target: PostgresConnection
    /// How long the target may stand still.
    var stillMilliseconds = 30_000

    /// Returns once the target shows everything that the source shows now.
    ///
    /// - Returns: the source's position.
    func pass() async throws -> LSN {
        let lsn = try await Marker.position(on: source) ?? .zero
        try await wait(for: lsn)
        return lsn
    }

    private func wait(for lsn: LSN) async throws {
        var shown: LSN?
        while true {
            let wait = LSNWait(place: .direction(direction), target: target)
            let outcome = try await wait.wait(for: lsn, timeoutMilliseconds: stillMilliseconds) {
                try await Marker.write(on: source)
            }
            switch outcome {
            case .shown: return
            case .timedOut(let now):
                guard let now, now > shown ?? .zero else {
                    throw VerifyError.notCaughtUp(direction: direction, waitedFor: lsn, shown: now)
                }
                shown = now
            }
        }
    }
}
