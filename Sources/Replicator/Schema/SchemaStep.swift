/// One statement that waits for the data.
struct SchemaStep: Sendable, Equatable {
    /// In the order they run; all of a stage is done before the next begins.
    enum Stage: Sendable, CaseIterable {
        /// Primary keys, other keys, exclusion and check constraints.
        case key
        case index
        /// Of a partition's index to its parent's.
        case attachment
        case statistics
        case foreignKey
        case owner
    }

    var stage: Stage
    /// The table, or the root of its partition tree, as SQL.
    var table: String
    var sql: String
    /// Of the source's index, on disk.
    var sizeBytes = 0

    /// Whether people count it among the indexes and constraints.
    var isCounted: Bool { stage == .key || stage == .index || stage == .foreignKey }
}
