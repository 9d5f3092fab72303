/// Values that have to travel back with rows whose keys our own direction has changed (`SplitNote.awaited`), beside those that the
/// stream leaves out there. Of a transaction in pieces the notes follow the changes that they are about.
struct EchoGaps: Sendable {
    /// More than one part of a target's transaction may have: what is older than that has had its notes.
    private static let limit = 1 << 17

    private var awaited: [RowKey: Set<Int>] = [:]
    private var lacking: [RowKey: Set<Int>] = [:]
    private var earlier: [RowKey: Set<Int>] = [:]

    /// - Parameter columns: `SplitTable.LargeColumn.id`, as below.
    /// - Returns: whether one of them was left out.
    mutating func await(_ columns: [Int], of key: RowKey) -> Bool {
        awaited[key, default: []].formUnion(columns)
        return isGap(key)
    }

    /// The stream leaves columns of a row out that has got this key.
    ///
    /// - Returns: whether one of them is awaited.
    mutating func lack(_ columns: Set<Int>, of key: RowKey) -> Bool {
        if columns.isEmpty { return false }
        if lacking.count >= Self.limit { (earlier, lacking) = (lacking, [:]) }
        lacking[key] = columns
        return isGap(key)
    }

    /// The row is gone, or has got yet another key.
    mutating func end(_ key: RowKey) {
        if lacking.isEmpty, earlier.isEmpty { return }
        lacking[key] = nil
        earlier[key] = nil
    }

    private func isGap(_ key: RowKey) -> Bool {
        guard let awaited = awaited[key], let lacking = lacking[key] ?? earlier[key] else { return false }
        return !awaited.isDisjoint(with: lacking)
    }
}
