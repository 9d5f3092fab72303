import PostgresClient
import ReplicationCore

/// Compares one stretch of a table, and narrows what differs down to keys.
struct ChunkComparison: Sendable {
    /// Keys that are handed over at once; the rest of the stretch follows later.
    static let candidateLimit = 2_000

    let sql: VerifySQL
    let walk: VerifyTable.Walk
    let chunkRows: Int
    /// What one statement reads at most. Where a side has more between two keys of the other, the stretch is cut.
    private var limitRows: Int { 2 * chunkRows }

    struct Outcome: Sendable {
        var rows = 0
        var bytes = 0
        /// Keys whose rows were not the same at a first look.
        var candidates: [VerifyKey] = []
        /// What was not looked at yet.
        var rest: KeyRange?
    }

    func run(_ range: KeyRange, on pair: VerifyPair) async throws -> Outcome {
        sql.table.isOrderShared ? try await compare(range, on: pair) : try await lookUp(range, on: pair)
    }

    // MARK: a shared order

    private func compare(_ range: KeyRange, on pair: VerifyPair) async throws -> Outcome {
        var outcome = Outcome()
        // Parts of the stretch, the next one last.
        var parts = [range]
        while let part = parts.popLast() {
            if outcome.candidates.count >= Self.candidateLimit {
                outcome.rest = KeyRange(after: part.lower, through: range.upper)
                return outcome
            }
            async let first = pair.source.digest(sql, part, .source, limitRows: limitRows)
            async let second = pair.target.digest(sql, part, .target, limitRows: limitRows)
            let (source, target) = try await (first, second)
            outcome.bytes += source.bytes + target.bytes
            if source.rows <= limitRows, source.matches(target) {
                outcome.rows += source.rows
            } else if let border = try await middle(part, source, target, pair) {
                parts.append(KeyRange(after: border, through: part.upper))
                parts.append(KeyRange(after: part.lower, through: border))
            } else {
                outcome.rows += source.rows
                outcome.candidates += try await list(part, on: pair)
                // The same rows once more.
                outcome.bytes += source.bytes + target.bytes
            }
        }
        return outcome
    }

    /// A border inside a stretch that is too large on one side to be listed.
    private func middle(
        _ range: KeyRange, _ source: ChunkDigest, _ target: ChunkDigest, _ pair: VerifyPair
    ) async throws -> VerifyKey? {
        guard max(source.rows, target.rows) > limitRows else { return nil }
        let larger = VerifyTable.Walk(side: source.rows >= target.rows ? .source : .target, order: walk.order)
        let border = try await pair[larger.side].border(sql, range, larger, rows: chunkRows)
        return border == range.upper ? nil : border
    }

    private func list(_ range: KeyRange, on pair: VerifyPair) async throws -> [VerifyKey] {
        async let first = pair.source.list(sql, range, VerifyTable.Walk(side: .source, order: walk.order))
        async let second = pair.target.list(sql, range, VerifyTable.Walk(side: .target, order: walk.order))
        return try await RowComparison.candidates(first, second)
    }

    // MARK: an order for each side

    private func lookUp(_ range: KeyRange, on pair: VerifyPair) async throws -> Outcome {
        let own = try await pair[walk.side].list(sql, range, walk)
        let other = try await pair[walk.side.other].lookUp(sql, own.map(\.key), walk.side.other)
        var outcome = Outcome()
        // Each row counts once, on the source or for being on the target alone.
        outcome.rows = walk.side == .source ? own.count : 0
        outcome.bytes = own.reduce(0) { $0 + $1.key.values.reduce(20) { $0 + $1.utf8.count } }
        if walk.side == .source {
            outcome.candidates = RowComparison.candidates(own, other)
        } else {
            // Rows that both have were compared on the way over the source.
            let known = Set(other.map(\.key))
            outcome.candidates = own.map(\.key).filter { !known.contains($0) }
        }
        return outcome
    }
}
