import ReplicationCore

/// Why a comparison cannot be made, or did not come to its end.
public enum VerifyError: Error, Sendable, Equatable {
    /// The schema lindero lacks the tables of a comparison.
    case notMigrated(database: String)
    /// The direction has not been there yet, or its initial copy is not done.
    case notPrepared(direction: String, database: String)
    /// The target stands still before a position that it must show first.
    case notCaughtUp(direction: String, waitedFor: LSN, shown: LSN?)
    /// Another comparison of the direction is at work.
    case alreadyRunning(direction: String)
    /// The servers hash alike texts differently.
    case hashesDiffer
    /// A table that is not part of the direction.
    case notReplicated(QualifiedName)
}
