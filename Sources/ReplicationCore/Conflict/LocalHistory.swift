/// What a database did itself lately: everything that the other one had not seen yet, as its writes come in.
///
/// Filled from the database's own stream alone, so that reading the stream again gives the same. Entries are dropped when
/// the other direction's context passes them (`trim`). Only operations that can conflict are kept: writes of shared
/// columns, inserts, deletes, and changed keys; values only where a policy may have to restore or merge them.
///
/// It lies in layers, in the order of the stream, and is dropped a layer at a time: to find every entry again that has been
/// seen took longer than to make it. What is too much for memory goes to `HistoryStorage` in runs, the older the earlier: of
/// two long backlogs that never saw each other one must be known in full, or nothing can be decided. In memory is then what
/// came since the last run, and a small index of each.
public struct LocalHistory: Sendable {
    private struct Layer: Sendable {
        var entries: [RowKey: Entry] = [:]
        /// Of the last transaction in it, and in what it says of older runs.
        var newestLSN = LSN.zero
        var sizeBytes = 0
    }

    /// What is kept beside the operations on rows. It lies among them, under a key of its own: so it is found, goes to files
    /// and is forgotten as they are.
    enum Kind: Int {
        /// What our own direction has made of a row, under the row's key.
        case passage = 1
        /// Which rows have had a number, under that.
        case number

        /// - Parameter key: where this kind's entry would lie, were it an operation on a row.
        func place(_ key: RowKey) -> RowKey { RowKey(table: rawValue << 29 + key.table, bytes: key.bytes) }
    }

    /// Stands for all references of a row: no other column has this number.
    private static let referenceColumn = Int(Int32.max)
    /// A look-up asks each of them.
    private static let layerCount = 8

    /// Bytes in memory, roughly, from which on they become a run.
    public private(set) var limitBytes: Int
    /// Memory in use, roughly, in bytes.
    public var sizeBytes: Int { recentBytes + indexBytes }
    /// Everything before it has been seen by the other side.
    public private(set) var trimmedLSN: LSN
    /// The last transaction that wrote a reference.
    private var newestReferenceLSN: LSN?
    /// How many runs there are.
    public var runCount: Int { runs.count }
    private let storage: HistoryStorage
    private let memo = HistoryMemo()
    /// The oldest first.
    private var runs: [HistoryRun] = []
    private var nextRun = 0
    private var recentBytes = 0
    private var indexBytes = 0
    /// Deletions that the other side was found to have made, too, under a key that nothing here has: since that was noted the
    /// key's columns have got another type, or the stream another form.
    private var strayMatches: Set<OperationID> = []
    /// The oldest first; at least one, the last, which takes what comes. No entry of it is empty.
    private var layers = [Layer()]

    public init(limitBytes: Int, trimmedLSN: LSN = .zero, storage: HistoryStorage) {
        self.limitBytes = limitBytes
        self.trimmedLSN = trimmedLSN
        self.storage = storage
    }

    public var isEmpty: Bool { runs.isEmpty && layers.allSatisfy(\.entries.isEmpty) }

    // MARK: looking

    /// Whether nothing that this side did to a row, unseen by a remote transaction with this context, bears on its
    /// operations. Writes of owned columns and counters do not, but for references.
    public func isUntouched(_ key: RowKey, since context: CausalContext) throws -> Bool {
        guard let entry = try entry(of: key) else { return true }
        return !entry.deletions.contains { !context.includes(commitLSN: $0.mark.id.commitLSN) }
            && !entry.writes.contains { !context.includes(commitLSN: $0.mark.id.commitLSN) }
    }

    /// The keys of the rows that have had a number on this side, one after the other, each with the operation that took
    /// either from the row, or deleted it, whoever did so; in order, as far as the other side may not know of it. `nil`
    /// stands for a time in which no row had the number.
    ///
    /// - Parameter number: what other rows know them by.
    public func formerKeys(ofNumber number: [UInt8], in table: Int) throws -> [(key: RowKey?, until: OperationID)] {
        try deletions(of: Self.place(ofNumber: number, in: table)).map { ($0.newKey, $0.mark.id) }
    }

    /// Where it is noted what keys the rows of a number had.
    private static func place(ofNumber number: [UInt8], in table: Int) -> RowKey {
        Kind.number.place(RowKey(table: table, values: [form(ofNumber: number)]))
    }

    /// Integers of two and four bytes are what the same ones of eight are: what refers to a row may be wider than its key.
    public static func form(ofNumber number: [UInt8]) -> [UInt8] {
        guard number.count == 2 || number.count == 4, let first = number.first else { return number }
        return Array(repeating: first & 0x80 == 0 ? 0 : 0xFF, count: 8 - number.count) + number
    }

    /// Whether this side has written any row's references, unseen by a remote transaction with this context.
    public func hasWrittenReferences(since context: CausalContext) -> Bool {
        newestReferenceLSN.map { !context.includes(commitLSN: $0) } ?? false
    }

    /// The same of one row.
    public func hasWrittenReferences(of key: RowKey, since context: CausalContext) throws -> Bool {
        try write(of: Self.referenceColumn, in: key).map { !context.includes(commitLSN: $0.mark.id.commitLSN) } ?? false
    }

    func deletions(of key: RowKey) throws -> [Deletion] { try entry(of: key)?.deletions ?? [] }

    func write(of column: Int, in key: RowKey) throws -> ColumnWrite? {
        try entry(of: key)?.writes.first { $0.column == column }
    }

    func entry(of key: RowKey) throws -> Entry? {
        var known = try olderEntry(of: key)
        for layer in layers where !layer.entries.isEmpty { layer.entries[key].map { Self.join($0, to: &known) } }
        guard var entry = known else { return nil }
        // What has been seen may lie in one layer, or in what was asked for before, with what has not.
        entry.forget(before: trimmedLSN)
        if !strayMatches.isEmpty {
            for index in entry.deletions.indices where strayMatches.contains(entry.deletions[index].mark.id) {
                entry.deletions[index].isMatched = true
            }
        }
        return entry.isEmpty ? nil : entry
    }

    /// What the runs say.
    private func olderEntry(of key: RowKey) throws -> Entry? {
        guard let last = runs.last else { return nil }
        let hash = HistoryRun.hash(key)
        guard runs.contains(where: { $0.mayHold(hash) }) else { return nil }
        return try memo.entry(of: key, upToRun: last.number, limitBytes: max(HistoryMemo.leastBytes, limitBytes / Self.layerCount)) {
            var known: Entry?
            for run in runs where run.mayHold(hash) { try run.entry(of: key, hash, in: storage).map { Self.join($0, to: &known) } }
            return known
        }
    }

    private static func join(_ part: Entry, to known: inout Entry?) {
        if known == nil { known = part } else { known?.goOn(with: part) }
    }

    // MARK: taking note

    /// Takes note of a local operation.
    ///
    /// - Throws: what the storage throws.
    mutating func record(_ operation: RowOperation, mark: WriteMark, table: SplitTable, arena: ChangeArena) throws {
        guard mark.id.commitLSN >= trimmedLSN else { return }
        switch operation.kind {
        case .insert, .update:
            recordWrites(operation, in: operation.key, mark, table, arena)
        case .delete:
            recordDeletion(of: operation.key, mark, newKey: nil, number: table.deletedNumber(by: operation, arena: arena))
        case .move(let newKey):
            recordDeletion(of: operation.key, mark, newKey: newKey)
            recordWrites(operation, in: newKey, mark, table, arena)
        case .echo:
            break
        }
        if recentBytes >= limitBytes { try makeRun() }
    }

    /// Takes note of whose number it was that a change has ended, with the row or apart from it, and that nobody had the one
    /// which it gives to a row. One of our own direction does so as well.
    ///
    /// - Throws: what the storage throws.
    mutating func recordNumber(_ change: Change, mark: WriteMark, table: SplitTable, arena: ChangeArena) throws {
        guard mark.id.commitLSN >= trimmedLSN else { return }
        if let number = table.endedNumber(by: change, arena: arena) {
            let key = RowOperation.oldKey(of: change, table, arena)
            recordDeletion(of: Self.place(ofNumber: number, in: table.id), mark, newKey: key)
        }
        if let number = table.begunNumber(by: change, arena: arena) {
            var begin = mark
            // A row may be referred to before it is made, if it is made in the same transaction.
            begin.id.position = 0
            recordDeletion(of: Self.place(ofNumber: number, in: table.id), begin, newKey: nil)
        }
        if recentBytes >= limitBytes { try makeRun() }
    }

    /// Takes note of what our own direction has made of a row that others may refer to: it may be one that this side had
    /// moved there.
    ///
    /// - Parameter newKey: `nil` when it has deleted the row.
    /// - Throws: what the storage throws.
    mutating func recordPassage(of key: RowKey, to newKey: RowKey?, mark: WriteMark) throws {
        guard mark.id.commitLSN >= trimmedLSN else { return }
        recordDeletion(of: Kind.passage.place(key), mark, newKey: newKey)
        if recentBytes >= limitBytes { try makeRun() }
    }

    /// Takes note of what a local change wrote to columns that do not leave (`SplitTable.watchedColumns`).
    ///
    /// - Throws: what the storage throws.
    mutating func recordWatched(_ change: Change, mark: WriteMark, table: SplitTable, arena: ChangeArena) throws {
        guard !table.watchedColumns.isEmpty, change.kind == .insert || change.kind == .update,
            mark.id.commitLSN >= trimmedLSN
        else { return }
        let isNewRow = change.kind == .insert || RowOperation.changesKey(change, table, arena)
        let key = RowOperation.newKey(of: change, table, arena)
        var contentBytes = 0
        for column in table.watchedColumns {
            guard case .shared(let shared) = column.role, isNewRow || RowOperation.isChanged(column.sourceIndex, change, arena)
            else { continue }
            // `prefer` alone decides here, and needs no value.
            layers[top].entries[key, default: Entry()].note(ColumnWrite(column: shared.id, mark: mark, value: nil))
            contentBytes += MemoryLayout<ColumnWrite>.stride
        }
        if contentBytes > 0 { noteSize(of: key, mark.id.commitLSN, contentBytes: contentBytes) }
        if recentBytes >= limitBytes { try makeRun() }
    }

    /// Our own direction has deleted the row, or moved it away: local writes in it are gone with it.
    mutating func endGeneration(of key: RowKey) {
        for index in layers.indices {
            guard let place = layers[index].entries.index(forKey: key) else { continue }
            layers[index].entries.values[place].writes.removeAll()
            if layers[index].entries.values[place].isEmpty { layers[index].entries.remove(at: place) }
        }
        guard let run = lastRun(thatMayHold: key) else { return }
        // No less than what a deletion says.
        let cleared = max(layers[top].entries[key]?.clearedLSN ?? .zero, run.newestLSN)
        layers[top].entries[key, default: Entry()].clearedLSN = cleared
        noteSize(of: key, run.newestLSN, contentBytes: 0)
    }

    /// A delete of the other side was found to be of the same generation as a local one.
    ///
    /// - Throws: what the storage throws.
    mutating func match(_ id: OperationID, of key: RowKey) throws {
        for index in layers.indices.reversed() {
            guard let place = layers[index].entries[key]?.deletions.firstIndex(where: { $0.mark.id == id }) else { continue }
            layers[index].entries[key]?.deletions[place].isMatched = true
            return
        }
        guard id.commitLSN >= trimmedLSN else { return }
        guard let run = lastRun(thatMayHold: key), try olderEntry(of: key)?.deletions.contains(where: { $0.mark.id == id }) == true
        else {
            strayMatches.insert(id)
            return
        }
        layers[top].entries[key, default: Entry()].matched.append(id)
        noteSize(of: key, run.newestLSN, contentBytes: MemoryLayout<OperationID>.stride)
    }

    /// Changes `limitBytes`.
    ///
    /// - Throws: what the storage throws.
    public mutating func keep(within limitBytes: Int) throws {
        self.limitBytes = limitBytes
        if recentBytes > limitBytes { try makeRun() }
    }

    /// Drops what the other side has seen: the context of the last transaction that its direction has applied.
    public mutating func trim(to lsn: LSN) {
        guard lsn > trimmedLSN else { return }
        trimmedLSN = lsn
        if !strayMatches.isEmpty { strayMatches = strayMatches.filter { $0.commitLSN >= lsn } }
        while let run = runs.first, run.newestLSN < lsn {
            runs.removeFirst()
            indexBytes -= run.indexBytes
            storage.remove(run.number)
        }
        if runs.isEmpty { memo.clear() }
        let seen = layers.prefix { $0.newestLSN < lsn }.count
        for layer in layers[..<seen] { recentBytes -= layer.sizeBytes }
        if seen < layers.count {
            layers.removeFirst(seen)
        } else {
            layers.removeFirst(seen - 1)
            clearTop()
        }
    }

    private mutating func makeRun() throws {
        let run = try HistoryRun.make(
            number: nextRun, newestLSN: layers[top].newestLSN, layers.map(\.entries), in: storage)
        nextRun += 1
        runs.append(run)
        indexBytes += run.indexBytes
        layers.removeFirst(top)
        clearTop()
        recentBytes = 0
    }

    private var top: Int { layers.count - 1 }

    private mutating func clearTop() {
        layers[top].entries.removeAll(keepingCapacity: true)
        layers[top].newestLSN = .zero
        layers[top].sizeBytes = 0
    }

    private func lastRun(thatMayHold key: RowKey) -> HistoryRun? {
        if runs.isEmpty { return nil }
        let hash = HistoryRun.hash(key)
        return runs.last { $0.mayHold(hash) }
    }

    private mutating func recordDeletion(of key: RowKey, _ mark: WriteMark, newKey: RowKey?, number: Number? = nil) {
        // Where it is: a row that is renamed again and again has many.
        layers[top].entries[key, default: Entry()].end(Deletion(mark: mark, newKey: newKey, number: number))
        let contentBytes = MemoryLayout<Deletion>.stride + (newKey?.bytes.count ?? 0) + (number.map { $0.bytes.count + 32 } ?? 0)
        noteSize(of: key, mark.id.commitLSN, contentBytes: contentBytes)
    }

    private mutating func recordWrites(
        _ operation: RowOperation, in key: RowKey, _ mark: WriteMark, _ table: SplitTable,
        _ arena: ChangeArena
    ) {
        var contentBytes = 0
        if !table.references.isEmpty, operation.columns.contains(where: { table.references[$0] != nil }) {
            newestReferenceLSN = mark.id.commitLSN
            contentBytes += MemoryLayout<ColumnWrite>.stride
            layers[top].entries[key, default: Entry()].note(ColumnWrite(column: Self.referenceColumn, mark: mark, value: nil))
        }
        for index in operation.columns {
            guard case .shared(let column) = table.columns[index].role, column.needsHistory else { continue }
            let value = column.needsValue ? operation.newValue(index, table: table, arena: arena) : nil
            contentBytes += MemoryLayout<ColumnWrite>.stride + (value?.count ?? 0)
            layers[top].entries[key, default: Entry()].note(ColumnWrite(column: column.id, mark: mark, value: value))
        }
        if contentBytes > 0 { noteSize(of: key, mark.id.commitLSN, contentBytes: contentBytes) }
    }

    private mutating func noteSize(of key: RowKey, _ lsn: LSN, contentBytes: Int) {
        // The key's array has a head of 32 bytes, the table of entries some room to spare.
        let size = 2 * (MemoryLayout<Entry>.stride + MemoryLayout<RowKey>.stride) + 64 + key.bytes.count + contentBytes
        recentBytes += size
        layers[top].sizeBytes += size
        layers[top].newestLSN = max(layers[top].newestLSN, lsn)
        guard layers[top].sizeBytes > limitBytes / Self.layerCount else { return }
        let full = layers[top]
        // No layer goes before an older one.
        layers.append(Layer(entries: Dictionary(minimumCapacity: full.entries.count), newestLSN: full.newestLSN))
    }
}
