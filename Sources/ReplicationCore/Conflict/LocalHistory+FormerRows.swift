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
            let former = try deletions(of: key).filter { !$0.isMatched }
            if former.isEmpty { continue }
            rows[key] = try former.map { FormerRow(id: $0.mark.id, key: try ways.end(from: $0, in: self)) }
        }
        return rows
    }

    /// What has become of a row after an operation of this side that left it with this key; `nil` when it is gone.
    func laterKey(of key: RowKey, after id: OperationID) throws -> RowKey? {
        try fate(of: key, after: id).key
    }

    /// What has become of a row that this side has deleted, or given another key.
    ///
    /// - Parameter key: that it had before.
    /// - Returns: its key by now; what has ended it, when it is gone.
    func fate(of deletion: Deletion, from key: RowKey) throws -> (key: RowKey?, end: Deletion?) {
        guard let newKey = deletion.newKey else { return (nil, deletion) }
        return try fate(of: newKey, after: deletion.mark.id)
    }

    private func fate(of key: RowKey, after id: OperationID) throws -> (key: RowKey?, end: Deletion?) {
        var (current, last) = (key, id)
        while let next = try ends(of: current).first(where: { $0.mark.id > last }) {
            guard let newKey = next.newKey else { return (nil, next) }
            (current, last) = (newKey, next.mark.id)
        }
        return (current, nil)
    }

    /// What others knew a row by that is gone, if this side itself has ended it, and no other row has had that since.
    func leftNumber(by end: Deletion, in table: Int) throws -> Number? {
        guard let number = end.number, let last = try formerKeys(ofNumber: number.bytes, in: table).last
        else { return nil }
        // Another one may have it from the beginning of the same transaction.
        return last.until == end.mark.id && last.key != nil ? number : nil
    }

    /// Whether this side itself has taken a key from its row since it had been read to a position.
    public func hasEnded(_ key: RowKey, since lsn: LSN) throws -> Bool {
        try deletions(of: key).contains { $0.mark.id.commitLSN >= lsn }
    }

    /// What took a key from the rows that had it, in order: this side itself, or our own direction. For the other side
    /// only what this side did counts, but the row is where both have left it.
    private func ends(of key: RowKey) throws -> [Deletion] {
        let own = try deletions(of: key)
        let passages = try deletions(of: Kind.passage.place(key))
        if passages.isEmpty { return own }
        return own.isEmpty ? passages : (own + passages).sorted { $0.mark.id < $1.mark.id }
    }

    /// Where rows have got to: each step of a long way is gone once, however many keys lie on it.
    private struct Ways {
        private var known: [RowKey: [Deletion]] = [:]
        private var places: [OperationID: RowKey?] = [:]

        private mutating func ends(of key: RowKey, in history: LocalHistory) throws -> [Deletion] {
            if let ends = known[key] { return ends }
            let ends = try history.ends(of: key)
            known[key] = ends
            return ends
        }

        mutating func end(from deletion: Deletion, in history: LocalHistory) throws -> RowKey? {
            var steps: [OperationID] = []
            var (step, end) = (deletion, RowKey?.none)
            while true {
                if let known = places[step.mark.id] {
                    end = known
                    break
                }
                steps.append(step.mark.id)
                guard let newKey = step.newKey else { break }
                let next = try ends(of: newKey, in: history)
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
            for id in steps { places.updateValue(end, forKey: id) }
            return end
        }
    }
}
