import Logging
import SharedBackend

/// Looks now and then whether the guard that is in force still is what it should be, and says so when it is not.
struct GuardWatch: Sendable {
    /// The second look comes soon: before the first one the schema lindero may not be up to date.
    static let secondLookMilliseconds = 5_000
    static let betweenMilliseconds = 60_000

    let loaded: LoadedConfiguration
    let logger: Logger

    /// Runs until cancelled. A look that fails is no reason to stop, and says nothing: the directions tell it.
    func run() async {
        var told = ""
        var pause = Self.secondLookMilliseconds
        while !Task.isCancelled {
            if let drift = try? await look(), !Task.isCancelled {
                if drift != told { tell(drift) }
                told = drift
            }
            try? await Task.sleep(for: .milliseconds(pause))
            pause = Self.betweenMilliseconds
        }
    }

    /// What is wrong, `""` for nothing.
    private func look() async throws -> String {
        try await loaded.origin().connected { connection in
            try await GuardCommand.review(
                connection: connection, policy: try await loaded.ownership(connection), configuration: loaded.configuration
            )?.drift ?? ""
        }
    }

    private func tell(_ drift: String) {
        guard !drift.isEmpty else { return logger.notice("the guard is as it should be again, or off") }
        logger.warning("guard", metadata: ["problem": "\(drift)", "next": "lindero guard plan"])
    }
}
