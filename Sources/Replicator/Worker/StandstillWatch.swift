import PostgresClient

/// Keeps a direction's figures true while no stream runs: nothing else looks at the source then, and a lag that stood still would say
/// that all is well.
struct StandstillWatch: Sendable {
    private static let intervalMilliseconds = 1_000

    let settings: DirectionSettings
    let state: DirectionState

    /// Runs until cancelled. A source that can't be asked is asked again; what is known of it stays, and only grows older.
    func run() async {
        var backoff = Backoff()
        var waitMilliseconds = Self.intervalMilliseconds
        while (try? await Task.sleep(for: .milliseconds(waitMilliseconds))) != nil {
            waitMilliseconds = Self.intervalMilliseconds
            guard state.isStanding else { continue }
            do {
                // A session for each look: the last one that a server or a role may have is the direction's own.
                _ = try await PostgresConnection.with(settings.askingOptions) { source in
                    try await SlotLook(settings: settings, state: state).read(source)
                }
                backoff.reset()
            } catch {
                waitMilliseconds += backoff.nextMilliseconds()
            }
        }
    }
}
