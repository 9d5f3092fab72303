import PostgresClient
import ReplicationCore

/// A transaction that is too large to be held at once goes part by part, in one transaction of the target.
///
/// Each part is held, decided after a barrier of its own, and written; its rows stay held until the end, so what was decided
/// about them stays right. Whether its tables are still those that the statements were made for is asked at the end: where one
/// is not (`SplitAltered`), the parts before it are gone from memory, and the transaction comes again in the next life.
extension SplitGroupApplier {
    /// - Parameter next: the following part.
    /// - Returns: the last part.
    /// - Throws: `SplitStopped` when no further part is given out; as `apply`, and the transaction is rolled back.
    func applyInParts(_ first: SplitGroup, next: () async throws -> SplitGroup?) async throws -> SplitGroup {
        guard let note = first.appliedNote else { return first }
        try await barrier.approach()
        rowByRow.removeAll()
        do {
            try await begin(note)
            var part = first
            var effects = GroupEffects()
            while true {
                effects = try await add(part, after: effects)
                counters.changes += part.changeCount
                if let progress = part.progress {
                    try await commit(part, progress, effects)
                    finish(part, progress, note)
                    return part
                }
                guard let following = try await next() else { throw SplitStopped() }
                part = following
            }
        } catch {
            try await rollBack()
            throw error
        }
    }

    private func add(_ part: SplitGroup, after effects: GroupEffects) async throws -> GroupEffects {
        if let transaction = part.items.first(where: { !$0.chunk.isDivisible })?.transactions.last {
            throw SplitRestart.whole(side, transaction.commitLSN)
        }
        if names.isFull {
            try await forgetStatements()
            try await prepareStatements()
        }
        try await targets.resolve(part, on: connection, from: source)
        var after = effects
        try await insist(on: part, isPart: true) { [self] _, allHot in
            _ = try await connection.execute("SAVEPOINT lindero_part")
            after = try await write(part, ready: nil, allHot: allHot, note: nil, after: effects, lookAhead: { nil })
            if part.progress == nil, !after.notes.isEmpty {
                var steps = SplitSteps()
                steps.add(Self.message(after.notes))
                try await run(steps)
                after = after.goingOn()
            }
            _ = try await connection.execute("RELEASE SAVEPOINT lindero_part")
        }
        return after
    }

    func rollBackPart() async throws {
        _ = try await connection.execute("ROLLBACK TO SAVEPOINT lindero_part")
        _ = try await connection.execute("RELEASE SAVEPOINT lindero_part")
    }
}
