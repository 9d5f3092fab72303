import PostgresClient
import ReplicationCore

/// Statements of one pipeline, and the operations that they stand for.
struct SplitSteps: Sendable {
    private(set) var steps: [PipelineStep] = []
    /// Index of the step, and what it must find.
    private(set) var expectations: [(step: Int, rows: Int?, change: FailedChange?)] = []
    private var sizeBytes = 0

    var isEmpty: Bool { steps.isEmpty }
    /// Enough for one round trip: more would only gather in memory.
    var isFull: Bool { steps.count >= 2_000 || sizeBytes >= 4 << 20 }

    /// Adds a statement; its place among the pipeline's results.
    ///
    /// - Parameter rows: how many rows it must reach; `nil` when any number will do.
    @discardableResult
    mutating func add(
        _ statement: SplitStatement, _ names: inout SplitStatementNames, rows: Int? = nil, change: FailedChange? = nil,
        isBinary: Bool = false
    ) -> Int {
        let (name, isNew) = names.name(of: statement)
        if isNew { steps.append(.prepare(name: name, sql: statement.sql, parameterTypes: statement.types)) }
        sizeBytes += statement.parameters.reduce(64) { $0 + $1.byteCount }
        steps.append(.execute(name: name, parameters: statement.parameters, binaryResult: isBinary))
        expectations.append((steps.count - 1, rows, change))
        return steps.count - 1
    }

    mutating func add(_ step: PipelineStep) { steps.append(step) }

    /// What a failed step stands for.
    func change(at step: Int) -> FailedChange? { expectations.first { $0.step >= step }?.change }
}

/// The statements that are prepared on a session, by their text and the types of their parameters.
struct SplitStatementNames: Sendable {
    /// Each costs memory here and in the session.
    private static let limit = 500

    private struct Statement: Hashable {
        var sql: String
        var types: [UInt32]
    }

    private var names: [Statement: String] = [:]
    private var count = 0

    /// Whether it is time to begin anew.
    var isFull: Bool { names.count >= Self.limit }

    mutating func name(of statement: SplitStatement) -> (name: String, isNew: Bool) {
        let key = Statement(sql: statement.sql, types: statement.types)
        if let known = names[key] { return (known, false) }
        count += 1
        let name = "lindero_split_\(count)"
        names[key] = name
        return (name, true)
    }

    mutating func forget() { names.removeAll() }
}
