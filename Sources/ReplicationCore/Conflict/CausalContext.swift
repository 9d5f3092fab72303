/// What a database had seen of the other one at some point of its own stream.
public struct CausalContext: Sendable, Equatable {
    /// Every transaction of the other database whose commit record lies before this LSN had been applied.
    public var lsn: LSN
    /// The other database's effective time there.
    public var time: PostgresTime

    public init(lsn: LSN = .zero, time: PostgresTime = PostgresTime(microseconds: 0)) {
        self.lsn = lsn
        self.time = time
    }

    /// Whether a transaction of the other database had been applied.
    public func includes(commitLSN: LSN) -> Bool { commitLSN < lsn }

    mutating func advance(to other: CausalContext) {
        lsn = max(lsn, other.lsn)
        time = max(time, other.time)
    }
}
