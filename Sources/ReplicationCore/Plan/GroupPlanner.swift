/// Turns a group of source transactions into few statements with the same result.
///
/// Changes to one row are netted (insert + update = insert, update + delete = delete, …). Inside a table, deletes go
/// first, then updates in the order of their first change, then inserts. What netting cannot express (a changed key, a
/// truncation, a table without key) is a barrier for its table. Should a statement still meet a constraint that the
/// source's own order would not have met, the caller applies the group again in exact order.
public struct GroupPlanner {
    private let chunks: [ChangeChunk]
    /// Plan of a definition; `nil` when its table is not part of the direction.
    private let planOf: (Int) -> RelationPlan?
    private var plan = GroupPlan()
    private var tables: [Int: TableNet] = [:]
    /// Tables in the order of their first change, so that the same input gives the same plan.
    private var order: [Int] = []

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
            if span.isCommitted && span.endLSN <= skipUpTo { continue }
            for position in span.changes {
                add(chunk.changes[position], at: (index, position, number), in: span)
            }
        }
    }

    private mutating func add(
        _ change: Change, at place: (chunk: Int, change: Int, transaction: Int), in span: TransactionSpan
    ) {
        if change.kind == .truncate {
            flushAll()
            plan.changeCount += 1
            return plan.steps.append(.row(chunk: place.chunk, change: place.change, transaction: place.transaction))
        }
        let definition = change.relation
        if tables[definition] == nil { begin(definition) }
        guard let relation = tables[definition]?.relation else { return plan.ignoredCount += 1 }
        if span.commitLSN < relation.copiedUpTo { return }
        plan.changeCount += 1
        let isTaken =
            relation.isBulk
            && tables[definition]!.add(change, chunk: place.chunk, chunks: chunks, plan: &plan)
        if !isTaken {
            flush(definition)
            plan.steps.append(.row(chunk: place.chunk, change: place.change, transaction: place.transaction))
        }
    }

    private mutating func begin(_ definition: Int) {
        let relation = planOf(definition)
        // A new definition of the same table: what came under the old one goes first.
        if let relation {
            for (other, net) in tables where net.relation?.table == relation.table { flush(other) }
        }
        tables[definition] = TableNet(definition: definition, relation: relation)
        order.append(definition)
    }

    private mutating func flushAll() { for definition in order { flush(definition) } }

    private mutating func flush(_ definition: Int) {
        guard var net = tables.removeValue(forKey: definition) else { return }
        net.emit(into: &plan, chunks: chunks)
        tables[definition] = net
    }
}
