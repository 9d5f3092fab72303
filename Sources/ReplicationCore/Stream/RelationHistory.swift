/// The definitions of the tables that the stream announced.
///
/// Changes refer to a definition by its index here, so a change read before `ALTER TABLE` keeps the old one. No index is
/// ever used twice.
public struct RelationHistory: Sendable {
    private var known: [Int: RelationMessage] = [:]
    private var current: [UInt32: (index: Int, width: Int)] = [:]
    private var ids: [QualifiedName: UInt32] = [:]
    private var superseded: [Int] = []
    private var nextIndex = 0

    public init() {}

    public var count: Int { known.count }
    /// In the order of the stream.
    public var definitions: [RelationMessage] { known.sorted { $0.key < $1.key }.map(\.value) }

    /// A definition; `nil` when it was forgotten.
    public subscript(index: Int) -> RelationMessage? { known[index] }

    /// Records a definition; the same one again gets the index it had.
    public mutating func record(_ relation: RelationMessage) {
        if let entry = current[relation.id] {
            if known[entry.index] == relation { return }
            superseded.append(entry.index)
            // Renamed: its old name is nobody's.
            if let old = known[entry.index]?.name, old != relation.name, ids[old] == relation.id { ids[old] = nil }
        }
        // Another table had the name: it was dropped, or is announced again, renamed, before it changes next.
        if let other = ids[relation.name], other != relation.id, let gone = current.removeValue(forKey: other) {
            superseded.append(gone.index)
        }
        ids[relation.name] = relation.id
        current[relation.id] = (nextIndex, relation.columns.count)
        known[nextIndex] = relation
        nextIndex += 1
    }

    /// Forgets the definitions that no later change can use.
    mutating func forgetSuperseded() {
        if superseded.isEmpty { return }
        for index in superseded { known[index] = nil }
        superseded.removeAll()
    }

    /// The definition in force for a relation id; `nil` when the stream never announced it.
    public func index(of id: UInt32) -> Int? { current[id]?.index }

    /// Index and number of columns of the definition in force.
    func entry(of id: UInt32) -> (index: Int, width: Int)? { current[id] }
}
