/// A transaction that a direction has to apply, or the part of it that a chunk holds.
public struct SplitTransaction: Sendable, Equatable {
    /// Index into `ChangeChunk.transactions`.
    public var span: Int
    public var commitLSN: LSN
    public var commitTime: PostgresTime
    /// What decides between concurrent writes; see `HybridClock`.
    public var effectiveTime: PostgresTime
    /// What the source had seen of the target.
    public var context: CausalContext
    public var operations: [RowOperation]
    /// Changes of tables that travel one way only, as indexes into `ChangeChunk.changes`: applied as they are.
    public var plainChanges: [Int] = []
    /// The direction's progress with this transaction applied; `nil` while more of it is to come.
    public var progress: SplitProgress?

    /// Changes that are to be applied.
    public var changeCount: Int { operations.count + plainChanges.count }

    /// The first note of the target transaction in which this one is the last.
    public var appliedNote: SplitNote {
        .applied(CausalContext(lsn: LSN(commitLSN.rawValue + 1), time: effectiveTime))
    }

    /// When an operation of this transaction was written.
    public func mark(of operation: RowOperation) -> WriteMark {
        WriteMark(id: operation.id, commitTime: commitTime, effectiveTime: effectiveTime)
    }
}
