/// Why both streams begin anew, with nothing wrong.
enum SplitRestart: Error {
    /// More of one side's stream had to be read, for the other direction's sake, than may wait in memory.
    case backlog(Side)
}

/// The target's own writers have been at rows that were written in bulk.
struct SplitTouched: Error {}

/// The target was not as it was seen a moment ago.
enum SplitChanged: Error {
    case row
    /// A constraint does not let a row be there before its turn.
    case cannotBring
}
