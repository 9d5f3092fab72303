import PostgresClient
import ReplicationCore

/// Which rows a group's references mean: the numbers are the source's own, so it is asked whose they are.
///
/// It tells what is so now, and its history what was so then: under a key that it has given to the row since, the target may
/// have another one. The target's history says whether it has changed that row's key itself, as of the rows of operations. A
/// row that the source no longer has was deleted by a later change of its stream, or by our other direction: both say
/// themselves what becomes of rows that refer to it (decision on references).
struct SplitReferences: Sendable {
    private struct Number: Hashable, Sendable {
        var table: QualifiedName
        var bytes: [UInt8]
    }

    /// A row that the source has.
    private struct Answer: Sendable {
        let reference: SplitReference
        /// In the form of its own table.
        let number: [UInt8]
        /// What it has now.
        let key: RowKey
        /// Keys that the row had before, each with the operation that ended that; in order.
        var formerKeys: [(key: RowKey, until: OperationID)] = []

        func key(at id: OperationID) -> RowKey { formerKeys.first { $0.until > id }?.key ?? key }
    }

    private var answers: [Number: Answer] = [:]
    /// The first operation that holds a number, and the last one.
    private var holders: [Number: ClosedRange<OperationID>] = [:]
    /// Rows that are meant by the source's keys.
    private var meant: [RowKey: SplitReference] = [:]
    /// What the target has made of rows under those keys.
    private var former: [RowKey: [LocalHistory.FormerRow]] = [:]
    /// Every row that may be meant, by the target's keys too.
    private(set) var rows: [RowKey: SplitReference] = [:]
    /// Whether the group has tables with references.
    private(set) var isEmpty = true
    /// Whether a key may pass from one row to another within the group.
    private(set) var mayMove = false

    /// Asks the source about a group's references.
    static func read(
        _ group: SplitGroup, _ targets: SplitTargets, on source: PostgresConnection, names: inout SplitStatementNames
    ) async throws -> SplitReferences {
        var references = SplitReferences()
        references.mayMove = group.items.contains(where: \.endsGroup)
        var asked: [(number: Number, reference: SplitReference, type: UInt32)] = []
        for item in group.items {
            for operation in item.transaction?.operations ?? [] {
                guard let target = targets[operation.relation]?.target, !target.references.isEmpty else { continue }
                references.isEmpty = false
                for (column, reference) in target.references where operation.kind != .delete {
                    guard let bytes = target.bytes(column, operation, item.chunk.chunk.arena) else { continue }
                    let number = Number(table: reference.table, bytes: bytes)
                    if references.note(number, at: operation.id) {
                        asked.append((number, reference, target.columns[column].typeOID))
                    }
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
                let (reference, match) = (question.reference, question.reference.match)
                guard let number = answer.bytes(row: 0, column: match.count) else { continue }
                let key = RowKey(table: reference.tableID, values: match.indices.map { answer.bytes(row: 0, column: $0) })
                references.answers[question.number] = Answer(reference: reference, number: number, key: key)
                references.meant[key] = reference
            }
        }
        references.rows = references.meant
        return references
    }

    /// - Returns: whether the number is a new one.
    private mutating func note(_ number: Number, at id: OperationID) -> Bool {
        guard let known = holders[number] else {
            holders[number] = id...id
            return true
        }
        holders[number] = known.lowerBound...max(known.upperBound, id)
        return false
    }

    /// Goes back to the keys that the rows had when they were referred to.
    ///
    /// - Parameter source: read past the moment when it was asked.
    mutating func goBack(in source: LocalHistory) throws {
        meant.removeAll(keepingCapacity: true)
        for (number, holders) in holders {
            guard var answer = answers[number] else { continue }
            let former = try source.formerKeys(ofNumber: answer.number, in: answer.reference.tableID)
                .drop { $0.until < holders.lowerBound }
            // The first that outlasted all of them is the last that any can mean.
            let last = former.firstIndex { $0.until > holders.upperBound }
            answer.formerKeys = Array(last.map { former[...$0] } ?? former)
            for (key, _) in answer.formerKeys { meant[key] = answer.reference }
            if last == nil { meant[answer.key] = answer.reference }
            answers[number] = answer
        }
        rows = meant
    }

    /// What following the target's history has shown.
    struct News {
        /// Some key may mean another row than was known.
        var hasChanged = false
        /// Some of those rows are held by nobody.
        var hasRows = false
    }

    /// Looks for what the target has made of the rows, where the source may not know it yet.
    mutating func follow(in target: LocalHistory) throws -> News {
        var news = News()
        let known = try target.formerRows(of: meant.keys)
        if known == former { return news }
        former = known
        news.hasChanged = true
        for (key, former) in known {
            guard let reference = meant[key] else { continue }
            for case let later? in former.map(\.key) where rows.updateValue(reference, forKey: later) == nil { news.hasRows = true }
        }
        return news
    }

    /// What the group's references mean at one point of it.
    ///
    /// A row that the target has moved is the source's row with the old key until the source has ended that too, which it may
    /// do in the group itself; from then on the key is another row's.
    struct Moment {
        fileprivate let references: SplitReferences
        fileprivate let context: CausalContext
        /// What the target has ended, and the source too.
        fileprivate let matched: Set<OperationID>

        /// The target's key of the row that a number of the source means in an operation; `nil` when the source has no such
        /// row any more.
        func key(of bytes: [UInt8], in table: QualifiedName, at id: OperationID) -> RowKey? {
            guard let answer = references.answers[Number(table: table, bytes: bytes)] else { return nil }
            let key = answer.key(at: id)
            let former = references.former[key]?.first { former in
                !context.includes(commitLSN: former.id.commitLSN) && !matched.contains(former.id)
            }
            return former?.key ?? key
        }
    }

    /// - Parameters:
    ///   - context: of the transaction that refers to rows.
    ///   - effects: of what came before in the group.
    func moment(in context: CausalContext, after effects: GroupEffects) -> Moment {
        Moment(references: self, context: context, matched: effects.matched)
    }
}
