import PostgresClient
import ReplicationCore

/// What becomes of references to rows that the source has ended.
///
/// It comes last: what the source itself did to referring rows is done, and what is left it had not seen. These are writes of
/// the target, and its stream says so.
extension SplitGroupApplier {
    /// As many rows are in memory at once, whatever refers to a row.
    private static let rowLimit = 1_000

    /// Rows whose references may have to be told again.
    private struct Doubts {
        struct Doubt {
            var column: SplitReferrers.Column
            var key: RowKey
            var number: String
            var context: CausalContext
        }

        var rows: [Doubt] = []
        /// Whether the target has been read past the moment at which it was asked for them: then whatever their own writers
        /// did is known.
        var isKnown = false
        /// Whether the target's stream has been told that consequences follow.
        var isNoted = false
    }

    /// - Parameter knownLSN: to where the target had been read when it was decided.
    func settle(_ decision: SplitDecision, _ knownLSN: LSN) async throws {
        guard !decision.ended.isEmpty, let policy = settings.policy else { return }
        let referrers = SplitReferrers(policy: policy)
        let tables = policy.tables.keys.sorted()
        try await hold(decision, knownLSN, policy)
        var doubts = Doubts()
        for ended in decision.ended.rows {
            let table = tables[ended.table]
            guard let reference = SplitReference(to: table, policy: policy),
                let number = try await number(of: ended, reference, decision)
            else { continue }
            let place = try await find(ended.other, reference, lock: "FOR KEY SHARE")
            for column in referrers.columns(to: table) {
                let writer = column.writer(from: settings.sourceName, to: settings.targetName)
                let settlement = ended.settlement(number: number, otherNumber: place, writer: writer)
                if settlement == .tellAgain || settlement == .end && column.referrer.onDelete == .keep {
                    try await look(for: number, in: column, ended, policy, &doubts)
                }
                var start = SplitStatement()
                _ = start.add(.text(number), 0)
                if settlement == .move || settlement == .moveUnused { _ = start.add(place.map { .text($0) } ?? .null, 0) }
                let statements = referrers.statements(settlement, column, to: reference).map { start.with(sql: $0) }
                try await write(statements, isNoted: &doubts.isNoted)
            }
        }
        try await tellAgain(&doubts)
    }

    /// Writes once more what those rows refer to that were written unseen by the source.
    private func tellAgain(_ doubts: inout Doubts) async throws {
        if doubts.rows.isEmpty { return }
        if !doubts.isKnown { try await barrier.pass() }
        doubts.isKnown = true
        let (rows, isBinary) = (doubts.rows, targets.isBinary)
        doubts.rows.removeAll()
        let repetitions = try ledger.withHistory(of: side.opposite) { history, _ in
            try rows.filter { try history.hasWrittenReferences(of: $0.key, since: $0.context) }
                .map { $0.column.repetition(of: $0.key, number: $0.number, isBinary: isBinary) }
        }
        try await write(repetitions, isNoted: &doubts.isNoted)
    }

    private func write(_ statements: [SplitStatement], isNoted: inout Bool) async throws {
        var rest = statements[...]
        while !rest.isEmpty {
            var steps = SplitSteps()
            if !isNoted { steps.add(Self.message([.consequences])) }
            isNoted = true
            while let statement = rest.first, !steps.isFull {
                rest = rest.dropFirst()
                steps.add(statement, &names)
            }
            try await run(steps)
        }
    }

    private func number(of ended: EndedRow, _ reference: SplitReference, _ decision: SplitDecision) async throws -> String? {
        switch ended.row {
        case .number(let number):
            return number
        case .made(let row):
            return decision.number(ofMade: row)
        case .rival(let key):
            return try await find(key, reference, lock: "FOR UPDATE")
        case .left(let left):
            return try await ask(SplitReference.text(of: left.number, isBinary: targets.isBinary))
        }
    }

    /// Takes hold of rows that were found by what is known of the target's changed keys, and makes sure that they are those:
    /// the key may have passed to another row since.
    private func hold(_ decision: SplitDecision, _ knownLSN: LSN, _ policy: OwnershipPolicy) async throws {
        let keys = decision.ended.unheldKeys(after: decision.effects)
        if keys.isEmpty { return }
        let tables = policy.tables.keys.sorted()
        // In one order, so that two of us do not wait for each other.
        for key in keys.sorted(by: { $0.table == $1.table ? $0.bytes.lexicographicallyPrecedes($1.bytes) : $0.table < $1.table }) {
            guard let reference = SplitReference(to: tables[key.table], policy: policy) else { continue }
            _ = try await find(key, reference, lock: "FOR UPDATE")
        }
        try await barrier.pass()
        let isKnown = try ledger.withHistory(of: side.opposite) { history, _ in
            try keys.allSatisfy { try !history.hasEnded($0, since: knownLSN) }
        }
        guard isKnown else { throw SplitTouched() }
    }

    private func find(_ key: RowKey?, _ reference: SplitReference, lock: String) async throws -> String? {
        guard let key else { return nil }
        return try await ask(reference.find(key, isBinary: targets.isBinary, lock: lock))
    }

    /// The one value that a statement finds, as text.
    private func ask(_ statement: SplitStatement) async throws -> String? {
        var steps = SplitSteps()
        let look = steps.add(statement, &names)
        let result = try await run(steps)[look]
        return result.rowCount == 1 ? result[row: 0, column: 0] : nil
    }

    /// Rows that may have come to refer to the row without the source's knowledge: there they may mean another one, or
    /// nothing. What they refer to is written again, now that the source's change is known.
    private func look(
        for number: String, in column: SplitReferrers.Column, _ ended: EndedRow, _ policy: OwnershipPolicy,
        _ doubts: inout Doubts
    ) async throws {
        let hasWritten = ledger.withHistory(of: side.opposite) { history, _ in
            history.hasWrittenReferences(since: ended.context)
        }
        guard hasWritten, let table = policy.tables.keys.sorted().firstIndex(of: column.referrer.table) else { return }
        // The rows as they are now, whatever is written to them from here on.
        var asked = SplitStatement("DECLARE lindero_referrers NO SCROLL CURSOR FOR " + column.rows)
        _ = asked.add(.text(number), 0)
        let fetch = SplitStatement("FETCH \(Self.rowLimit) FROM lindero_referrers")
        doubts.isKnown = false
        var statements = [asked, fetch]
        while true {
            var steps = SplitSteps()
            let places = statements.map { steps.add($0, &names, isBinary: targets.isBinary) }
            let rows = try await run(steps)[places[places.count - 1]]
            for row in 0..<rows.rowCount {
                let values = column.referrer.match.indices.map { rows.bytes(row: row, column: $0) }
                doubts.rows.append(
                    Doubts.Doubt(
                        column: column, key: RowKey(table: table, values: values), number: number, context: ended.context))
            }
            if doubts.rows.count >= Self.rowLimit { try await tellAgain(&doubts) }
            if rows.rowCount < Self.rowLimit { break }
            statements = [fetch]
        }
        var end = SplitSteps()
        end.add(SplitStatement("CLOSE lindero_referrers"), &names)
        try await run(end)
    }
}
