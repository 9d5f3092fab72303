import PostgresClient
import ReplicationCore

/// What is asked about a group's references: the numbers are the source's own, so it is asked whose they are.
///
/// It tells what is so now; `ReferenceMeanings` goes back from there. Where the source no longer has the row, a later change of
/// its stream says what becomes of rows that refer to it, or our other direction has (decision on references).
struct SplitReferences: Sendable {
    typealias Moment = ReferenceMeanings.Moment

    private var meanings = ReferenceMeanings()
    /// Tables that are referred to, by `SplitTable.id`.
    private var tables: [Int: SplitReference] = [:]
    /// Whether the group has tables with references.
    private(set) var isEmpty = true
    /// Whether a key may pass from one row to another within the group.
    private(set) var mayMove = false

    /// Whether the group refers to no rows.
    var areNone: Bool { meanings.isEmpty }
    /// Every row that may be meant.
    var rows: [(key: RowKey, reference: SplitReference)] {
        meanings.rows.compactMap { key in tables[key.table].map { (key, $0) } }
    }

    /// Asks the source about a group's references; it shows what was read of it (`SentCommits`).
    static func read(
        _ group: SplitGroup, _ targets: SplitTargets, on source: PostgresConnection, names: inout SplitStatementNames
    ) async throws -> SplitReferences {
        var references = SplitReferences()
        references.mayMove = group.items.contains(where: \.endsGroup)
        var asked: [(number: ReferenceMeanings.Number, reference: SplitReference)] = []
        for item in group.items {
            for operation in item.transactions.lazy.flatMap(\.operations) {
                guard let target = targets[operation.relation]?.target, !target.references.isEmpty else { continue }
                references.isEmpty = false
                for (column, reference) in target.references where operation.kind != .delete {
                    guard let bytes = target.bytes(column, operation, item.chunk.chunk.arena) else { continue }
                    references.tables[reference.tableID] = reference
                    let number = ReferenceMeanings.Number(table: reference.tableID, bytes: bytes)
                    if references.meanings.note(number, in: operation) { asked.append((number, reference)) }
                }
            }
        }
        let askedTables = Set(asked.map(\.reference.table))
        var rest = asked[...]
        while !rest.isEmpty {
            let some = rest.prefix(1_000)
            rest = rest.dropFirst(some.count)
            var steps: [PipelineStep] = []
            for (number, reference) in some {
                let statement = reference.ask(for: number.bytes, isBinary: targets.isBinary)
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
                let match = question.reference.match
                guard let ownBytes = answer.bytes(row: 0, column: match.count) else { continue }
                let key = RowKey(
                    table: question.reference.tableID, values: match.indices.map { answer.bytes(row: 0, column: $0) })
                references.meanings.answer(question.number, key, ownBytes: ownBytes)
            }
        }
        // Afterwards: it may have come to be another's in between.
        try await targets.settings.sourceTables.require(askedTables, on: source)
        return references
    }

    /// Goes back to what the numbers meant when they were written.
    ///
    /// - Parameter source: read past the moment when it was asked.
    mutating func goBack(in source: LocalHistory) throws { try meanings.goBack(in: source) }

    /// Looks for what the target has made of the rows, where the source may not know it yet.
    mutating func follow(in target: LocalHistory) throws -> ReferenceMeanings.News { try meanings.follow(in: target) }

    /// What the group's references mean at one point of it.
    ///
    /// - Parameters:
    ///   - context: of the transaction that refers to rows.
    ///   - effects: of what came before in the group.
    func moment(in context: CausalContext, after effects: GroupEffects) -> Moment {
        meanings.moment(in: context, after: effects)
    }
}

extension ReferenceMeanings.Moment {
    /// The target's key of the row that a number of the source means in an operation; `nil` when there is none.
    func key(of bytes: [UInt8], _ reference: SplitReference, in operation: RowOperation) -> RowKey? {
        key(of: ReferenceMeanings.Number(table: reference.tableID, bytes: bytes), in: operation)
    }
}
