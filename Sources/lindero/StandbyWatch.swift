import Logging
import ReplicationCore
import Synchronization

/// Measures the standbys that PostgreSQL itself keeps, beside the worker's own directions.
final class StandbyWatch: Sendable {
    private static let betweenMilliseconds = 2_000

    private let directions: [LagDirection]
    private let logger: Logger
    private let known: Mutex<[StandbyStatus]>

    init(_ directions: [LagDirection], logger: Logger) {
        self.directions = directions
        self.logger = logger
        known = Mutex(directions.map { StandbyStatus(name: $0.name, state: "unknown") })
    }

    /// What the last look showed.
    var statuses: [StandbyStatus] { known.withLock { $0 } }

    /// Runs until cancelled. A standby that cannot be read is no reason for the worker to stop.
    func run() async {
        guard !directions.isEmpty else { return }
        for direction in directions {
            logger.info(
                "standby is measured, nothing is copied to it", metadata: ["direction": "\(direction.name)"])
        }
        while !Task.isCancelled {
            for index in directions.indices { await look(at: index) }
            try? await Task.sleep(for: .milliseconds(Self.betweenMilliseconds))
        }
    }

    private func look(at index: Int) async {
        let direction = directions[index]
        var status = StandbyStatus(name: direction.name, state: "unknown")
        var problem: String?
        do {
            let report = try await LagReader(direction: direction).read()
            status.state = report.state == .notRunning ? "disconnected" : report.state.rawValue
            status.replayedLSN = report.appliedLSN
            status.lagBytes = report.lagBytes
            status.lagSeconds = report.lagSeconds
            problem = report.problem
        } catch {
            problem = "\(error)"
        }
        if Task.isCancelled { return }
        let last = known.withLock { known in
            defer { known[index] = status }
            return known[index].state
        }
        guard last != status.state else { return }
        var metadata: Logger.Metadata = ["direction": "\(status.name)", "state": "\(status.state)"]
        if let bytes = status.lagBytes { metadata["lagBytes"] = "\(bytes)" }
        if let seconds = status.lagSeconds { metadata["lagSeconds"] = "\(seconds)" }
        if let problem { metadata["reason"] = "\(problem)" }
        logger.log(level: status.state == "streaming" ? .info : .warning, "standby", metadata: metadata)
    }
}
