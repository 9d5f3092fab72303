/// What became of the records of an upsert.
public struct UpsertSummary: Sendable, Equatable {
    public var inserted = 0
    /// Existing rows of which at least one column changed.
    public var updated = 0
    /// Existing rows that already were as the record says; PostgreSQL wrote nothing for them.
    public var unchanged = 0
    public var refused = 0
    /// Transactions that were tried again after a deadlock, a serialization failure or a lost connection.
    public var retries = 0

    public init() {}

    public var records: Int { inserted + updated + unchanged + refused }

    static func += (left: inout UpsertSummary, right: UpsertSummary) {
        left.inserted += right.inserted
        left.updated += right.updated
        left.unchanged += right.unchanged
        left.refused += right.refused
        left.retries += right.retries
    }
}
