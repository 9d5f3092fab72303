import ReplicationCore

/// Why both streams begin anew, with nothing wrong.
enum SplitRestart: Error {
    /// A transaction that was applied in parts turned out to need all of them at once.
    case whole(Side, LSN)
    /// A side's stream has a table that the ownership rules do not know: whether it passes by is to be found out.
    case unknown(Side, QualifiedName, oid: UInt32)
    /// Changes of a table do not carry the old row, which they need not but for columns that have got an owner.
    case untold(QualifiedName)
    /// No write is on its way any more that was made under a former policy.
    case policiesPassed
}

/// The target's own writers have been at rows that were written in bulk.
struct SplitTouched: Error {}

/// The target was not as it was seen a moment ago.
enum SplitChanged: Error {
    case row
    /// A constraint does not let a row be there before its turn.
    case cannotBring
}

/// What ended both directions, and the side whose stream was being read or carried out.
struct SplitSideError: Error {
    let side: Side
    let error: any Error

    static func naming<Result>(_ side: Side, _ body: () async throws -> Result) async throws -> Result {
        do {
            return try await body()
        } catch {
            throw SplitSideError(side: side, error: error)
        }
    }
}
