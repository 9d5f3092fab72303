/// What a database did itself lately: everything that the other one had not seen yet, as its writes come in.
///
/// Filled from the database's own stream alone, so that reading the stream again gives the same. Entries are dropped when
/// the other direction's context passes them (`trim`). Only operations that can conflict are kept: writes of shared
/// columns, inserts, deletes, and changed keys; values only where a policy may have to restore or merge them.
///
/// Its bound is soft: of two long backlogs that never saw each other one must be known in full, or nothing can be
/// decided. Who cannot afford that stops when `sizeBytes` passes a limit of theirs, and says so.
public struct LocalHistory: Sendable {
    struct ColumnWrite: Sendable {
        /// `SplitTable.SharedColumn.id`.
        var column: Int
        var mark: WriteMark
        /// Kept where the policy needs it; else, and for NULL, `nil`.
        var value: [UInt8]?
    }

    struct Deletion: Sendable {
        var mark: WriteMark
        /// The row got this key.
        var newKey: RowKey?
        var isMove: Bool { newKey != nil }
        /// The other side has deleted the same generation of the row, too.
        var isMatched = false
    }

    private struct Entry: Sendable {
        var deletions: [Deletion] = []
        /// The latest write of each column in the row's present generation.
        var writes: [ColumnWrite] = []
    }

    private struct Passage: Sendable {
        var commitLSN: LSN
        var key: RowKey
        var sizeBytes: Int
    }

    /// Bytes in use, roughly, from which on `isFull`.
    public let limitBytes: Int
    public private(set) var sizeBytes = 0
    /// Everything before it has been seen by the other side.
    public private(set) var trimmedLSN: LSN
    private var entries: [RowKey: Entry] = [:]
    /// In stream order; those before `head` are gone.
    private var passages: [Passage] = []
    private var head = 0

    public init(limitBytes: Int, trimmedLSN: LSN = .zero) {
        self.limitBytes = limitBytes
        self.trimmedLSN = trimmedLSN
    }

    /// Whether its stream should wait until the other direction has got on; see `SplitReader.mayRead`.
    public var isFull: Bool { sizeBytes >= limitBytes }
    public var isEmpty: Bool { entries.isEmpty }

    /// Whether nothing that this side did to a row, unseen by a remote transaction with this context, bears on its
    /// operations. Writes of owned columns and counters do not.
    public func isUntouched(_ key: RowKey, since context: CausalContext) -> Bool {
        guard let entry = entries[key] else { return true }
        return !entry.deletions.contains { !context.includes(commitLSN: $0.mark.id.commitLSN) }
            && !entry.writes.contains { !context.includes(commitLSN: $0.mark.id.commitLSN) }
    }

    /// What a row's key was when an operation of this side was written, if the other side has not seen it change since.
    public func formerKey(of key: RowKey, before id: OperationID) -> RowKey {
        var moves: [(id: OperationID, from: RowKey, to: RowKey)] = []
        for (from, entry) in entries {
            for deletion in entry.deletions where deletion.mark.id > id {
                if let to = deletion.newKey { moves.append((deletion.mark.id, from, to)) }
            }
        }
        return moves.sorted { $0.id > $1.id }.reduce(key) { current, move in move.to == current ? move.from : current }
    }

    /// What this side has made of a key that it no longer has, while the other side had not seen it.
    public func laterKey(of key: RowKey) -> RowKey {
        var (current, seen) = (key, Set<RowKey>())
        while seen.insert(current).inserted, let next = entries[current]?.deletions.last?.newKey { current = next }
        return current
    }

    func deletions(of key: RowKey) -> [Deletion] { entries[key]?.deletions ?? [] }

    func write(of column: Int, in key: RowKey) -> ColumnWrite? {
        entries[key]?.writes.first { $0.column == column }
    }

    /// Takes note of a local operation.
    mutating func record(_ operation: RowOperation, mark: WriteMark, table: SplitTable, arena: ChangeArena) {
        guard mark.id.commitLSN >= trimmedLSN else { return }
        switch operation.kind {
        case .insert, .update:
            recordWrites(operation, in: operation.key, mark, table, arena)
        case .delete:
            recordDeletion(of: operation.key, mark, newKey: nil)
        case .move(let newKey):
            recordDeletion(of: operation.key, mark, newKey: newKey)
            recordWrites(operation, in: newKey, mark, table, arena)
        case .echo:
            break
        }
    }

    /// Takes note of what a local change wrote to columns that do not leave (`SplitTable.watchedColumns`).
    mutating func recordWatched(_ change: Change, mark: WriteMark, table: SplitTable, arena: ChangeArena) {
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
            note(ColumnWrite(column: shared.id, mark: mark, value: nil), in: key)
            contentBytes += MemoryLayout<ColumnWrite>.stride
        }
        if contentBytes > 0 { notePassage(of: key, mark, contentBytes: contentBytes) }
    }

    /// Our own direction has deleted the row, or moved it away: local writes in it are gone with it.
    mutating func endGeneration(of key: RowKey) {
        guard entries[key] != nil else { return }
        entries[key]?.writes.removeAll()
        removeIfEmpty(key)
    }

    /// A delete of the other side was found to be of the same generation as a local one.
    mutating func match(_ id: OperationID, of key: RowKey) {
        guard let index = entries[key]?.deletions.firstIndex(where: { $0.mark.id == id }) else { return }
        entries[key]?.deletions[index].isMatched = true
    }

    /// Drops what the other side has seen: the context of the last transaction that its direction has applied.
    public mutating func trim(to lsn: LSN) {
        guard lsn > trimmedLSN else { return }
        trimmedLSN = lsn
        while head < passages.count, passages[head].commitLSN < lsn {
            let key = passages[head].key
            sizeBytes -= passages[head].sizeBytes
            head += 1
            guard entries[key] != nil else { continue }
            entries[key]?.deletions.removeAll { $0.mark.id.commitLSN < lsn }
            entries[key]?.writes.removeAll { $0.mark.id.commitLSN < lsn }
            removeIfEmpty(key)
        }
        if head == passages.count || head > 4_096, head * 2 > passages.count {
            passages.removeSubrange(..<head)
            head = 0
        }
    }

    private mutating func recordDeletion(of key: RowKey, _ mark: WriteMark, newKey: RowKey?) {
        entries[key, default: Entry()].writes.removeAll()
        entries[key, default: Entry()].deletions.append(Deletion(mark: mark, newKey: newKey))
        notePassage(of: key, mark, contentBytes: MemoryLayout<Deletion>.stride + (newKey?.bytes.count ?? 0))
    }

    private mutating func recordWrites(
        _ operation: RowOperation, in key: RowKey, _ mark: WriteMark, _ table: SplitTable,
        _ arena: ChangeArena
    ) {
        var contentBytes = 0
        for index in operation.columns {
            guard case .shared(let column) = table.columns[index].role, column.needsHistory else { continue }
            let value = column.needsValue ? operation.newValue(index, table: table, arena: arena) : nil
            contentBytes += MemoryLayout<ColumnWrite>.stride + (value?.count ?? 0)
            note(ColumnWrite(column: column.id, mark: mark, value: value), in: key)
        }
        if contentBytes > 0 { notePassage(of: key, mark, contentBytes: contentBytes) }
    }

    private mutating func note(_ write: ColumnWrite, in key: RowKey) {
        if let known = entries[key]?.writes.firstIndex(where: { $0.column == write.column }) {
            entries[key]?.writes[known] = write
        } else {
            entries[key, default: Entry()].writes.append(write)
        }
    }

    private mutating func notePassage(of key: RowKey, _ mark: WriteMark, contentBytes: Int) {
        // The key's array has a head of 32 bytes, the table of entries some room to spare.
        let size =
            MemoryLayout<Passage>.stride + 2 * MemoryLayout<Entry>.stride + 32 + key.bytes.count
            + contentBytes
        passages.append(Passage(commitLSN: mark.id.commitLSN, key: key, sizeBytes: size))
        sizeBytes += size
    }

    private mutating func removeIfEmpty(_ key: RowKey) {
        if let entry = entries[key], entry.deletions.isEmpty, entry.writes.isEmpty { entries[key] = nil }
    }
}
