import ArgumentParser
import Replicator

/// Started by a move beside itself: see `PauseWatch`.
struct PauseWatchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause-watch", abstract: "Let pgbouncer's clients go on when the move that paused them has died.",
        discussion: """
            A move starts it, tells it by its input what to watch, and ends it. There is nothing to run by hand.

            Example:
              lindero advance --to split --execute
            """, shouldDisplay: false)

    func run() async throws { throw ExitCode(await PauseWatch.main()) }
}
