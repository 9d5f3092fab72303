import Synchronization

/// Holds all jobs together under so many bytes a second of what COPY sends. What the source reads for them and does not send,
/// dead rows and columns that stay behind, comes on top.
final class CopyRate: Sendable {
    let bytesPerSecond: Int
    /// When everything let through so far is paid for, in milliseconds.
    private let paidUntil: Mutex<Double>

    /// - Parameter bytesPerSecond: 0 is no limit.
    init(bytesPerSecond: Int) {
        self.bytesPerSecond = bytesPerSecond
        paidUntil = Mutex(Double(Monotonic.milliseconds()))
    }

    /// Small enough that a slow copy flows and does not jump.
    var pieceBytes: Int { bytesPerSecond == 0 ? 512 << 10 : max(8 << 10, min(512 << 10, bytesPerSecond / 10)) }

    /// Waits until so many more bytes are within the limit. The socket fills meanwhile, and the server waits too.
    func pay(_ bytes: Int) async throws {
        guard bytesPerSecond > 0 else { return }
        let now = Double(Monotonic.milliseconds())
        let end = paidUntil.withLock { until in
            until = max(until, now) + Double(bytes) * 1_000 / Double(bytesPerSecond)
            return until
        }
        if end > now { try await Task.sleep(for: .milliseconds(Int64((end - now).rounded(.up)))) }
    }
}
