import ArgumentParser
import ReplicationCore
import Replicator

struct LagCommand: LinderoCommand {
    static let configuration = CommandConfiguration(
        commandName: "lag", abstract: "How far each direction is behind: bytes, seconds, slot, retained WAL.",
        discussion: """
            Reads the databases, so it works beside a worker, without one, and when one hangs. Seconds come from the \
            worker's heartbeats, so they are right on an idle database too, and grow when nothing arrives any more.

            Examples:
              lindero lag
              lindero lag --watch
              lindero lag --json
            """)

    static let watchMilliseconds = 1_000

    @OptionGroup var global: GlobalOptions
    @OptionGroup var adoption: AdoptionOptions

    @Flag(help: "Repaint every second until Ctrl-C.")
    var watch = false

    func perform() async throws {
        let backend: LinderoConfiguration.Backend
        let phase: String
        let look: @Sendable () async throws -> [LagReport]
        if let adopted = try adoption.direction() {
            (backend, phase) = (.replica, "replica")
            let direction = LagDirection.adopted(adopted)
            look = { try await Self.read([direction]) }
        } else {
            let loaded = try await LoadedConfiguration.current(global)
            (backend, phase) = (loaded.configuration.backend, loaded.state.word)
            look = { try await LagDirection.look(loaded) }
        }
        guard watch else {
            let reports = try await look()
            if global.json { for problem in reports.problems { StandardError.write(problem + "\n") } }
            answer(reports.json(backend: backend, phase: phase), lines: reports.lines + ["Next: \(Self.next(reports))"])
            if reports.allSatisfy({ $0.sourceLSN == nil && $0.problem != nil }) { throw ExitCode(LinderoExit.failed.rawValue) }
            return
        }
        try await watch(look, backend: backend, phase: phase)
    }

    /// Each direction, one after the other.
    static func read(_ directions: [LagDirection]) async throws -> [LagReport] {
        var reports: [LagReport] = []
        for direction in directions { reports.append(try await LagReader(direction: direction).read()) }
        return reports
    }

    static func next(_ reports: [LagReport]) -> String {
        // A worker would meet the same.
        if reports.contains(where: { $0.problem != nil }) { return "lindero check" }
        return switch reports.worstState {
        case .stopped, .paused: "lindero check"
        case .notStarted, .notRunning: "lindero run"
        case .copying, .catchingUp, .reconnecting: "lindero lag --watch"
        case .streaming: "lindero status"
        }
    }

    private func watch(
        _ look: @escaping @Sendable () async throws -> [LagReport], backend: LinderoConfiguration.Backend, phase: String
    ) async throws {
        let watching = Task {
            // Rates need two looks; the meter keeps what it saw.
            var meters: [String: LagMeter] = [:]
            var hasSeen = false
            while !Task.isCancelled {
                var reports: [LagReport]
                do {
                    reports = try await look()
                    try Task.checkCancellation()
                    hasSeen = true
                } catch let failure as CommandFailure where hasSeen && !Task.isCancelled {
                    // A server that restarts is worth watching.
                    StandardError.write(failure.text + "\n")
                    try await Task.sleep(for: .milliseconds(Self.watchMilliseconds))
                    continue
                }
                for index in reports.indices { rate(&reports[index], with: &meters[reports[index].name, default: LagMeter()]) }
                paint(reports, backend: backend, phase: phase)
                try await Task.sleep(for: .milliseconds(Self.watchMilliseconds))
            }
        }
        WorkerSignals.install(atOnce: "Next: lindero status") { watching.cancel() }
        let result = await watching.result
        if case .failure(let error) = result, !watching.isCancelled { throw error }
        if !global.json { StandardOutput.write("Next: lindero status\n") }
    }

    private func rate(_ report: inout LagReport, with meter: inout LagMeter) {
        guard let source = report.sourceLSN, let applied = report.appliedLSN else { return }
        meter.handlePositions(sourceLSN: source, appliedLSN: applied, atMilliseconds: Monotonic.milliseconds())
        report.etaSeconds = meter.etaSeconds
    }

    private func paint(_ reports: [LagReport], backend: LinderoConfiguration.Backend, phase: String) {
        if global.json { return StandardOutput.write(reports.json(backend: backend, phase: phase).line + "\n") }
        let home = StandardOutput.isTerminal ? "\u{1B}[H\u{1B}[2J" : ""
        StandardOutput.write(home + reports.lines.joined(separator: "\n") + "\n")
    }
}
