/// What an applier has done.
public struct ApplyCounters: Sendable, Equatable {
    public var transactions = 0
    /// Changes of the source, before netting.
    public var changes = 0
    /// Changes that touched only columns that stay behind.
    public var withheld = 0
    /// Changes of tables that are not part of the direction.
    public var ignored = 0
    /// Updates and deletes whose row was not on the target.
    public var missingRows = 0
    /// Changes set aside for a person.
    public var quarantined = 0
    /// Groups that were applied again in exact order.
    public var fallbacks = 0
    /// Source transactions that were one statement each, with the progress.
    public var fused = 0
    /// Groups that began while the one before was at work.
    public var overlapped = 0

    public init() {}

    mutating func add(_ other: ApplyCounters) {
        transactions += other.transactions
        changes += other.changes
        withheld += other.withheld
        ignored += other.ignored
        missingRows += other.missingRows
        quarantined += other.quarantined
        fallbacks += other.fallbacks
        fused += other.fused
        overlapped += other.overlapped
    }
}
