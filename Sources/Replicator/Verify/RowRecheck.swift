import PostgresClient
import ReplicationCore

/// Looks at rows again until each is known to be equal or different: see `Recheck`.
struct RowRecheck: Sendable {
    /// How long a row may be written over and over before it is given up as undecided.
    static let longestMilliseconds: Int64 = 30_000
    static let batchKeys = 500

    let direction: VerifyDirection
    let pair: VerifyPair
    /// Connections for markers and questions about commits.
    let control: VerifyPair

    struct Outcome: Sendable {
        var differences: [RowDifference] = []
        var undecided = 0
        /// Rows that were asked for, on either side.
        var reads = 0
        var sourceLSN = LSN.zero
    }

    func settle(_ keys: [VerifyKey], _ sql: VerifySQL) async throws -> Outcome {
        var outcome = Outcome()
        var known: Set<VerifyKey> = []
        for start in stride(from: 0, to: keys.count, by: Self.batchKeys) {
            let batch = Array(keys[start..<min(keys.count, start + Self.batchKeys)])
            try await settle(batch, sql, &outcome) { known.insert($0).inserted }
        }
        return outcome
    }

    private func settle(
        _ keys: [VerifyKey], _ sql: VerifySQL, _ outcome: inout Outcome, isNew: (VerifyKey) -> Bool
    ) async throws {
        var pending = keys
        var schedule = WaitSchedule()
        let end = Monotonic.milliseconds() + Self.longestMilliseconds
        while true {
            let verdicts = try await look(at: pending, sql, &outcome.sourceLSN)
            outcome.reads += 3 * pending.count
            var again: [VerifyKey] = []
            for (key, verdict, spelling) in verdicts {
                switch verdict {
                case .equal: continue
                case .again, .askSource: again.append(key)
                case .differs(let kind, let columns):
                    guard isNew(spelling) else { continue }
                    outcome.differences.append(
                        RowDifference(key: spelling, kind: kind, columns: columns.map { sql.table.columns[$0].name }))
                }
            }
            pending = again
            if pending.isEmpty { return }
            guard Monotonic.milliseconds() < end else {
                outcome.undecided += pending.count
                return
            }
            try await Task.sleep(for: .milliseconds(schedule.nextMilliseconds()))
        }
    }

    private typealias Verdict = (key: VerifyKey, verdict: Recheck.Verdict, spelling: VerifyKey)

    /// One round of readings.
    private func look(at keys: [VerifyKey], _ sql: VerifySQL, _ lsn: inout LSN) async throws -> [Verdict] {
        let before = try await pair.target.read(sql, keys, .target)
        if direction.isTwoWay { _ = try await backward.pass() }
        guard try await HiddenCommits(connection: control.source).settle() else { return keys.map { ($0, .again, $0) } }
        let source = try await pair.source.read(sql, keys, .source)
        if direction.isTwoWay, try await !HiddenCommits(connection: control.target).settle() {
            return keys.map { ($0, .again, $0) }
        }
        lsn = max(lsn, try await forward.pass())
        let after = try await pair.target.read(sql, keys, .target)
        var verdicts: [Verdict] = keys.map { key in
            let recheck = Recheck(
                targetBefore: before[key]?.reading, source: source[key]?.reading, targetAfter: after[key]?.reading)
            return (key, recheck.verdict, source[key]?.spelling ?? after[key]?.spelling ?? key)
        }
        let asked = verdicts.indices.filter { verdicts[$0].verdict == .askSource }
        guard !asked.isEmpty, try await HiddenCommits(connection: control.source).settle() else { return verdicts }
        let last = try await pair.source.read(sql, asked.map { verdicts[$0].key }, .source)
        for index in asked {
            let key = verdicts[index].key
            verdicts[index].verdict = Recheck(targetBefore: nil, source: source[key]?.reading, targetAfter: nil)
                .verdict(sourceAfter: last[key]?.reading)
        }
        return verdicts
    }

    private var forward: MarkerWait {
        MarkerWait(direction: direction.name, source: control.source, target: control.target)
    }

    private var backward: MarkerWait {
        MarkerWait(direction: direction.reverseName, source: control.target, target: control.source)
    }
}
