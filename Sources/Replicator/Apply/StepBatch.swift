import PostgresClient
import ReplicationCore

/// Steps of one pipeline and the changes they stand for.
struct StepBatch: Sendable {
    struct Expectation: Sendable {
        var step: Int
        /// Rows that must be affected; `nil` when any number will do, or the statement checks itself.
        var rows: Int?
        /// The one change behind the step; `nil` for a bulk statement.
        var change: FailedChange?
    }

    private var steps: [PipelineStep] = []
    private(set) var expectations: [Expectation] = []
    private var sizeBytes = 0
    /// The steps that are a `FusedStatement`, which takes the progress as its last parameters.
    private var fused: [(step: Int, parts: [FusedStatement.Part])] = []
    var fusedParts: [[FusedStatement.Part]] { fused.map(\.parts) }
    /// Whether nothing else is to write the progress.
    var takesProgress: Bool { !fused.isEmpty }

    var isEmpty: Bool { steps.isEmpty }

    /// What it holds as work of a group, if that is anything; it is empty afterwards.
    mutating func takeWork() -> [GroupWork] {
        defer { self = StepBatch() }
        return isEmpty ? [] : [.statements(self)]
    }
    /// Whether no result needs a look before the commit.
    var checksItself: Bool { expectations.allSatisfy { $0.rows == nil } }
    /// Enough for one round trip: more would only gather in memory.
    var isFull: Bool { steps.count >= 2_000 || sizeBytes >= 4 << 20 }

    mutating func prepare(name: String, sql: String, parameterTypes: [UInt32]) {
        steps.append(.prepare(name: name, sql: sql, parameterTypes: parameterTypes))
    }

    mutating func deallocate(name: String) {
        add("DEALLOCATE \(SQLText.identifier(name))")
    }

    mutating func add(_ step: PipelineStep, sizeBytes: Int, rows: Int?, change: FailedChange?) {
        expectations.append(Expectation(step: steps.count, rows: rows, change: change))
        self.sizeBytes += sizeBytes
        steps.append(step)
    }

    /// Adds a statement of the transaction's own, which stands for no change.
    mutating func add(_ sql: String) { steps.append(.query(sql: sql, parameters: [], parameterTypes: [])) }

    /// Adds a statement that only looks whether what came before may stand.
    mutating func addCheck(_ name: String, _ parameters: [PostgresParameter]) {
        steps.append(.execute(name: name, parameters: parameters, binaryResult: false))
    }

    /// Adds a statement for all that a source transaction changes and for the progress.
    mutating func addFused(_ name: String, _ parts: [FusedStatement.Part], _ parameters: PackedParameters) {
        fused.append((steps.count, parts))
        add(.executePacked(name: name, parameters: parameters), sizeBytes: 64, rows: nil, change: nil)
    }

    /// Its steps, for who writes no progress with them.
    var stepsWithoutProgress: [PipelineStep] {
        precondition(!takesProgress, "a statement that takes the progress goes out with it")
        return steps
    }

    /// Its steps, with the progress where they take it.
    ///
    /// - Parameter next: for all but the first of several, which finds the place that the one before it has left.
    func steps(writing progress: [PostgresParameter], then next: [PostgresParameter]) -> [PipelineStep] {
        var steps = steps
        for (number, (step, _)) in fused.enumerated() { steps[step].append(number == 0 ? progress : next) }
        return steps
    }

    /// The change that a failed step stands for: a step without one of its own prepares for the next.
    func change(at step: Int) -> FailedChange? {
        // Before the first stands what begins the transaction: no change's fault.
        step < 0 ? nil : expectations.first { $0.step >= step }?.change
    }
}
