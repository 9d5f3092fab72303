/// What one direction of a split must remember, in its target, in the same transaction as the data.
///
/// Four numbers; with those of the other direction they are all that a restart needs (`SplitReader.restart`).
/// A split that begins with equal databases begins with `appliedLSN` where they were equal in the source's log,
/// `context.lsn` where they were in the target's, and zero for both times.
public struct SplitProgress: Sendable, Equatable {
    /// Everything of the source before this LSN is applied, dropped by rule, or nothing that travels.
    public var appliedLSN: LSN
    /// The source's effective time there.
    public var time: PostgresTime
    /// What the source had seen of the target there.
    public var context: CausalContext

    public init(
        appliedLSN: LSN = .zero, time: PostgresTime = PostgresTime(microseconds: 0),
        context: CausalContext = CausalContext()
    ) {
        self.appliedLSN = appliedLSN
        self.time = time
        self.context = context
    }

    /// The note of a target transaction that records this progress and applies nothing. Due now and then, for instance with
    /// the heartbeat: a side that has nothing to send would else hold up the other one's slot, and history, for ever.
    public var appliedNote: SplitNote { .applied(CausalContext(lsn: appliedLSN, time: time)) }

    /// How far the slot on the source of `self` may be confirmed: what neither direction will ask for again.
    ///
    /// - Parameter opposite: the durable progress of the other direction.
    public func confirmableLSN(opposite: SplitProgress) -> LSN { min(appliedLSN, opposite.context.lsn) }
}
