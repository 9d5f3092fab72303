import PostgresClient
import ReplicationCore

/// Compares one table: hands stretches of it to the jobs, rechecks what they find, and keeps the position.
///
/// Used by one task.
final class TableVerifier {
    /// A kill loses no more than this, and what is found is rechecked as often.
    static let saveMilliseconds: Int64 = 2_000

    private let sql: VerifySQL
    private let run: VerificationRun
    private var place: VerifyStore.Place
    private var walk: ChunkWalk
    private var candidates: [VerifyKey] = []
    /// Differences that are not saved yet.
    private var found: [RowDifference] = []
    private var savedAtMilliseconds = Monotonic.milliseconds()

    init(_ sql: VerifySQL, run: VerificationRun, from place: VerifyStore.Place?) {
        self.sql = sql
        self.run = run
        self.place = place ?? VerifyStore.Place(figures: TableVerification(table: sql.table.name))
        walk = ChunkWalk(chunkRows: run.settings.chunkRows, from: place?.position)
    }

    /// - Parameter onProgress: told how many more rows are compared, and how many differences there are.
    func verify(onProgress: (_ rows: Int, _ differences: Int) -> Void) async throws -> TableVerification {
        while place.walk < sql.table.walks.count {
            try await verifyWalk(onProgress)
            place.walk += 1
            place.position = nil
            walk = ChunkWalk(chunkRows: run.settings.chunkRows)
            place.isFinished = place.walk == sql.table.walks.count
            try await save()
        }
        return place.figures
    }

    private struct Work: Sendable {
        var id: Int
        var range: KeyRange
        var pair: VerifyPair
    }

    private func verifyWalk(_ onProgress: (Int, Int) -> Void) async throws {
        let comparison = ChunkComparison(
            sql: sql, walk: sql.table.walks[place.walk], chunkRows: run.settings.chunkRows)
        try await withThrowingTaskGroup(of: (Work, ChunkComparison.Outcome).self) { group in
            var idle = run.pairs
            var rests: [Work] = []
            while true {
                while let pair = idle.last, let next = try await nextWork(&rests, comparison, pair) {
                    idle.removeLast()
                    group.addTask { (next, try await comparison.run(next.range, on: pair)) }
                }
                guard let (work, outcome) = try await group.next() else {
                    guard isSaveDue else { break }
                    try await save()
                    continue
                }
                idle.append(work.pair)
                take(outcome, of: work, &rests)
                if candidates.count >= ChunkComparison.candidateLimit { try await settle() }
                onProgress(outcome.rows, place.figures.differenceCount)
                try await run.rate.pay(outcome.bytes)
            }
        }
        try await settle()
    }

    private func take(_ outcome: ChunkComparison.Outcome, of work: Work, _ rests: inout [Work]) {
        place.figures.rows += outcome.rows
        candidates += outcome.candidates
        if let rest = outcome.rest {
            rests.append(Work(id: work.id, range: rest, pair: work.pair))
        } else {
            walk.finish(work.id, work.range, rows: outcome.rows, bytes: outcome.bytes)
        }
    }

    private var isSaveDue: Bool { Monotonic.milliseconds() - savedAtMilliseconds >= Self.saveMilliseconds }

    /// The next stretch; none while a position is to be kept: then the figures are those of everything before it.
    private func nextWork(_ rests: inout [Work], _ comparison: ChunkComparison, _ pair: VerifyPair) async throws -> Work? {
        if let rest = rests.popLast() { return Work(id: rest.id, range: rest.range, pair: pair) }
        if walk.isAtEnd || isSaveDue { return nil }
        let rest = KeyRange(after: walk.nextLower, through: nil)
        let border = try await run.border[comparison.walk.side].border(sql, rest, comparison.walk, rows: walk.nextRows)
        let next = walk.add(border: border)
        return Work(id: next.id, range: next.range, pair: pair)
    }

    /// Decides every row that a first look showed apart.
    private func settle() async throws {
        guard !candidates.isEmpty else { return }
        let keys = candidates
        candidates = []
        let outcome = try await run.recheck.settle(keys, sql)
        place.figures.rechecked += keys.count
        place.figures.undecided += outcome.undecided
        place.figures.sourceLSN = max(place.figures.sourceLSN, outcome.sourceLSN)
        place.figures.differenceCount += outcome.differences.count
        let room = VerifyStore.listedDifferences - place.figures.differences.count
        place.figures.differences += outcome.differences.prefix(max(0, room))
        found += outcome.differences.prefix(max(0, room))
        try await run.rate.pay(outcome.reads * walk.rowBytes)
    }

    /// What is before the position is decided, so that nothing is left out when another run begins there.
    private func save() async throws {
        try await settle()
        if !place.isFinished { place.position = walk.position }
        if place.isFinished { place.figures.sourceLSN = max(place.figures.sourceLSN, try await run.shownLSN()) }
        try await run.store.save(run.id, place, found: found)
        found = []
        savedAtMilliseconds = Monotonic.milliseconds()
    }
}

/// What the tables of one comparison share.
struct VerificationRun: Sendable {
    var id: Int64
    var settings: VerifySettings
    var store: VerifyStore
    /// One for each job.
    var pairs: [VerifyPair]
    /// For finding borders.
    var border: VerifyPair
    var recheck: RowRecheck
    var rate: CopyRate
    var control: VerifyPair

    /// What the target shows of the source now.
    func shownLSN() async throws -> LSN {
        try await LSNWait(place: .direction(store.direction), target: control.target).position() ?? .zero
    }
}
