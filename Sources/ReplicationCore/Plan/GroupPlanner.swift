/// Turns a group of source transactions into few statements with the same result.
///
/// Changes to one row are netted (insert + update = insert, update + delete = delete, …). Inside a table, deletes go
/// first, then updates, both by key, then inserts in the source's order. What netting cannot express (a changed key, a
/// truncation, a table without key) is a barrier for its table. Should a statement still meet a constraint that the
/// source's own order would not have met, the caller applies the group again in exact order.
public struct GroupPlanner {
    private let chunks: [ChangeChunk]
    /// Plan of a definition; `nil` when its table is not part of the direction.
    private let planOf: (Int) -> RelationPlan?
    private var plan = GroupPlan()
    /// In the order of their first change, so that the same input gives the same plan.
    private var tables: [TableNet] = []
    /// Index into `tables` by definition; -1 for one not seen yet.
    private var tableOf: [Int] = []
    /// By index into `tables`: that of the same table's first definition here.
    private var firstOf: [Int] = []
    /// By that: the table's definition that is in use; the others hold nothing.
    private var usedOf: [Int] = []

    private init(chunks: [ChangeChunk], planOf: @escaping (Int) -> RelationPlan?) {
        self.chunks = chunks
        self.planOf = planOf
    }

    /// - Parameter skipUpTo: transactions that ended at or before it are on the target already.
    public static func plan(
        _ chunks: [ChangeChunk], skipUpTo: LSN, planOf: @escaping (Int) -> RelationPlan?
    ) -> GroupPlan {
        var planner = GroupPlanner(chunks: chunks, planOf: planOf)
        for index in chunks.indices { planner.add(chunk: index, skipUpTo: skipUpTo) }
        planner.flushAll()
        return planner.plan
    }

    private mutating func add(chunk index: Int, skipUpTo: LSN) {
        let chunk = chunks[index]
        for (number, span) in chunk.transactions.enumerated() {
            // A prepared one may be older than others that are there: its name tells, not its position.
            if span.commitLSN < skipUpTo, span.twoPhase == nil { continue }
            for position in span.changes {
                add(chunk.changes[position], at: (index, position, number), commitLSN: span.commitLSN)
            }
        }
    }

    private mutating func add(
        _ change: Change, at place: (chunk: Int, change: Int, transaction: Int), commitLSN: LSN
    ) {
        let row = GroupPlan.Step.row(chunk: place.chunk, change: place.change, transaction: place.transaction)
        if change.kind == .truncate {
            flushAll()
            plan.changeCount += 1
            return plan.steps.append(row)
        }
        let index = table(of: change.relation)
        guard tables[index].isApplied else { return plan.ignoredCount += 1 }
        if commitLSN < tables[index].copiedUpTo { return }
        plan.changeCount += 1
        if tables[index].isBulk, tables[index].add(change, chunk: place.chunk, chunks: chunks, plan: &plan) { return }
        if tables[index].firesTriggers { flushAll() } else { tables[index].emit(into: &plan, chunks: chunks) }
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
        tables.append(TableNet(definition: definition, relation: relation))
        firstOf.append(same ?? index)
        usedOf.append(index)
    }

    private mutating func flushAll() {
        for index in tables.indices { tables[index].emit(into: &plan, chunks: chunks) }
    }
}
