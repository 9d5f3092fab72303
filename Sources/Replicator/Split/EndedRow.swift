import ReplicationCore

/// A row that others may refer to, and that the source has deleted or given another key.
struct EndedRow: Sendable {
    enum Row: Sendable {
        /// By the number that it had before the group.
        case number(String)
        /// The target had given it another key at the same time: by that key.
        case rival(RowKey)
    }

    enum Outcome: Sendable, Equatable {
        /// The row is still there, and references to it mean it.
        case stays
        /// The same, and the other side moves references to its own row here, this one, as long as it has that.
        case stands(beside: RowKey?)
        /// References are to mean this row from now on, if it is there.
        case merges(RowKey?)
    }

    var table: QualifiedName
    var row: Row
    var outcome: Outcome
    /// What the source had seen when it did so.
    var context: CausalContext
}
