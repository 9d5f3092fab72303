/// The definitions of the tables that the stream announced.
///
/// Changes refer to a definition by its index here, so a change read before `ALTER TABLE` keeps the old one. No index is
/// ever used twice.
///
/// A streamed transaction is announced its own definitions, which hold for it alone while they wait for its commit: an
/// aborted one leaves nothing behind. With the commit they hold for those that follow, unless the stream has announced
/// a newer definition meanwhile; the server keeps count of it in the same way.
public struct RelationHistory: Sendable {
    private struct Entry {
        var index: Int
        var width: Int
        /// Its place among all announcements of the stream.
        var announcement: UInt64
    }

    private var known: [Int: RelationMessage] = [:]
    private var current: [UInt32: Entry] = [:]
    /// Of the streamed transaction that is replayed now.
    private var own: [UInt32: Entry]?
    private var ids: [QualifiedName: UInt32] = [:]
    private var superseded: [Int] = []
    private var nextIndex = 0
    private var lastAnnouncement: UInt64 = 0

    public init() {}

    public var count: Int { known.count }
    /// In the order of the stream.
    public var definitions: [RelationMessage] { known.sorted { $0.key < $1.key }.map(\.value) }

    /// A definition; `nil` when it was forgotten.
    public subscript(index: Int) -> RelationMessage? { known[index] }

    /// Numbers an announcement that is not recorded yet.
    mutating func nextAnnouncement() -> UInt64 {
        lastAnnouncement += 1
        return lastAnnouncement
    }

    /// Records a definition; the same one again gets the index it had.
    public mutating func record(_ relation: RelationMessage) {
        adopt(relation, index: nil, announcement: nextAnnouncement())
    }

    private mutating func adopt(_ relation: RelationMessage, index: Int?, announcement: UInt64) {
        if let entry = current[relation.id] {
            if known[entry.index] == relation {
                current[relation.id]?.announcement = announcement
                return
            }
            superseded.append(entry.index)
            // Renamed: its old name is nobody's.
            if let old = known[entry.index]?.name, old != relation.name, ids[old] == relation.id { ids[old] = nil }
        }
        // Another table had the name: it was dropped, or is announced again, renamed, before it changes next.
        if let other = ids[relation.name], other != relation.id, let gone = current.removeValue(forKey: other) {
            superseded.append(gone.index)
        }
        ids[relation.name] = relation.id
        current[relation.id] = Entry(
            index: index ?? add(relation), width: relation.columns.count, announcement: announcement)
    }

    private mutating func add(_ relation: RelationMessage) -> Int {
        known[nextIndex] = relation
        nextIndex += 1
        return nextIndex - 1
    }

    // MARK: a streamed transaction's own

    mutating func beginOwn() { own = [:] }

    mutating func recordOwn(_ relation: RelationMessage, announcement: UInt64) {
        let (shared, earlier) = (current[relation.id], own?[relation.id])
        let same = [shared, earlier].compactMap { $0 }.first { known[$0.index] == relation }
        if let earlier, earlier.index != shared?.index, earlier.index != same?.index { superseded.append(earlier.index) }
        let index = same?.index ?? add(relation)
        own?[relation.id] = Entry(index: index, width: relation.columns.count, announcement: announcement)
    }

    /// The transaction has committed.
    mutating func endOwn() {
        for (id, mine) in (own ?? [:]).sorted(by: { $0.value.announcement < $1.value.announcement }) {
            let entry = current[id]
            if mine.announcement > entry?.announcement ?? 0, let relation = known[mine.index] {
                adopt(relation, index: mine.index, announcement: mine.announcement)
            } else if mine.index != entry?.index {
                superseded.append(mine.index)
            }
        }
        own = nil
    }

    /// The transaction is given up, and its definitions with it: they come again if it is replayed.
    mutating func abandonOwn() {
        for (id, mine) in own ?? [:] where mine.index != current[id]?.index { superseded.append(mine.index) }
        own = nil
    }

    /// Forgets the definitions that no later change can use.
    mutating func forgetSuperseded() {
        if superseded.isEmpty { return }
        for index in superseded { known[index] = nil }
        superseded.removeAll()
    }

    /// The definition in force for a relation id; `nil` when the stream never announced it.
    public func index(of id: UInt32) -> Int? { entry(of: id)?.index }

    /// Index and number of columns of the definition in force.
    func entry(of id: UInt32) -> (index: Int, width: Int)? {
        let entry = own == nil ? current[id] : own?[id]
        return entry.map { ($0.index, $0.width) }
    }
}
