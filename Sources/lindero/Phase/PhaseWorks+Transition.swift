import PostgresClient
import ReplicationCore
import Replicator

/// What lies around the time in which services write on both sides.
extension PhaseWorks {
    /// Both directions, as lindero.yaml declares them.
    private func split() async throws -> SplitSettings {
        guard case .split(let settings)? = try await WorkerPlan.make(loaded.running(.split)).tasks.first else {
            throw CommandFailure(
                "phase", "There are no two directions.", place: loaded.path, nextStep: "Run `lindero check`.", exit: .blocked)
        }
        return settings
    }

    private func transition() async throws -> SplitTransition {
        SplitTransition(settings: try await split(), logger: LineLogHandler.logger())
    }

    func widenIdentity() async throws -> Figures {
        let transition = try await transition()
        return [("tables", .integer(Int64(try await patiently { try await transition.widen() })))]
    }

    /// Once the worker runs what needs less.
    func restoreIdentity() async throws -> Figures {
        let ownership: OwnershipPolicy? =
            loaded.configuration.backend == .split ? try await pair.origin.connected { try await loaded.ownership($0) } : nil
        return [("tables", .integer(Int64(try await transition().restoreIdentity(for: ownership))))]
    }

    /// Until each side shows all that the other had committed when this began, and knows that of the other.
    func drain() async throws -> Figures {
        let began = Monotonic.milliseconds()
        let transition = try await transition()
        try await patiently { try await transition.drain { bytes in line.show(bytes.both.map(PlainText.bytes).joined(separator: " and ") + " on their way") } }
        return [("milliseconds", .integer(Monotonic.milliseconds() - began))]
    }

    func privateHome() async throws -> Figures {
        let transition = try await transition()
        let count = try await patiently {
            try await transition.bringPrivateColumnsHome { looked, written in
                line.show("\(PlainText.count(looked)) rows looked at, \(PlainText.count(written)) written")
            }
        }
        return [("rows", .integer(Int64(count)))]
    }

    func endSplit() async throws -> Figures {
        let emptied = try await SplitEnd(settings: try await split(), logger: LineLogHandler.logger()).run()
        return emptied.isEmpty ? [] : [("copiedAnew", .texts(emptied.map(\.description)))]
    }

    /// A direction that stands still may get on once a worker runs again; the person is told meanwhile.
    private func patiently<Result>(_ body: () async throws -> Result) async throws -> Result {
        while true {
            do {
                return try await body()
            } catch let error as SplitDrainError {
                guard case .stuck = error else { throw error }
                try await wait(for: "\(error)")
            }
        }
    }
}
