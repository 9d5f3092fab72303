import ReplicationCore

/// What an applier sees of the chunks behind those that it is at work on.
struct LookAhead: Sendable {
    /// Takes what has arrived, if it is enough for a group.
    ///
    /// - Parameter mustBeFull: whether only as much will do as a group may hold.
    var take: @Sendable (_ mustBeFull: Bool) -> [ChangeChunk]?
    /// Has somebody called once so much has arrived, now or from the reader's thread; `nil` withdraws that.
    var whenFull: @Sendable ((@Sendable () -> Void)?) -> Void

    static let nothing = LookAhead(take: { _ in nil }, whenFull: { _ in })
}

extension StreamMailbox {
    /// - Parameter leastBytes: what must wait before it is worth another thread's while.
    func lookAhead(_ limits: GroupLimits, leastBytes: Int) -> LookAhead {
        LookAhead(
            take: { self.takeNow(limits, leastBytes: leastBytes, mustBeFull: $0) },
            whenFull: { self.callWhenFull(limits, $0) })
    }
}
