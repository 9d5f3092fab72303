import PostgresClient
import ReplicationCore

/// What becomes of references to rows that the source has ended.
///
/// It comes last: what the source itself did to referring rows is done, and what is left it had not seen. These are writes of
/// the target, and its stream says so.
extension SplitGroupApplier {
    /// As many rows are looked at one by one; of more all are told again.
    private static let rowLimit = 10_000

    private struct Doubt {
        var column: SplitReferrers.Column
        var key: RowKey
        var number: String
        var context: CausalContext
    }

    func settle(_ decision: SplitDecision) async throws {
        guard !decision.ended.isEmpty, let policy = settings.policy else { return }
        let referrers = SplitReferrers(policy: policy)
        var isNoted = false
        var doubts: [Doubt] = []
        for ended in decision.ended {
            guard let reference = SplitReference(to: ended.table, isRequired: false, policy: policy),
                let number = try await number(of: ended, reference)
            else { continue }
            var start = SplitStatement()
            _ = start.add(.text(number), 0)
            let place: String?
            switch ended.outcome {
            case .stays: place = nil
            case .stands(let other), .merges(let other): place = try await find(other, reference, lock: "FOR KEY SHARE")
            }
            let consequences: [SplitStatement]
            switch (ended.outcome, ended.row, place) {
            case (.stays, _, _), (.stands, _, .some):
                doubts += try await look(for: number, in: referrers.all(to: ended.table), ended, policy)
                continue
            case (.merges, _, .some(let place)):
                if place == number { continue }
                _ = start.add(.text(place), 0)
                consequences = referrers.moves(from: ended.table).map { start.with(sql: $0) }
            case (.stands, _, nil), (.merges, .rival, nil):
                // Its row lives on here, and the source has it, but not a row of its own.
                consequences = referrers.all(to: ended.table).map { start.with(sql: $0.repetition) }
            case (.merges, .number, nil):
                consequences = referrers.consequences(of: ended.table).map { start.with(sql: $0) }
                doubts += try await look(for: number, in: referrers.kept(to: ended.table), ended, policy)
            }
            try await write(consequences, isNoted: &isNoted)
        }
        if doubts.isEmpty { return }
        // Then whatever their own writers did is known.
        try await barrier.pass()
        let isBinary = targets.isBinary
        let repetitions = try ledger.withHistory(of: side.opposite) { history, _ in
            try doubts.filter { try history.hasWrittenReferences(of: $0.key, since: $0.context) }
                .map { $0.column.repetition(of: $0.key, number: $0.number, isBinary: isBinary) }
        }
        try await write(repetitions, isNoted: &isNoted)
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

    private func number(of ended: EndedRow, _ reference: SplitReference) async throws -> String? {
        switch ended.row {
        case .number(let number):
            return number
        case .rival(let key):
            if let number = try await find(key, reference, lock: "FOR UPDATE") { return number }
            // It was changed after all that is known so far.
            if missedRivals.insert(key).inserted { throw SplitTouched() }
            return nil
        }
    }

    private func find(_ key: RowKey?, _ reference: SplitReference, lock: String) async throws -> String? {
        guard let key else { return nil }
        var steps = SplitSteps()
        let look = steps.add(reference.find(key, isBinary: targets.isBinary, lock: lock), &names)
        let result = try await run(steps)[look]
        return result.rowCount == 1 ? result[row: 0, column: 0] : nil
    }

    /// Rows that may have come to refer to the row without the source's knowledge: there they may mean another one, or
    /// nothing. What they refer to is written again, now that the source's change is known.
    private func look(
        for number: String, in columns: [SplitReferrers.Column], _ ended: EndedRow, _ policy: OwnershipPolicy
    ) async throws -> [Doubt] {
        let hasWritten = ledger.withHistory(of: side.opposite) { history, _ in
            history.hasWrittenReferences(since: ended.context)
        }
        guard hasWritten else { return [] }
        var doubts: [Doubt] = []
        let tables = policy.tables.keys.sorted()
        for column in columns {
            guard let table = tables.firstIndex(of: column.referrer.table) else { continue }
            var statement = SplitStatement()
            _ = statement.add(.text(number), 0)
            statement.sql = column.rows(limit: Self.rowLimit)
            var steps = SplitSteps()
            let look = steps.add(statement, &names, isBinary: targets.isBinary)
            let rows = try await run(steps)[look]
            for row in 0..<rows.rowCount {
                let values = column.referrer.match.indices.map { rows.bytes(row: row, column: $0) }
                doubts.append(
                    Doubt(column: column, key: RowKey(table: table, values: values), number: number, context: ended.context))
            }
        }
        return doubts
    }
}
