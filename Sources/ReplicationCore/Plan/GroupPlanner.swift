/// Turns a group of source transactions into few statements with the same result.
///
/// Changes to one row are netted (insert + update = insert, update + delete = delete, …). Inside a table, deletes go
/// first, then updates, both by key, then inserts in the source's order. What netting cannot express (a changed key, a
/// truncation, a table without key) is a barrier for its table. Should a statement still meet a constraint that the
/// source's own order would not have met, the caller applies the group again in exact order.
///
/// Where the group before is known, rows that it does not touch go first, as steps of their own: they need not wait for it.
public struct GroupPlanner {
    private let chunks: [ChangeChunk]
    /// Plan of a definition; `nil` when its table is not part of the direction.
    private let planOf: (Int) -> RelationPlan?
    private var plan = GroupPlan()
    /// What the group before touches; `nil` where this one waits for it in any case.
    private let neighbour: GroupFootprint?
    /// Whether nothing that follows can go first.
    private var isBound = false
    /// In the order of their first change, so that the same input gives the same plan.
    private var tables: [TableNet] = []
    /// Index into `tables` by definition; -1 for one not seen yet.
    private var tableOf: [Int] = []
    /// By index into `tables`: that of the same table's first definition here.
    private var firstOf: [Int] = []
    /// By that: the table's definition that is in use; the others hold nothing.
    private var usedOf: [Int] = []

    private init(chunks: [ChangeChunk], beside neighbour: GroupFootprint?, planOf: @escaping (Int) -> RelationPlan?) {
        self.chunks = chunks
        self.planOf = planOf
        self.neighbour = neighbour
        if neighbour != nil { plan.footprint = GroupFootprint() }
    }

    /// - Parameters:
    ///   - skipUpTo: transactions that ended at or before it are on the target already.
    ///   - neighbour: what the group before touches, if this one may begin while that is at work.
    public static func plan(
        _ chunks: [ChangeChunk], skipUpTo: LSN, beside neighbour: GroupFootprint? = nil, planOf: @escaping (Int) -> RelationPlan?
    ) -> GroupPlan {
        var planner = GroupPlanner(chunks: chunks, beside: neighbour, planOf: planOf)
        for index in chunks.indices { planner.add(chunk: index, skipUpTo: skipUpTo) }
        planner.flushAll()
        return planner.plan
    }

    private mutating func add(chunk index: Int, skipUpTo: LSN) {
        let chunk = chunks[index]
        chunk.arena.withValues { cells, bytes in
            let values = BorrowedValues(chunk: Int32(truncatingIfNeeded: index), cells: cells, bytes: bytes)
            for (number, span) in chunk.transactions.enumerated() {
                // A prepared one may be older than others that are there: its name tells, not its position.
                if span.commitLSN < skipUpTo, span.twoPhase == nil { continue }
                for position in span.changes {
                    add(chunk.changes[position], values, at: (index, position, number), commitLSN: span.commitLSN)
                }
            }
        }
    }

    private mutating func add(
        _ change: Change, _ values: BorrowedValues, at place: (chunk: Int, change: Int, transaction: Int), commitLSN: LSN
    ) {
        let row = GroupPlan.Step.row(chunk: place.chunk, change: place.change, transaction: place.transaction)
        if change.kind == .truncate {
            bindAll()
            plan.changeCount += 1
            return plan.steps.append(row)
        }
        let index = table(of: change.relation)
        guard tables[index].isApplied else { return plan.ignoredCount += 1 }
        if commitLSN < tables[index].copiedUpTo { return }
        plan.changeCount += 1
        if tables[index].isBulk, tables[index].add(change, values, chunks: chunks, plan: &plan) { return }
        if tables[index].firesTriggers { bindAll() } else { tables[index].bind(into: &plan, chunks: chunks) }
        plan.steps.append(row)
    }

    /// The net of a definition, now the one in use of its table: what came under another one goes first. A definition may
    /// come back, in a streamed transaction that changes its tables and thinks better of it.
    private mutating func table(of definition: Int) -> Int {
        while tableOf.count <= definition { tableOf.append(-1) }
        if tableOf[definition] < 0 { add(definition: definition) }
        let index = tableOf[definition]
        let first = firstOf[index]
        if usedOf[first] != index {
            tables[usedOf[first]].emit(into: &plan, chunks: chunks)
            // What the other definition has left for later comes before this.
            tables[index].bind(into: &plan, chunks: chunks)
            usedOf[first] = index
        }
        return index
    }

    private mutating func add(definition: Int) {
        let relation = planOf(definition)
        let index = tables.count
        let same = relation.flatMap { relation in tables.firstIndex { $0.relation?.table == relation.table } }
        tableOf[definition] = index
        if relation != nil { plan.definitions.append(definition) }
        let touched = relation.flatMap { relation in isBound ? nil : neighbour?.touched(relation, definition: definition) }
        tables.append(TableNet(definition: definition, relation: relation, beside: touched ?? .everything))
        firstOf.append(same ?? index)
        usedOf.append(index)
    }

    /// What follows may depend on anything, and anything may depend on it.
    private mutating func bindAll() {
        isBound = true
        for index in tables.indices { tables[index].bind(into: &plan, chunks: chunks) }
        plan.footprint.addEverything()
    }

    private mutating func flushAll() {
        for index in tables.indices { tables[index].emit(into: &plan, chunks: chunks) }
    }
}
