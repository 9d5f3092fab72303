import ReplicationCore
import Synchronization

/// The last few minutes of every direction, one sample a second, for the page's curves.
final class LagHistory: Sendable {
    static let sampleLimit = 180

    struct Sample: Sendable, Equatable {
        var lagSeconds: Double?
        var rowsPerSecond: Double?
    }

    private let values = Mutex<[String: [Sample]]>([:])

    func add(_ snapshot: StatusSnapshot) {
        values.withLock { values in
            for direction in snapshot.directions {
                var samples = values[direction.name] ?? []
                if samples.count >= Self.sampleLimit { samples.removeFirst(samples.count - Self.sampleLimit + 1) }
                samples.append(Sample(lagSeconds: direction.lagSeconds, rowsPerSecond: direction.rowsPerSecond))
                values[direction.name] = samples
            }
        }
    }

    /// Samples by direction, oldest first.
    func samples() -> [String: [Sample]] { values.withLock { $0 } }
}
