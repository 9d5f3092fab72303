import PostgresClient
import ReplicationCore
import Replicator

/// `lindero check` for the phase to come.
struct PhasePreflight: Sendable {
    let loaded: LoadedConfiguration
    let to: Phase

    func run() async -> PreflightReport {
        let ahead = loaded.running(WorkerMode(to))
        var connections: [String: ConnectionOptions] = [:]
        for database in (try? ahead.databases()) ?? [] { connections[database.name] = database.options }
        let plan = try? await WorkerPlan.make(ahead)
        let slots = Set(plan?.tasks.flatMap(\.directions).map(\.slot) ?? [])
        return await Preflight(configuration: ahead.configuration, connections: connections, ownSlots: slots).run()
    }
}

extension PreflightReport {
    /// The blockers as one failure; `nil` when nothing blocks.
    func failure(_ loaded: LoadedConfiguration) -> CommandFailure? {
        guard let first = blockers.first else { return nil }
        let messages = blockers.map { ($0.database.map { "\($0): " } ?? "") + $0.message }
        let fix = blockers.count == 1 ? first.fix : nil
        return CommandFailure(
            first.code.rawValue, messages.joined(separator: "\n"), place: loaded.path,
            nextStep: fix ?? "Mend them (`lindero advance` lists each with its fix), then run the same command again.", exit: .blocked)
    }
}
