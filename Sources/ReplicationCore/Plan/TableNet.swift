/// The net effect of a run of changes on one table, row by row.
struct TableNet {
    private enum Effect: UInt8 {
        /// Inserted and deleted again: nothing is left to do.
        case nothing
        case insert, update, delete
        /// A row that was there is deleted, and another with its key inserted.
        case replace
    }

    private struct Row {
        var hash: UInt32
        var effect: Effect
        /// `values` may have unchanged TOAST values.
        var isPartial: Bool
        /// Where the key's cells are.
        var key: RowSource
        /// The row's newest values.
        var values: RowSource
    }

    let definition: Int
    let relation: RelationPlan?
    let isBulk: Bool
    let firesTriggers: Bool
    let copiedUpTo: LSN
    private let keyIndexes: [Int]
    /// What of the group before stands in the way of a row.
    private var neighbour: GroupFootprint.Touched
    private var rows: [Row] = []
    /// Open addressing: index into `rows` plus one, 0 is free. The size is a power of two.
    private var slots: [Int32] = []

    init(definition: Int, relation: RelationPlan?, beside neighbour: GroupFootprint.Touched = .everything) {
        self.neighbour = neighbour
        self.definition = definition
        self.relation = relation
        isBulk = relation?.isBulk ?? false
        firesTriggers = relation?.firesTriggers ?? false
        copiedUpTo = relation?.copiedUpTo ?? .zero
        keyIndexes = relation.map { plan in plan.keyColumns.map { plan.columns[$0].sourceIndex } } ?? []
    }

    /// Whether the table is part of the direction.
    var isApplied: Bool { relation != nil }

    /// Nets one change in; false when it can't be: a changed key, or a state that the source cannot have had.
    ///
    /// - Parameter values: of the change's chunk.
    mutating func add(_ change: Change, _ values: BorrowedValues, chunks: [ChangeChunk], plan: inout GroupPlan) -> Bool {
        let new = RowSource(chunk: values.chunk, first: change.new.firstCell)
        let old = RowSource(chunk: values.chunk, first: change.old.firstCell)
        let key = change.kind == .delete ? old : new
        if change.kind == .update, change.oldKind != nil, !sameKey(old, new, values, chunks) { return false }
        // In an array or a COPY, a value that was not sent would be NULL.
        if change.kind == .insert, change.new.hasUnchanged { return false }
        guard let hash = hash(of: key, values) else { return false }
        guard let index = find(key, hash, values, chunks) else {
            let effect: Effect =
                switch change.kind {
                case .insert: .insert
                case .update: .update
                case .delete, .truncate: .delete
                }
            let isPartial = change.kind != .delete && change.new.hasUnchanged
            insert(Row(hash: hash, effect: effect, isPartial: isPartial, key: key, values: key))
            return true
        }
        // Under a deferred key, or one that the target alone has, the row that was inserted need not be the one that is meant.
        if rows[index].effect == .insert, change.oldKind == .full, !isSame(old, values, as: rows[index].values, chunks, plan) {
            return false
        }
        if change.kind == .update, rows[index].effect == .update || rows[index].effect == .insert {
            // The same bytes, and nearer to what comes next.
            rows[index].key = key
        }
        return net(change.kind, new, isPartial: change.new.hasUnchanged, at: index, chunks: chunks, plan: &plan)
    }

    private mutating func net(
        _ kind: Change.Kind, _ new: RowSource, isPartial: Bool, at index: Int, chunks: [ChangeChunk],
        plan: inout GroupPlan
    ) -> Bool {
        switch (rows[index].effect, kind) {
        case (.nothing, .insert):
            rows[index].effect = .insert
            rows[index].values = new
            rows[index].isPartial = isPartial
        case (.delete, .insert):
            rows[index].effect = .replace
            rows[index].values = new
            rows[index].isPartial = isPartial
        case (.insert, .update), (.update, .update), (.replace, .update):
            if isPartial {
                rows[index].values = merge(rows[index].values, new, chunks: chunks, plan: &plan)
            } else {
                rows[index].values = new
                rows[index].isPartial = false
            }
        case (.insert, .delete):
            rows[index].effect = .nothing
        case (.update, .delete), (.replace, .delete):
            rows[index].effect = .delete
        case (.insert, .insert), (.update, .insert), (.replace, .insert), (.nothing, .update), (.delete, .update),
            (.nothing, .delete), (.delete, .delete), (_, .truncate):
            return false
        }
        return true
    }

    /// Whether a whole old row is one that was netted. A value that TOAST left out there is not known.
    private func isSame(
        _ old: RowSource, _ values: BorrowedValues, as known: RowSource, _ chunks: [ChangeChunk], _ plan: GroupPlan
    ) -> Bool {
        guard let width = relation?.sourceWidth else { return true }
        return (0..<width).allSatisfy { index in
            let place = plan.location(known, sourceIndex: index)
            let arena = chunks[Int(place.chunk)].arena
            let (one, other) = (arena.cells[place.cell], chunks[Int(old.chunk)].arena.cells[old.first + index])
            guard one.kind != .unchanged, other.kind != .unchanged else { return true }
            guard one.kind == other.kind, one.length == other.length else { return false }
            if one.kind == .null { return true }
            return arena.withCell(place.cell) { _, bytes in
                chunks[Int(old.chunk)].arena.withCell(old.first + index) { _, others in bytes.elementsEqual(others) }
            }
        }
    }

    /// The newer row; where it has an unchanged TOAST value, the older row's cell.
    private func merge(
        _ old: RowSource, _ new: RowSource, chunks: [ChangeChunk], plan: inout GroupPlan
    ) -> RowSource {
        guard let width = relation?.sourceWidth else { return new }
        let cells = chunks[Int(new.chunk)].arena.cells
        let merged = (0..<width).map { index -> CellLocation in
            cells[new.first + index].kind == .unchanged
                ? plan.location(old, sourceIndex: index) : CellLocation(chunk: new.chunk, cell: new.first + index)
        }
        plan.mergedRows.append(merged)
        return RowSource(chunk: -1, first: plan.mergedRows.count - 1)
    }

    /// Adds the statements for everything netted so far, and starts anew: those for rows that the group before does not
    /// touch to the plan's free steps.
    mutating func emit(into plan: inout GroupPlan, chunks: [ChangeChunk]) {
        guard let relation, !rows.isEmpty else { return }
        plan.footprint.add(rows.lazy.map(\.hash), of: relation.table, definition: definition)
        switch neighbour {
        case .nothing: emitRows(to: \.free, of: &plan, chunks)
        case .everything: emitRows(to: \.steps, of: &plan, chunks)
        case .rows(_, let hashes):
            let bound = rows.filter { hashes.contains($0.hash) }
            if !bound.isEmpty { rows.removeAll { hashes.contains($0.hash) } }
            emitRows(to: \.free, of: &plan, chunks)
            rows = bound
            emitRows(to: \.steps, of: &plan, chunks)
        }
        rows.removeAll(keepingCapacity: true)
        slots.removeAll(keepingCapacity: true)
    }

    /// Adds them, and has everything that follows wait for the group before.
    mutating func bind(into plan: inout GroupPlan, chunks: [ChangeChunk]) {
        emit(into: &plan, chunks: chunks)
        neighbour = .everything
        if let relation { plan.footprint.addAll(of: relation.table) }
    }

    private mutating func emitRows(
        to steps: WritableKeyPath<GroupPlan, [GroupPlan.Step]>, of plan: inout GroupPlan, _ chunks: [ChangeChunk]
    ) {
        guard let relation, !rows.isEmpty else { return }
        func append(_ kind: Change.Kind, written: [Int], _ rows: [RowSource]) {
            let shape = BulkStatement.Shape(kind: kind, definition: definition, written: written)
            plan[keyPath: steps].append(.bulk(BulkStatement(shape: shape, rows: rows)))
        }
        let all = Array(relation.columns.indices)
        // In the order in which the source made them: so they lie on disk.
        let inserts = sources(\.values) { $0 == .insert || $0 == .replace }
        // Of all that come, these are mostly none or all.
        if inserts.count < rows.count || rows.contains(where: { $0.effect == .replace }) {
            sortByKey(chunks)
            let deletes = sources(\.key) { $0 == .delete || $0 == .replace }
            if !deletes.isEmpty { append(.delete, written: [], deletes) }
            let key = Set(relation.keyColumns)
            let updates = updates(all.filter { !key.contains($0) }, chunks, &plan)
            for update in updates { append(.update, written: update.written, update.rows) }
        }
        if !inserts.isEmpty { append(.insert, written: all, inserts) }
    }

    private func sources(_ source: KeyPath<Row, RowSource>, where isMeant: (Effect) -> Bool) -> [RowSource] {
        var found: [RowSource] = []
        found.reserveCapacity(rows.count { isMeant($0.effect) })
        for row in rows where isMeant(row.effect) { found.append(row[keyPath: source]) }
        return found
    }

    /// Neighbours in the key are mostly neighbours on disk: the target then finds each page in its caches.
    ///
    /// The order among different rows is free. Integers, times and UUIDs sort as the target's index does, by their
    /// first bytes; of other keys the order is some order.
    private mutating func sortByKey(_ chunks: [ChangeChunk]) {
        guard rows.count > Self.sortedRows, let first = keyIndexes.first else { return }
        var order = PrefixOrder(capacity: rows.count)
        for row in rows { order.append(prefix(of: row.key, first, chunks)) }
        rows = order.sorted().map { rows[$0] }
    }

    private static let sortedRows = 32

    private func prefix(of row: RowSource, _ column: Int, _ chunks: [ChangeChunk]) -> UInt64 {
        chunks[Int(row.chunk)].arena.withCell(row.first + column) { _, bytes in
            var prefix: UInt64 = 0
            for index in 0..<8 { prefix = prefix << 8 | UInt64(index < bytes.count ? bytes[index] : 0) }
            return prefix
        }
    }

    /// Updates that leave out the same unchanged values share a statement.
    private func updates(
        _ writable: [Int], _ chunks: [ChangeChunk], _ plan: inout GroupPlan
    ) -> [(written: [Int], rows: [RowSource])] {
        guard let relation else { return [] }
        var groups: [(written: [Int], rows: [RowSource])] = []
        for row in rows where row.effect == .update {
            let written =
                row.isPartial ? writable.filter { !isUnchanged($0, row.values, relation, plan, chunks) } : writable
            if written.isEmpty {
                plan.withheldCount += 1
            } else if let index = groups.firstIndex(where: { $0.written.count == written.count && $0.written == written }) {
                groups[index].rows.append(row.values)
            } else {
                groups.append((written, [row.values]))
            }
        }
        return groups
    }

    private func isUnchanged(
        _ column: Int, _ row: RowSource, _ relation: RelationPlan, _ plan: GroupPlan, _ chunks: [ChangeChunk]
    ) -> Bool {
        let location = plan.location(row, sourceIndex: relation.columns[column].sourceIndex)
        return chunks[Int(location.chunk)].arena.cells[location.cell].kind == .unchanged
    }

    // MARK: the hash table

    private func find(_ key: RowSource, _ hash: UInt32, _ values: BorrowedValues, _ chunks: [ChangeChunk]) -> Int? {
        guard !slots.isEmpty else { return nil }
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        while slots[slot] != 0 {
            let index = Int(slots[slot]) - 1
            if rows[index].hash == hash, sameKey(rows[index].key, key, values, chunks) { return index }
            slot = (slot + 1) & mask
        }
        return nil
    }

    private mutating func insert(_ row: Row) {
        rows.append(row)
        if rows.count * 2 > slots.count {
            slots = [Int32](repeating: 0, count: max(64, slots.count * 4))
            for index in rows.indices { place(index) }
        } else {
            place(rows.count - 1)
        }
    }

    private mutating func place(_ index: Int) {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: rows[index].hash) & mask
        while slots[slot] != 0 { slot = (slot + 1) & mask }
        slots[slot] = Int32(truncatingIfNeeded: index + 1)
    }

    /// FNV-1a over the key's bytes; `nil` when a key cell has no value. A key is never a merged row.
    private func hash(of row: RowSource, _ values: BorrowedValues) -> UInt32? {
        var result: UInt64 = 0xcbf2_9ce4_8422_2325
        for index in keyIndexes {
            let cell = values.cells[row.first + index]
            guard cell.hasValue else { return nil }
            for byte in values.bytes(of: cell) { result = (result ^ UInt64(byte)) &* 0x100_0000_01b3 }
            result = (result ^ 0xff) &* 0x100_0000_01b3
        }
        // The low bits choose the slot; FNV's are weak for keys that differ in their last byte only.
        return UInt32(truncatingIfNeeded: result ^ (result >> 32))
    }

    /// Whether a row has the key of one of the borrowed chunk.
    private func sameKey(_ row: RowSource, _ other: RowSource, _ values: BorrowedValues, _ chunks: [ChangeChunk]) -> Bool {
        if row.chunk == values.chunk { return sameKey(row, values, other, values) }
        return chunks[Int(row.chunk)].arena.withValues { cells, bytes in
            sameKey(row, BorrowedValues(chunk: row.chunk, cells: cells, bytes: bytes), other, values)
        }
    }

    private func sameKey(
        _ left: RowSource, _ leftValues: BorrowedValues, _ right: RowSource, _ rightValues: BorrowedValues
    ) -> Bool {
        for index in keyIndexes {
            let (first, second) = (leftValues.cells[left.first + index], rightValues.cells[right.first + index])
            guard first.kind == second.kind, first.length == second.length,
                leftValues.bytes(of: first).elementsEqual(rightValues.bytes(of: second))
            else { return false }
        }
        return true
    }
}

/// What a chunk holds, borrowed for a while: whoever goes to the chunk for each key counts references each time.
struct BorrowedValues {
    var chunk: Int32
    var cells: UnsafeBufferPointer<Cell>
    var bytes: UnsafeRawBufferPointer

    @inline(__always)
    func bytes(of cell: Cell) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[cell.range])
    }
}
