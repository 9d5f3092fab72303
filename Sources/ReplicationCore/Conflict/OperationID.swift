/// Which change of a database's stream. The order is the stream's.
public struct OperationID: Sendable, Hashable, Comparable {
    /// LSN of its transaction's commit record.
    public var commitLSN: LSN
    /// Among the changes of its transaction, from 0.
    public var position: Int

    public init(commitLSN: LSN, position: Int) {
        self.commitLSN = commitLSN
        self.position = position
    }

    public static func < (left: OperationID, right: OperationID) -> Bool {
        (left.commitLSN, left.position) < (right.commitLSN, right.position)
    }
}

/// When something was written: where it stands in its database's stream, and when that was.
public struct WriteMark: Sendable, Equatable {
    public var id: OperationID
    public var commitTime: PostgresTime
    /// What decides between concurrent writes; see `HybridClock`.
    public var effectiveTime: PostgresTime

    public init(id: OperationID, commitTime: PostgresTime, effectiveTime: PostgresTime) {
        self.id = id
        self.commitTime = commitTime
        self.effectiveTime = effectiveTime
    }
}
