/// What the program's exit code says.
enum LinderoExit: Int32, Sendable {
    /// Done, or what was asked holds.
    case done = 0
    case failed = 1
    /// The configuration or a missing precondition stands in the way; nothing was changed.
    case blocked = 2
    /// Differences, conflicts or refused rows were found.
    case found = 3
    /// Ctrl-C or SIGTERM ended it before it was done.
    case interrupted = 130
}
