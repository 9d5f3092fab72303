import PostgresClient
import ReplicationCore

/// Why changes could not be applied. The target's transaction has been rolled back.
enum ApplyError: Error {
    /// The server refused a change, or (with none) a statement for many.
    case refused(FailedChange?, PostgresError)
    /// An update or delete found no row, or (with none) a statement for many found too few.
    case missingRow(FailedChange?)
    /// An insert comes without a value: the row was there before, and has come under the publication's row filter.
    case incompleteRow(FailedChange)
    /// A piece of a large transaction failed in bulk: stream again, and apply up to here in exact order.
    case bulkFailed(upTo: LSN)
    /// A table that came under a binary stream cannot be read from one.
    case needsText(QualifiedName)
    /// A prepared transaction has committed at the source, and neither it nor its commit is on the target.
    case preparedGone(xid: UInt32, commitLSN: LSN)
    /// A table's definition no longer fits; everything before its first change is committed.
    case schemaDiffers(SchemaMismatch)

    /// What a failed statement means: the server refuses what it stands for, or, where that may pass by itself, only the error.
    static func refusal(_ error: PostgresError, of change: FailedChange?) -> any Error {
        guard case .server = error, !error.isTransient else { return error }
        return refused(change, error)
    }
}

/// A change in words that hold no values.
struct FailedChange: Sendable, CustomStringConvertible {
    var table: QualifiedName
    var kind: Change.Kind
    var xid: UInt32
    /// LSN of the source's commit record.
    var commitLSN: LSN
    /// Among the changes of its source transaction, from 0.
    var position: Int

    var description: String { "\(kind) on \(table) in the source's transaction \(xid), committed at \(commitLSN)" }
}
