/// What the meanings of references stand on. The simulation breaks them one by one, to show that it would notice.
struct ReferenceRules: Sendable {
    /// Whether a number means the row that had it when it was written.
    var goesBack = true
    /// Whether it follows what the target has made of that row.
    var follows = true
}
