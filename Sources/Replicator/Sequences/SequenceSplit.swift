import PostgresClient
import ReplicationCore

/// One sequence of each side, and what has to be done to them.
public struct SequenceStep: Sendable {
    public var pair: SequencePair
    /// `nil` when nothing has to be done, or nothing can.
    public var plan: SequencePlan?
    public var problem: SequenceProblem?
}

/// Everything that sequences need before two sides may write, or before one of them goes.
public struct SequenceSteps: Sendable {
    public var steps: [SequenceStep] = []
    /// Columns that have a sequence on one side alone, with the side that lacks it.
    public var lonely: [(column: SequencePair.Column, missingOn: String)] = []
    /// Sequences whose columns have several on the other side.
    public var tangled: [QualifiedName] = []
    /// Of the way back: sequences that were changed and that no table of the configuration leads to any more.
    public var forgotten: [(sequence: QualifiedName, side: String)] = []

    public var hasProblem: Bool {
        !lonely.isEmpty || !tangled.isEmpty || !forgotten.isEmpty || steps.contains { $0.problem != nil }
    }
    public var isDone: Bool { !hasProblem && steps.allSatisfy { $0.plan == nil } }
}

/// Why the sequences of two sides could not be changed.
public enum SequenceSplitError: Error, Sendable {
    /// What the plan says can't be done; nothing was changed.
    case blocked(SequenceSteps)
    /// A transaction holds the sequence and did not end in time; the sequences before it are changed, and stay so.
    case locked(QualifiedName, side: String)
    /// The schema lindero is not up to date there.
    case notMigrated(String)
}

/// Shares the numbers of sequences between the two sides of a split, and takes them back.
///
/// Each pair is changed while both sequences are locked, so nothing is given between the look and the change; writers
/// that want a number wait as long as that takes. A kill in between leaves one side changed: the next call finds that,
/// and sets both ahead again.
public struct SequenceSplit {
    let origin: (name: String, connection: PostgresConnection)
    let other: (name: String, connection: PostgresConnection)
    let policy: OwnershipPolicy
    let mode: ReplicationSettings.Sequences
    /// How long a sequence that somebody uses is waited for in one try, and writers behind us with it.
    var lockMilliseconds = 100
    /// How long to try for one pair.
    var limitMilliseconds: Int64 = 60_000

    public init(
        origin: (name: String, connection: PostgresConnection), other: (name: String, connection: PostgresConnection),
        policy: OwnershipPolicy, mode: ReplicationSettings.Sequences
    ) {
        self.origin = origin
        self.other = other
        self.policy = policy
        self.mode = mode
    }

    private enum Goal { case share, restore }

    /// What `apply` would do; changes nothing.
    ///
    /// - Parameter readsTables: whether the numbers that rows hold are looked at, too; cheap where an index has them.
    public func plan(readsTables: Bool = true) async throws -> SequenceSteps { try await look(.share, readsTables: readsTables) }

    /// What `restore` would do; changes nothing.
    public func planRestore() async throws -> SequenceSteps { try await look(.restore) }

    /// Makes every pair safe for two sides.
    ///
    /// - Returns: what was done.
    /// - Throws: `SequenceSplitError`.
    public func apply() async throws -> SequenceSteps { try await change(.share) }

    /// Gives every sequence its own settings back, ahead of every number that either side has given.
    ///
    /// - Returns: what was done.
    /// - Throws: `SequenceSplitError`.
    public func restore() async throws -> SequenceSteps { try await change(.restore) }

    /// `apply`, with what a person has to do in its error.
    func applyOrSayWhy() async throws { try await orSayWhy(apply) }
    /// `restore`, in the same way.
    func restoreOrSayWhy() async throws { try await orSayWhy(restore) }

    private func orSayWhy(_ change: () async throws -> SequenceSteps) async throws {
        do {
            _ = try await change()
        } catch SequenceSplitError.blocked {
            throw ReplicationFailure(
                .sequencesShared, "The sequences of both sides can't be shared out as they are.",
                nextStep: "Run `lindero sequences plan`: it says which, and why.", isBlocker: true)
        } catch SequenceSplitError.locked(let name, let side) {
            throw ReplicationFailure(
                .sequencesShared, "Sequence \(name) of \(side) is in use all the time.",
                nextStep: "End the long transaction that took a number (pg_stat_activity says which); then the same command again.")
        }
    }

    // MARK: looking

    private func look(_ goal: Goal, readsTables: Bool = true) async throws -> SequenceSteps {
        // A table that is on one side alone has nobody to share with.
        let common = Set(try await CatalogReader.names(origin.connection))
            .intersection(try await CatalogReader.names(other.connection))
        let names = policy.tables.keys.filter(common.contains).sorted()
        let here = try await SequenceReader(connection: origin.connection, readsTables: readsTables).read(names)
        let there = try await SequenceReader(connection: other.connection, readsTables: readsTables).read(names)
        var steps = SequenceSteps()
        var pairs: [[QualifiedName]: SequencePair] = [:]
        for column in Set(here.keys).union(there.keys).sorted(by: Self.precedes) {
            guard let own = here[column], let twin = there[column] else {
                if goal == .share, isShared(column) {
                    steps.lonely.append((column, here[column] == nil ? origin.name : other.name))
                }
                continue
            }
            let key = [own.name, twin.name]
            var pair = pairs[key] ?? SequencePair(columns: [], origin: own, other: twin, isShared: false)
            pair.columns.append(column)
            pair.isShared = pair.isShared || isShared(column)
            pairs[key] = pair
        }
        for (key, pair) in pairs.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            let knot = pairs.filter { $0.key[0] == key[0] || $0.key[1] == key[1] }
            if knot.count > 1, knot.values.contains(where: \.isShared) {
                if !steps.tangled.contains(pair.origin.name) { steps.tangled.append(pair.origin.name) }
            } else {
                steps.steps.append(step(pair, goal))
            }
        }
        if goal == .restore { steps.forgotten = try await forgotten(steps) }
        return steps
    }

    private func forgotten(_ steps: SequenceSteps) async throws -> [(sequence: QualifiedName, side: String)] {
        var forgotten: [(sequence: QualifiedName, side: String)] = []
        for (side, known) in [(origin, steps.steps.map(\.pair.origin.name)), (other, steps.steps.map(\.pair.other.name))] {
            let records = try await SequenceReader(connection: side.connection).records()
            forgotten += records.keys.sorted().filter { !known.contains($0) }.map { ($0, side.name) }
        }
        return forgotten
    }

    private static func precedes(_ left: SequencePair.Column, _ right: SequencePair.Column) -> Bool {
        (left.table, left.column) < (right.table, right.column)
    }

    private func step(_ pair: SequencePair, _ goal: Goal) -> SequenceStep {
        do throws(SequenceProblem) {
            return SequenceStep(pair: pair, plan: try decide(pair, goal))
        } catch {
            return SequenceStep(pair: pair, problem: error)
        }
    }

    private func decide(_ pair: SequencePair, _ goal: Goal) throws(SequenceProblem) -> SequencePlan? {
        let planner = SequencePlanner(mode: mode)
        return goal == .share ? try planner.plan(pair) : try planner.restore(pair)
    }

    /// Whether both sides make rows, and the numbers of one reach the other.
    private func isShared(_ column: SequencePair.Column) -> Bool {
        guard let table = policy.tables[column.table], table.insertOwners.isSuperset(of: [origin.name, other.name]) else {
            return false
        }
        return table.travels(column.column, from: origin.name, to: other.name, backend: .split)
            || table.travels(column.column, from: other.name, to: origin.name, backend: .split)
    }

    // MARK: changing

    private func change(_ goal: Goal) async throws -> SequenceSteps {
        for side in [origin, other] {
            guard try await SequenceReader(connection: side.connection).exists() else {
                throw SequenceSplitError.notMigrated(side.name)
            }
        }
        let planned = try await look(goal)
        if planned.hasProblem { throw SequenceSplitError.blocked(planned) }
        var done = planned
        done.steps = []
        for step in planned.steps {
            guard step.plan != nil else {
                done.steps.append(step)
                continue
            }
            done.steps.append(try await change(step.pair, goal))
        }
        return done
    }

    private func change(_ pair: SequencePair, _ goal: Goal) async throws -> SequenceStep {
        let start = Monotonic.milliseconds()
        while true {
            do {
                return try await attemptChange(pair, goal)
            } catch let error as SequenceSplitError {
                guard case .locked = error, Monotonic.milliseconds() - start < limitMilliseconds else { throw error }
                // Those who waited behind us go first.
                try await Task.sleep(for: .milliseconds(3 * lockMilliseconds))
            }
        }
    }

    private func attemptChange(_ pair: SequencePair, _ goal: Goal) async throws -> SequenceStep {
        do {
            try await lock(pair.origin, on: origin)
            try await lock(pair.other, on: other)
            // What was read before somebody could still move.
            var fresh = pair
            fresh.origin = try await locked(pair.origin, pair.columns, on: origin.connection)
            fresh.other = try await locked(pair.other, pair.columns, on: other.connection)
            let step = step(fresh, goal)
            guard step.problem == nil else {
                var steps = SequenceSteps()
                steps.steps = [step]
                throw SequenceSplitError.blocked(steps)
            }
            // The other side first: until the origin is changed too, its own numbers are what they were.
            try await write(step.plan?.other, fresh.other, of: fresh, goal, on: other.connection)
            try await write(step.plan?.origin, fresh.origin, of: fresh, goal, on: origin.connection)
            _ = try await other.connection.execute("COMMIT")
            _ = try await origin.connection.execute("COMMIT")
            return step
        } catch {
            for side in [origin, other] { try? await side.connection.rollback() }
            throw error
        }
    }

    /// Only `ALTER SEQUENCE` keeps `nextval` out; this one changes nothing.
    private func lock(_ state: SequenceState, on side: (name: String, connection: PostgresConnection)) async throws {
        do {
            _ = try await side.connection.execute(
                "BEGIN; SET LOCAL lock_timeout = \(lockMilliseconds); ALTER SEQUENCE \(state.name.sql) INCREMENT BY "
                    + "\(state.settings.increment)")
        } catch {
            guard error.sqlState?.rawValue == "55P03" else { throw error }
            throw SequenceSplitError.locked(state.name, side: side.name)
        }
    }

    private func locked(
        _ state: SequenceState, _ columns: [SequencePair.Column], on connection: PostgresConnection
    ) async throws -> SequenceState {
        let tables = Set(columns.map(\.table))
        let states = try await SequenceReader(connection: connection, readsTables: false).read(tables.sorted())
        var fresh = columns.compactMap { states[$0] }.first { $0.name == state.name } ?? state
        // Rows made since hold numbers that the sequence has given. To look for them again could take long, without an
        // index, while writers wait.
        fresh.usedValue = state.usedValue
        return fresh
    }

    private func write(
        _ change: SequenceChange?, _ state: SequenceState, of pair: SequencePair, _ goal: Goal, on connection: PostgresConnection
    ) async throws {
        guard let change else { return }
        _ = try await connection.execute(change.sql)
        let name: [PostgresParameter] = [.text(state.name.schema), .text(state.name.name)]
        switch goal {
        case .share:
            // One that was only set ahead is as it was.
            guard pair.isShared else { return }
            let before = state.record?.before ?? state.settings
            _ = try await connection.query(
                """
                INSERT INTO lindero.sequence_split (schema_name, sequence_name, mode, increment, minimum, maximum, start)
                VALUES ($1, $2, $3, $4::text::bigint, $5::text::bigint, $6::text::bigint, $7::text::bigint)
                ON CONFLICT (schema_name, sequence_name) DO UPDATE SET mode = excluded.mode, changed_at = excluded.changed_at
                """,
                name + [
                    .text(SequencePlanner(mode: mode).mode(of: pair).rawValue), .text("\(before.increment)"), .text("\(before.minimum)"), .text("\(before.maximum)"),
                    .text("\(before.start)"),
                ])
        case .restore:
            _ = try await connection.query(
                "DELETE FROM lindero.sequence_split WHERE schema_name = $1 AND sequence_name = $2", name)
        }
    }
}
