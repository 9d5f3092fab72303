import Logging
import PostgresClient
import ReplicationCore

/// Says what a direction waits for that goes on by itself once somebody has done something, to everybody who may ask.
struct DirectionNotice: Sendable {
    let settings: DirectionSettings
    let logger: Logger

    /// - Parameter phase: `paused` where a person has to act.
    func begin(_ state: DirectionState, as phase: DirectionPhase, because problem: String) async {
        state.set(phase, problem: problem)
        let isPaused = phase == .paused
        logger.log(
            level: isPaused ? .error : .warning, isPaused ? "paused" : "waiting",
            metadata: ["direction": "\(settings.name)", "problem": "\(problem)"])
        await note(phase, problem)
    }

    func end(_ state: DirectionState) async {
        logger.notice("going on", metadata: ["direction": "\(settings.name)"])
        await note(.catchingUp, nil)
        // Only then: that it has caught up is noted once, by who finds it so.
        state.set(.catchingUp)
    }

    private func note(_ phase: DirectionPhase, _ problem: String?) async {
        var target = settings.target
        // The target may be what is waited for: nobody is told later for that.
        target.settings += [("synchronous_commit", "local"), ("statement_timeout", "5s")]
        try? await PostgresConnection.with(target) { target in
            try await DirectionRecord(connection: target, settings: settings).note(state: phase, problem: problem)
        }
    }
}
