import PostgresClient
import ReplicationCore

/// Names of the row statements prepared on one connection.
struct StatementCache {
    private struct Key: Hashable {
        var definition: Int
        var shape: RowStatement.Shape
    }

    private var names: [Key: String] = [:]
    private var count = 0

    /// The statement's name; the first use adds its preparation to `steps`.
    mutating func name(
        for shape: RowStatement.Shape, definition: Int, plan: RelationPlan, steps: inout [PipelineStep]
    ) -> String {
        let key = Key(definition: definition, shape: shape)
        if let name = names[key] { return name }
        let statement = RowStatement(shape: shape, plan: plan)
        count += 1
        let name = "row_\(count)"
        steps.append(.prepare(name: name, sql: statement.sql, parameterTypes: statement.parameterTypes))
        names[key] = name
        return name
    }

    /// After a rollback nothing that was prepared in the failed pipeline is certain.
    mutating func forget(on connection: PostgresConnection) async throws {
        names.removeAll()
        _ = try await connection.execute("DEALLOCATE ALL")
    }
}
