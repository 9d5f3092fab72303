import Logging
import PostgresClient
import ReplicationCore

/// Tables that come to the source while the stream runs, and that the rules take in: nothing of them travels before the next start,
/// and whoever made them should know.
struct NewTables {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger
    private var known: Set<QualifiedName> = []

    init(settings: DirectionSettings, state: DirectionState, logger: Logger) {
        self.settings = settings
        self.state = state
        self.logger = logger
    }

    /// Tells once of each. Where the rules can't be read at the moment it is asked again.
    mutating func look(_ source: PostgresConnection) async throws(PostgresError) {
        guard let read = settings.policyReader else { return }
        let names = Set(try await CatalogReader.names(source))
        let came = names.subtracting(known).filter { !settings.includes($0) || settings.waitingTables.contains($0) }
        if !came.isEmpty {
            guard let rules = try? await read() else { return }
            let new = state.announce(came.filter { rules.tables[$0] != nil }).sorted()
            if !new.isEmpty { tell(new) }
        }
        known = names
    }

    private func tell(_ new: [QualifiedName]) {
        let next =
            settings.backend == .split
            ? "the next `lindero run` is refused until both sides have them alike, and says how" : "start `lindero run` anew, which copies them"
        logger.notice(
            "tables have come that are in lindero.yaml, and do not travel yet",
            metadata: ["direction": "\(settings.name)", "tables": "\(new.map { "\($0)" }.joined(separator: ", "))", "next": "\(next)"])
    }
}
