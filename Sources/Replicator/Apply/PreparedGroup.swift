import ReplicationCore

/// Chunks for one target transaction and, once prepared, the statements that apply them.
struct PreparedGroup: Sendable {
    let chunks: [ChangeChunk]
    private(set) var batches: [StepBatch] = []
    /// What the statements stand for.
    private(set) var counters = ApplyCounters()
    /// The prepared statements that they name; `nil` before preparation.
    private var statementsGeneration: Int?

    init(chunks: [ChangeChunk]) { self.chunks = chunks }

    init(chunks: [ChangeChunk], batches: [StepBatch], counters: ApplyCounters, statementsGeneration: Int) {
        self.chunks = chunks
        self.batches = batches
        self.counters = counters
        self.statementsGeneration = statementsGeneration
    }

    var firstCommitLSN: LSN { chunks.firstCommitLSN }

    /// Whether it is prepared, and every statement that it names still exists.
    func isCurrent(_ builder: StepBuilder) -> Bool { statementsGeneration == builder.statements.generation }
}

extension [ChangeChunk] {
    /// Commit of the first source transaction; zero when there is none.
    var firstCommitLSN: LSN { lazy.compactMap { $0.transactions.first?.commitLSN }.first ?? .zero }
}
