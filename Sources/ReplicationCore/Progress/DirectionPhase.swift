/// What a direction is doing, as `lag --json` prints it.
public enum DirectionPhase: String, Sendable, Codable, CaseIterable {
    case starting
    /// Copying the tables.
    case copying
    /// Streaming, behind.
    case catchingUp = "catching_up"
    case streaming
    /// Waiting for a person's SQL; goes on by itself.
    case paused
    /// Lost a server; retrying.
    case reconnecting
    case draining
    /// Ended by an error that only a person can mend.
    case stopped
}
