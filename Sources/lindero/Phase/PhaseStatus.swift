import PostgresClient
import ReplicationCore
import Replicator

/// The phase, the move that is under way, and whether going back is safe: for `lindero status`.
struct PhaseStatus: Sendable {
    var state: PhaseState
    /// The works of the last move that were begun.
    var entries: [PhaseStore.Entry] = []
    var leader: String?
    /// What workers run; `nil` when that can't be read.
    var running: [WorkerMode]?
    var safety: RollbackSafety
    /// What is not as the phase wants it.
    var warnings: [String] = []
    /// Whether the record could be read; else the file alone says where the system is.
    var isKnown = true
    /// What the file says, where that is something else.
    var fileBackend: Phase?
    /// The second database's name.
    var other: String?

    /// Never throws: an origin that can't be asked is told elsewhere.
    static func read(_ loaded: LoadedConfiguration) async -> PhaseStatus {
        var status = PhaseStatus(
            state: loaded.state, safety: await RollbackSafety.read(loaded))
        status.isKnown = loaded.phaseProblem == nil
        status.other = loaded.configuration.others.first?.name
        if let file = loaded.fileBackend, file != status.state.phase, status.state.move == nil {
            status.fileBackend = file
        }
        status.warnings = [loaded.phaseProblem].compactMap { $0 } + (await StrayService.words(loaded)) + (await StrayService.visitorWords(loaded))
        guard let origin = try? loaded.origin() else { return status }
        let found = try? await origin.connected { connection in
            let locks = PhaseLocks(connection: connection)
            return (try await PhaseStore(connection: connection).entries(), try await locks.leader(), try await locks.running())
        }
        if let found { (status.entries, status.leader, status.running) = found }
        return status
    }

    var lines: [String] {
        var lines = [isKnown ? "phase \(state.words)" : "phase not known; lindero.yaml says \(state.words)"]
        if let last = entries.last, state.move != nil {
            let who = leader.map { "led by \($0)" } ?? "nobody leads it: lindero \(command(last.record)) --execute goes on"
            lines.append("  since \(last.beganAt), \(who)")
        }
        if let running {
            let modes = running.isEmpty ? "none (lindero run)" : running.map(\.rawValue).joined(separator: ", ")
            lines.append("worker \(modes)" + (running.isEmpty || running == [state.worker] ? "" : ", to become \(state.worker.rawValue)"))
        }
        if let fileBackend {
            lines.append("lindero.yaml says backend: \(fileBackend.rawValue), which the phase overrides; write backend: \(state.phase.rawValue) there when it is to stay")
        }
        return lines + warnings.map { "warning: \($0)" } + ["safe to roll back: \(safety.words)"]
    }

    private func command(_ record: PhaseRecord) -> String {
        if state.splitToGiveUp != nil { return "rollback --lost \(other ?? "NAME")" }
        return state.move?.isForward == true ? "advance --to \(record.to.rawValue)" : "rollback"
    }

    var json: JSONValue {
        .object([
            ("phase", .text(state.phase.rawValue)), ("known", .bool(isKnown)), ("from", .optional(state.move?.from.rawValue)),
            ("to", .optional(state.move?.to.rawValue)), ("step", .optional(state.move == nil ? nil : state.current?.step.rawValue)),
            ("work", .optional(state.move == nil ? nil : state.current?.work.rawValue)), ("worker", .text(state.worker.rawValue)),
            ("running", running.map { .texts($0.map(\.rawValue)) } ?? .null), ("leader", .optional(leader)),
            ("warnings", .texts(warnings)),
            ("steps", .array(entries.map(\.json))),
        ])
    }
}
