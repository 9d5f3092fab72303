import Logging
import PostgresClient
import ReplicationCore

/// Says that a direction waits for a person and goes on by itself then, to everybody who may ask.
struct DirectionPause: Sendable {
    let settings: DirectionSettings
    let logger: Logger

    func begin(_ state: DirectionState, because problem: String) async {
        state.set(.paused, problem: problem)
        logger.error("paused", metadata: ["direction": "\(settings.name)", "problem": "\(problem)"])
        await note(.paused, problem)
    }

    func end(_ state: DirectionState) async {
        state.set(.catchingUp)
        logger.notice("going on", metadata: ["direction": "\(settings.name)"])
        await note(.catchingUp, nil)
    }

    private func note(_ phase: DirectionPhase, _ problem: String?) async {
        try? await PostgresConnection.with(settings.target) { target in
            try await DirectionRecord(connection: target, settings: settings).note(state: phase, problem: problem)
        }
    }
}
