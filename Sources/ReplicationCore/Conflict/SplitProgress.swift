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

extension SplitProgress {
    /// Both directions' progress once a side's log can only be read from a place of now on. What the side has committed before it,
    /// and the other one has not got, nobody will ever read: it counts as seen. So what the other side sends meets only what is
    /// written after that place.
    ///
    /// - Parameters:
    ///   - outgoing: of the direction that reads the side.
    ///   - incoming: of the direction that writes into it, and stands still.
    ///   - lsn: from where on the log can be read.
    ///   - time: the side's clock, read before that place.
    public static func renewed(
        outgoing: SplitProgress, incoming: SplitProgress, at lsn: LSN, time: PostgresTime
    ) -> (outgoing: SplitProgress, incoming: SplitProgress) {
        // Later than all that the side has written or got, as far as is known: its next write has seen that.
        let time = max(time, outgoing.time, incoming.time, incoming.context.time)
        let seen = CausalContext(lsn: incoming.appliedLSN, time: incoming.time)
        return (
            SplitProgress(appliedLSN: lsn, time: time, context: seen),
            SplitProgress(appliedLSN: incoming.appliedLSN, time: incoming.time, context: CausalContext(lsn: lsn, time: time))
        )
    }
}
