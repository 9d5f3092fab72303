/// Every definition of every table that the stream announced, in order.
///
/// Changes refer to a definition by its index here, so a change read before `ALTER TABLE` keeps the old one.
public struct RelationHistory: Sendable {
    public private(set) var definitions: [RelationMessage] = []
    private var current: [UInt32: Int] = [:]

    public init() {}

    /// Records a definition; the same one again gets the index it had.
    public mutating func record(_ relation: RelationMessage) {
        if let index = current[relation.id], definitions[index] == relation { return }
        current[relation.id] = definitions.count
        definitions.append(relation)
    }

    /// The definition in force for a relation id; `nil` when the stream never announced it.
    public func index(of id: UInt32) -> Int? { current[id] }
}
