import PostgresClient
import ReplicationCore

/// The statements prepared on one connection, by shape.
struct StatementCache: Sendable {
    private enum Key: Hashable {
        case row(RowStatement.Shape, definition: Int)
        case bulk(BulkStatement.Shape)
        case fused([FusedStatement.Part])
        case shapes

        var isFused: Bool {
            if case .fused = self { true } else { false }
        }
    }

    /// Each costs memory here and in the target's session; with many columns there may be any number of shapes.
    static let limit = 500
    /// Those for several tables cost several times as much, and their shapes multiply.
    static let fusedLimit = 64
    /// How many go at once when there are more.
    private static let evictedCount = 50

    private var names: [Key: (name: String, lastUse: Int)] = [:]
    private var count = 0
    private var useCount = 0
    /// What might become a statement, should it come again.
    private var askedOnce: Set<[FusedStatement.Part]> = []
    /// What the target has refused, and might refuse each time.
    private var refused: Set<[FusedStatement.Part]> = []
    /// Transactions that have become one of those for several tables.
    private var forms: [(form: FusedForm, lastUse: Int)] = []
    /// Counts the times that everything was thrown away.
    private(set) var generation = 0

    /// The name of a row statement; its first use adds the preparation to `batch`.
    mutating func name(
        for shape: RowStatement.Shape, definition: Int, plan: RelationPlan, batch: inout StepBatch
    ) -> String {
        name(.row(shape, definition: definition), &batch) {
            let statement = RowStatement(shape: shape, plan: plan)
            return (statement.sql, statement.parameterTypes)
        }
    }

    /// The name of a bulk statement; its first use adds the preparation to `batch`.
    mutating func name(for shape: BulkStatement.Shape, plan: RelationPlan, batch: inout StepBatch) -> String {
        name(.bulk(shape), &batch) { BulkStatement.sql(shape: shape, plan: plan) }
    }

    /// The name of a statement for several tables; its first use adds the preparation to `batch`. `nil` when the same has not been
    /// asked for before, since what comes once is not worth a statement of its own (unless `atOnce`), or was refused.
    mutating func name(
        for parts: [FusedStatement.Part], plans: [RelationPlan], atOnce: Bool, batch: inout StepBatch
    ) -> String? {
        let key = Key.fused(parts)
        if let known = known(key) { return known }
        if refused.contains(parts) { return nil }
        if !atOnce, askedOnce.insert(parts).inserted {
            if askedOnce.count > Self.limit { askedOnce = [parts] }
            return nil
        }
        if names.keys.count(where: \.isFused) >= Self.fusedLimit { evict(Self.fusedLimit / 8, &batch, where: \.isFused) }
        return name(key, &batch) { FusedStatement.sql(parts, plans: plans) }
    }

    /// The form that these changes have, if one like them came before. It holds as long as its statement: plans are forgotten
    /// together with all statements.
    mutating func form(of changes: ArraySlice<Change>) -> FusedForm? {
        guard let index = forms.indices.first(where: { forms[$0].form.matches(changes) }) else { return nil }
        useCount += 1
        forms[index].lastUse = useCount
        return forms[index].form
    }

    /// Keeps a form whose statement is prepared.
    mutating func keep(_ form: FusedForm) {
        if forms.count >= Self.fusedLimit, let oldest = forms.indices.min(by: { forms[$0].lastUse < forms[$1].lastUse }) {
            noteUse(of: forms.remove(at: oldest))
        }
        forms.append((form, useCount))
    }

    private mutating func noteUse(of known: (form: FusedForm, lastUse: Int)) {
        let key = Key.fused(known.form.parts)
        if let entry = names[key] { names[key]?.lastUse = max(entry.lastUse, known.lastUse) }
    }

    /// The name of `TargetShape.check`; its first use adds the preparation to `batch`.
    mutating func nameOfShapeCheck(batch: inout StepBatch) -> String { name(.shapes, &batch) { TargetShape.check } }

    /// Has what was refused as one statement go another way from now on: the target may mind what it cannot see in it.
    mutating func avoid(_ statements: [[FusedStatement.Part]]) {
        if refused.count + statements.count > Self.limit { refused = [] }
        refused.formUnion(statements)
    }

    private mutating func name(
        _ key: Key, _ batch: inout StepBatch, _ statement: () -> (String, [UInt32])
    ) -> String {
        if let known = known(key) { return known }
        if names.count >= Self.limit { evict(Self.evictedCount, &batch) { _ in true } }
        let (sql, types) = statement()
        count += 1
        let name = "lindero_\(count)"
        batch.prepare(name: name, sql: sql, parameterTypes: types)
        names[key] = (name, useCount)
        return name
    }

    /// In one look: hashing what a statement is for is most of finding it.
    private mutating func known(_ key: Key) -> String? {
        useCount += 1
        guard let index = names.index(forKey: key) else { return nil }
        names.values[index].lastUse = useCount
        return names.values[index].name
    }

    /// Throws away what was not used for longest; steps before this one may still use it.
    private mutating func evict(_ limit: Int, _ batch: inout StepBatch, where isMeant: (Key) -> Bool) {
        for form in forms { noteUse(of: form) }
        defer { forms.removeAll { names[.fused($0.form.parts)] == nil } }
        let entries = names.filter { isMeant($0.key) }.sorted { $0.value.lastUse < $1.value.lastUse }
        for (key, entry) in entries.prefix(limit) {
            batch.deallocate(name: entry.name)
            names[key] = nil
        }
    }

    /// Forgets every name: the statements were thrown away. Names are never used twice.
    mutating func forget() {
        names.removeAll()
        forms = []
        generation += 1
    }
}
