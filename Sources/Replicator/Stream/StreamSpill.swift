import Logging
import ReplicationCore

/// What a reader needs for transactions that the server streams while they run.
struct StreamSpill: Sendable {
    /// A full disk is asked again after this long.
    static let retryMilliseconds = 200

    let folder: SpillFolder
    let settings: DirectionSettings
    let logger: Logger

    /// Says that the direction waits for room.
    func notePause(_ state: DirectionState) async {
        await DirectionNotice(settings: settings, logger: logger).begin(
            state, as: .paused,
            because: "No room is left in \(folder.path), where transactions wait that still run on \(settings.sourceName). "
                + "Nothing is lost or acknowledged; make room and \(settings.name) goes on by itself. Or set "
                + "`replication: { streaming: off }`, so that \(settings.sourceName) keeps them until they commit.")
    }

    func noteResumed(_ state: DirectionState) async {
        await DirectionNotice(settings: settings, logger: logger).end(state)
    }
}
