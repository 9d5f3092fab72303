import Logging
import PostgresClient
import ReplicationCore

/// What a reader needs for transactions that the server streams while they run.
struct StreamSpill: Sendable {
    /// A full disk is asked again after this long.
    static let retryMilliseconds = 200

    let folder: SpillFolder
    let settings: DirectionSettings
    let logger: Logger

    /// Says that the direction waits for room, to everybody who may ask.
    func notePause(_ state: DirectionState) async {
        let problem =
            "No room is left in \(folder.path), where transactions wait that still run on \(settings.sourceName). "
            + "Nothing is lost or acknowledged; make room and \(settings.name) goes on by itself. Or set "
            + "`replication: { streaming: off }`, so that \(settings.sourceName) keeps them until they commit."
        state.set(.paused, problem: problem)
        logger.error("paused", metadata: ["direction": "\(settings.name)", "problem": "\(problem)"])
        await note(.paused, problem)
    }

    func noteResumed(_ state: DirectionState) async {
        state.set(.catchingUp)
        logger.notice("going on", metadata: ["direction": "\(settings.name)"])
        await note(.catchingUp, nil)
    }

    private func note(_ phase: DirectionPhase, _ problem: String?) async {
        try? await PostgresConnection.with(settings.target) { target in
            try await DirectionRecord(connection: target, settings: settings).note(
                state: phase, problem: problem)
        }
    }
}
