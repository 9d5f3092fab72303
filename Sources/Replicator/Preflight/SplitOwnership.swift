import ReplicationCore

/// What holds for the columns of one table between two sides.
struct SplitOwnership: Sendable {
    let ownership: TableOwnership
    /// Names of the two databases.
    let sides: [String]

    func travels(_ column: String, from source: String, to target: String) -> Bool {
        ownership.travels(column, from: source, to: target, backend: .split)
    }

    func other(_ side: String) -> String { sides.first { $0 != side } ?? side }

    /// Whether the column reaches one side from the other.
    func travels(_ column: String) -> Bool { sides.contains { travels(column, from: $0, to: other($0)) } }

    /// Whether both sides make rows.
    var isMadeByBoth: Bool { ownership.insertOwners.isSuperset(of: sides) }
    var isDeletedByBoth: Bool { ownership.deleteOwners.isSuperset(of: sides) }

    /// Whether rows have the same value on both sides, whoever made them.
    func isSameOnBothSides(_ column: String) -> Bool {
        ownership.insertOwners.intersection(sides).allSatisfy { travels(column, from: $0, to: other($0)) }
    }
}
