import PostgresClient
import ReplicationCore

/// Which rows a group's references mean: the numbers are the source's own, so it is asked whose they are.
///
/// It tells what is so now. A row that it no longer has was deleted by a later change of its stream, or by our other
/// direction: both say themselves what becomes of rows that refer to it (decision on references).
struct SplitReferences: Sendable {
    private struct Number: Hashable, Sendable {
        var table: QualifiedName
        var bytes: [UInt8]
    }

    private var keys: [Number: RowKey] = [:]
    /// The first operation that holds a number.
    private var positions: [Number: OperationID] = [:]
    /// Every row that is meant.
    private(set) var rows: [RowKey: SplitReference] = [:]
    /// Whether the group has tables with references.
    private(set) var isEmpty = true

    /// Asks the source about a group's references.
    static func read(
        _ group: SplitGroup, _ targets: SplitTargets, on source: PostgresConnection, names: inout SplitStatementNames
    ) async throws -> SplitReferences {
        var references = SplitReferences()
        var asked: [(number: Number, reference: SplitReference, type: UInt32)] = []
        var known: Set<Number> = []
        for item in group.items {
            for operation in item.transaction?.operations ?? [] {
                guard let target = targets[operation.relation]?.target, !target.references.isEmpty else { continue }
                references.isEmpty = false
                for (column, reference) in target.references where operation.kind != .delete {
                    guard let bytes = target.bytes(column, operation, item.chunk.chunk.arena) else { continue }
                    let number = Number(table: reference.table, bytes: bytes)
                    guard known.insert(number).inserted else { continue }
                    references.positions[number] = operation.id
                    asked.append((number, reference, target.columns[column].typeOID))
                }
            }
        }
        var rest = asked[...]
        while !rest.isEmpty {
            let some = rest.prefix(1_000)
            rest = rest.dropFirst(some.count)
            var steps: [PipelineStep] = []
            for (number, reference, type) in some {
                var statement = SplitStatement()
                _ = statement.add(SplitStatements.parameter(number.bytes, isBinary: targets.isBinary), type)
                statement.sql = reference.keySQL
                let (name, isNew) = names.name(of: statement)
                if isNew { steps.append(.prepare(name: name, sql: statement.sql, parameterTypes: statement.types)) }
                steps.append(.execute(name: name, parameters: statement.parameters, binaryResult: targets.isBinary))
            }
            let results: [PostgresResult]
            do {
                results = try await source.run(steps)
            } catch let failure as PipelineError {
                throw failure.error
            }
            let answers = zip(steps, results).compactMap { step, result -> PostgresResult? in
                if case .execute = step { result } else { nil }
            }
            for (question, answer) in zip(some, answers) where answer.rowCount == 1 {
                let values = question.reference.match.indices.map { answer.bytes(row: 0, column: $0) }
                let key = RowKey(table: question.reference.tableID, values: values)
                references.keys[question.number] = key
                references.rows[key] = question.reference
            }
        }
        return references
    }

    /// Looks for rows under the keys that they have on the target, where one side has changed those and the other does not
    /// know yet.
    ///
    /// - Parameter lost: keys that the target does not have.
    mutating func follow(_ lost: Set<RowKey>, source: LocalHistory, target: LocalHistory) throws {
        for (number, key) in keys where lost.contains(key) {
            guard let position = positions[number], let reference = rows[key] else { continue }
            let found = try target.laterKey(of: source.formerKey(of: key, before: position))
            keys[number] = found
            rows[found] = reference
        }
    }

    /// The row that a number of the source means; `nil` when the source has no such row any more.
    func key(of bytes: [UInt8], in table: QualifiedName) -> RowKey? { keys[Number(table: table, bytes: bytes)] }
}
