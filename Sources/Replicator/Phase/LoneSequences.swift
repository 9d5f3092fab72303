import PostgresClient
import ReplicationCore

/// Sequences of a side whose other one is lost that stay as they are.
public struct StayingSequences: Sendable, Equatable {
    /// Every other number, or a range, is theirs still: what their columns hold can't be read as numbers, and so they can meet nothing.
    public var halves: [QualifiedName] = []
    /// Nothing is left ahead of what their columns hold; Lindero had not changed them.
    public var behind: [QualifiedName] = []

    public init() {}
}

/// The sequences of a side whose other one is lost: gives them their own settings back, ahead of every number that is known here.
///
/// Numbers that the lost side gave and that never came are not known: they may be given again.
struct LoneSequences {
    /// Of the database, for people.
    let name: String
    let connection: PostgresConnection
    /// Whose other sequences are set ahead of what they hold: their rows may have come from the other side alone.
    var tables: [QualifiedName] = []
    /// How long to try for one that somebody uses.
    var limitMilliseconds: Int64 = 60_000

    /// Can be killed and done again: each sequence is one transaction, with its record.
    ///
    /// - Returns: those that stay as they are.
    /// - Throws: `ReplicationFailure` when one is in use all the time, or has no number left; `PostgresError`.
    @discardableResult func restore() async throws -> StayingSequences {
        guard try await SequenceReader(connection: connection).exists() else { return StayingSequences() }
        let records = try await SequenceReader(connection: connection).records()
        let names = try await CatalogReader.names(connection)
        let present = Set(names)
        // What has nothing to do with the split is not even looked at.
        let shared = records.isEmpty ? [:] : try await SequenceReader(connection: connection, wanted: Set(records.keys)).read(names)
        let declared = try await SequenceReader(connection: connection).read(tables.filter(present.contains))
        var states: [QualifiedName: SequenceState] = [:]
        for state in Array(shared.values) + Array(declared.values) {
            var known = states[state.name] ?? state
            known.holdsNumbers = known.holdsNumbers && state.holdsNumbers
            known.columnRange = known.columnRange.clamped(to: state.columnRange)
            states[state.name] = known
        }
        var staying = StayingSequences()
        for state in states.values.sorted(by: { $0.name < $1.name }) {
            if state.record == nil {
                do {
                    guard try plan(state) != nil else { continue }
                } catch {
                    // What Lindero has not changed is nobody's way to stand in.
                    staying.behind.append(state.name)
                    continue
                }
            } else if !state.holdsNumbers {
                staying.halves.append(state.name)
                continue
            }
            try await restore(state)
        }
        for (sequence, record) in records where states[sequence] == nil { try await restoreUnused(sequence, record) }
        return staying
    }

    private func restore(_ known: SequenceState) async throws {
        try await alone(known.name) { lockMilliseconds in
            guard try plan(known) != nil else { return }
            // Only `ALTER SEQUENCE` keeps `nextval` out; this one changes nothing, and what is read then is what holds.
            _ = try await connection.execute(
                "SET LOCAL lock_timeout = \(lockMilliseconds); ALTER SEQUENCE \(known.name.sql) INCREMENT BY \(known.settings.increment)")
            var state = known
            try await SequenceReader(connection: connection).readPosition(of: &state)
            if let change = try plan(state) { _ = try await connection.execute(change.sql) }
            if state.record != nil { try await forget(known.name) }
        }
    }

    private func plan(_ state: SequenceState) throws -> SequenceChange? {
        do throws(SequenceProblem) {
            return try SequencePlanner(mode: state.record?.mode ?? .interleave).restore(state)
        } catch {
            throw ReplicationFailure(
                .sequencesShared, "Sequence \(state.name) of \(name) has no number left for its columns under its own settings.",
                nextStep: "Widen its column or its MAXVALUE on \(name), then the same command again.", isBlocker: true)
        }
    }

    /// One that no column uses any more: its settings alone. One that is no more: its record goes.
    private func restoreUnused(_ sequence: QualifiedName, _ record: SequenceState.Record) async throws {
        let exists = try await connection.query("SELECT pg_catalog.to_regclass($1)::text", [.text(sequence.sql)]).firstValue != nil
        try await alone(sequence) { lockMilliseconds in
            if exists {
                let before = record.before
                _ = try await connection.execute(
                    "SET LOCAL lock_timeout = \(lockMilliseconds); ALTER SEQUENCE \(sequence.sql) INCREMENT BY \(before.increment) MINVALUE "
                        + "\(before.minimum) MAXVALUE \(before.maximum) START WITH \(before.start)")
            }
            try await forget(sequence)
        }
    }

    /// One transaction, tried until nobody is in the way.
    private func alone(_ sequence: QualifiedName, _ body: (_ lockMilliseconds: Int) async throws -> Void) async throws {
        let lock = ShortLock(name: name, connection: connection, limitMilliseconds: limitMilliseconds)
        do {
            try await lock.run("SELECT", on: [sequence]) { try await body(lock.lockMilliseconds) }
        } catch let failure as ReplicationFailure where failure.code == .tableInUse {
            throw ReplicationFailure(
                .sequencesShared, "Sequence \(sequence) of \(name) is in use all the time.",
                nextStep: "End the long transaction that took a number (pg_stat_activity says which); then the same command again.")
        }
    }

    private func forget(_ sequence: QualifiedName) async throws {
        _ = try await connection.query(
            "DELETE FROM lindero.sequence_split WHERE schema_name = $1 AND sequence_name = $2", [.text(sequence.schema), .text(sequence.name)])
    }
}
