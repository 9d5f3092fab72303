/// One message of PostgreSQL's `pgoutput` plugin, protocol versions 1 to 4.
///
/// Tuples are references into the `ChangeArena` that the decoder wrote to. Inside a streamed transaction
/// (between `streamStart` and `streamStop`) relation, type and change messages carry the (sub)transaction's id.
/// Source: PostgreSQL documentation, "Logical Replication Message Formats".
public enum PGOutputMessage: Sendable, Equatable {
    case begin(finalLSN: LSN, commitTime: PostgresTime, xid: UInt32)
    case commit(commitLSN: LSN, endLSN: LSN, commitTime: PostgresTime)
    case origin(originLSN: LSN, name: String)
    case relation(RelationMessage, xid: UInt32?)
    case type(oid: UInt32, schema: String, name: String, xid: UInt32?)
    case insert(relation: UInt32, new: TupleReference, xid: UInt32?)
    case update(relation: UInt32, old: OldTuple?, new: TupleReference, xid: UInt32?)
    case delete(relation: UInt32, old: OldTuple, xid: UInt32?)
    case truncate(relations: [UInt32], cascade: Bool, restartIdentity: Bool, xid: UInt32?)
    case message(transactional: Bool, lsn: LSN, prefix: String, content: [UInt8], xid: UInt32?)
    case streamStart(xid: UInt32, isFirstSegment: Bool)
    case streamStop
    case streamCommit(xid: UInt32, commitLSN: LSN, endLSN: LSN, commitTime: PostgresTime)
    /// `abortLSN` and `abortTime` come with protocol 4 and `streaming 'parallel'` only.
    case streamAbort(xid: UInt32, subxid: UInt32, abortLSN: LSN?, abortTime: PostgresTime?)
    case beginPrepare(prepareLSN: LSN, endLSN: LSN, prepareTime: PostgresTime, xid: UInt32, gid: String)
    case prepare(prepareLSN: LSN, endLSN: LSN, prepareTime: PostgresTime, xid: UInt32, gid: String)
    case commitPrepared(commitLSN: LSN, endLSN: LSN, commitTime: PostgresTime, xid: UInt32, gid: String)
    case rollbackPrepared(
        prepareEndLSN: LSN, rollbackEndLSN: LSN, prepareTime: PostgresTime, rollbackTime: PostgresTime,
        xid: UInt32, gid: String)
    case streamPrepare(prepareLSN: LSN, endLSN: LSN, prepareTime: PostgresTime, xid: UInt32, gid: String)
}

/// The old image that an update or delete carries.
public struct OldTuple: Sendable, Equatable {
    public enum Kind: Sendable {
        /// Only the replica identity's columns have values.
        case key
        /// The whole row (`REPLICA IDENTITY FULL`).
        case full
    }
    public var kind: Kind
    public var tuple: TupleReference

    public init(kind: Kind, tuple: TupleReference) {
        self.kind = kind
        self.tuple = tuple
    }
}

/// A table as the stream announces it before its first change and after each change of its definition.
public struct RelationMessage: Sendable, Equatable {
    public struct Column: Sendable, Equatable {
        public var isKey: Bool
        public var name: String
        public var typeOID: UInt32
        public var typeModifier: Int32

        public init(isKey: Bool, name: String, typeOID: UInt32, typeModifier: Int32) {
            self.isKey = isKey
            self.name = name
            self.typeOID = typeOID
            self.typeModifier = typeModifier
        }
    }
    public var id: UInt32
    public var name: QualifiedName
    public var replicaIdentity: TableDescription.ReplicaIdentity
    public var columns: [Column]

    public init(
        id: UInt32, name: QualifiedName, replicaIdentity: TableDescription.ReplicaIdentity, columns: [Column]
    ) {
        self.id = id
        self.name = name
        self.replicaIdentity = replicaIdentity
        self.columns = columns
    }

    /// The same table by another name.
    public func named(_ name: QualifiedName) -> RelationMessage {
        var relation = self
        relation.name = name
        return relation
    }
}

/// Microseconds since 2000-01-01 00:00 UTC, PostgreSQL's own epoch.
public struct PostgresTime: Sendable, Hashable, Comparable {
    public var microseconds: Int64
    public init(microseconds: Int64) { self.microseconds = microseconds }

    /// Microseconds since 1970-01-01 00:00 UTC.
    public var unixMicroseconds: Int64 { microseconds &+ 946_684_800_000_000 }

    public static func < (left: PostgresTime, right: PostgresTime) -> Bool {
        left.microseconds < right.microseconds
    }
}
