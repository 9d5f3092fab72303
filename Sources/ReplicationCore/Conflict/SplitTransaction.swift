/// A transaction that a direction has to apply, or the part of it that a chunk holds.
public struct SplitTransaction: Sendable, Equatable {
    /// Index into `ChangeChunk.transactions`.
    public var span: Int
    public var commitLSN: LSN
    public var commitTime: PostgresTime
    /// The commit time to apply it under (`pg_replication_origin_xact_setup`): the target's reader takes it from there.
    public var effectiveTime: PostgresTime
    /// What the source had seen of the target.
    public var context: CausalContext
    public var operations: [RowOperation]
    /// The direction's progress with this transaction applied; `nil` while more of it is to come.
    public var progress: SplitProgress?

    /// When an operation of this transaction was written.
    public func mark(of operation: RowOperation) -> WriteMark {
        WriteMark(id: operation.id, commitTime: commitTime, effectiveTime: effectiveTime)
    }
}
