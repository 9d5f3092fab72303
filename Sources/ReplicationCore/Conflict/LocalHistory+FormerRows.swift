extension LocalHistory {
    /// A row that is not under a key any more.
    public struct FormerRow: Sendable, Equatable {
        /// The operation that took the key away.
        public let id: OperationID
        /// What the row has now; `nil` when it is gone.
        public let key: RowKey?
    }

    /// The rows that this side had under keys one after the other, and that the other one may not have ended yet; in order.
    ///
    /// - Throws: what the storage throws.
    public func formerRows(of keys: some Sequence<RowKey>) throws -> [RowKey: [FormerRow]] {
        if isEmpty { return [:] }
        var rows: [RowKey: [FormerRow]] = [:]
        var ways = Ways()
        for key in keys {
            let former = try ways.deletions(of: key, in: self).filter { !$0.isMatched }
            if former.isEmpty { continue }
            rows[key] = try former.map { FormerRow(id: $0.mark.id, key: try ways.end(from: $0, in: self)) }
        }
        return rows
    }

    /// Where rows have got to: each step of a long way is gone once, however many keys lie on it.
    private struct Ways {
        private var known: [RowKey: [Deletion]] = [:]
        private var ends: [OperationID: RowKey?] = [:]

        mutating func deletions(of key: RowKey, in history: LocalHistory) throws -> [Deletion] {
            if let deletions = known[key] { return deletions }
            let deletions = try history.deletions(of: key)
            known[key] = deletions
            return deletions
        }

        mutating func end(from deletion: Deletion, in history: LocalHistory) throws -> RowKey? {
            var steps: [OperationID] = []
            var (step, end) = (deletion, RowKey?.none)
            while true {
                if let known = ends[step.mark.id] {
                    end = known
                    break
                }
                steps.append(step.mark.id)
                guard let newKey = step.newKey else { break }
                let next = try deletions(of: newKey, in: history)
                // They are in order.
                var (low, high) = (0, next.count)
                while low < high {
                    let middle = (low + high) / 2
                    if next[middle].mark.id > step.mark.id { high = middle } else { low = middle + 1 }
                }
                guard low < next.count else {
                    end = newKey
                    break
                }
                step = next[low]
            }
            for id in steps { ends.updateValue(end, forKey: id) }
            return end
        }
    }
}
