import PostgresClient
import ReplicationCore

/// The statements prepared on one connection, by shape.
struct StatementCache {
    private enum Key: Hashable {
        case row(RowStatement.Shape, definition: Int)
        case bulk(BulkStatement.Shape)
    }

    private var names: [Key: String] = [:]
    private var count = 0
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

    private mutating func name(
        _ key: Key, _ batch: inout StepBatch, _ statement: () -> (String, [UInt32])
    ) -> String {
        if let name = names[key] { return name }
        let (sql, types) = statement()
        count += 1
        let name = "lindero_\(count)"
        batch.prepare(name: name, sql: sql, parameterTypes: types)
        names[key] = name
        return name
    }

    /// Forgets every name: the statements were thrown away. Names are never used twice.
    mutating func forget() {
        names.removeAll()
        generation += 1
    }
}
