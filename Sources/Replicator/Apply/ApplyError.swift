import PostgresClient
import ReplicationCore

/// Why a group could not be applied. Its transaction has been rolled back.
enum ApplyError: Error {
    /// The server refused a change; applied in exact order, this is the one.
    case refused(FailedChange, PostgresError)
    /// An update or delete found no row.
    case missingRow(FailedChange)
    /// The group was applied in bulk and failed; exact order will tell which change it was.
    case bulkFailed(PostgresError?)
    /// A table's definition no longer fits; everything before its first change is committed.
    case schemaDiffers(SchemaMismatch)
}

/// A change in words that hold no values.
struct FailedChange: Sendable, CustomStringConvertible {
    var table: QualifiedName
    var kind: Change.Kind
    var xid: UInt32
    var commitLSN: LSN

    var description: String { "\(kind) on \(table) in the source's transaction \(xid), committed at \(commitLSN)" }
}
