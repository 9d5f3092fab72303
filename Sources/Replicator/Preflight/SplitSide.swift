import ReplicationCore

/// One side of a split, as its catalog shows it.
struct SplitSide: Sendable {
    var name: String
    /// The worker's role there.
    var user: String
    var tables: [QualifiedName: TableDescription]
    var facts: [QualifiedName: SplitTableFacts]
}
