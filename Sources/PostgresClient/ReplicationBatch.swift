/// What `IDENTIFY_SYSTEM` answers.
public struct SystemIdentity: Sendable, Equatable {
    public var systemIdentifier: String
    public var timeline: Int
    /// The server's current flush position.
    public var flushLSN: UInt64
    public var database: String?
}

/// What `CREATE_REPLICATION_SLOT` answers.
public struct CreatedSlot: Sendable, Equatable {
    public var name: String
    /// Where the slot begins; the exported snapshot shows exactly what was committed before.
    public var consistentPoint: UInt64
    /// Usable by other sessions until this connection runs its next command or ends.
    public var snapshotName: String?
}

/// Messages that came together: each range of `bytes` is the payload of one CopyData message.
public struct ReplicationBatch: Sendable {
    public var bytes: [UInt8] = []
    public var messages: [Range<Int>] = []
    /// The server has ended the stream.
    public var isEnd = false

    public init() {}
}
