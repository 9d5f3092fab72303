import PostgresClient
import ReplicationCore

/// The sequences of a side whose other one is lost: gives them their own settings back, ahead of every number that is known here.
///
/// Numbers that the lost side gave and that never came are not known: they may be given again.
struct LoneSequences {
    /// Of the database, for people.
    let name: String
    let connection: PostgresConnection
    /// How long to try for one that somebody uses.
    var limitMilliseconds: Int64 = 60_000

    /// Can be killed and done again: each sequence is one transaction, with its record.
    ///
    /// - Returns: the sequences.
    /// - Throws: `ReplicationFailure` when one is in use all the time, or has no number left; `PostgresError`.
    func restore() async throws -> [QualifiedName] {
        let reader = SequenceReader(connection: connection)
        let records = try await reader.records()
        if records.isEmpty { return [] }
        // Without an index a look at what rows hold takes long: only where a sequence was shared.
        let all = try await SequenceReader(connection: connection, readsTables: false).read(try await CatalogReader.names(connection))
        let tables = Set(all.filter { $0.value.record != nil }.keys.map(\.table))
        let states = Dictionary(try await reader.read(tables.sorted()).map { ($0.value.name, $0.value) }, uniquingKeysWith: { first, _ in first })
        for sequence in records.keys.sorted() {
            if let state = states[sequence] { try await restore(state) } else { try await restoreUnused(sequence, records[sequence]) }
        }
        return records.keys.sorted()
    }

    private func restore(_ known: SequenceState) async throws {
        let lock = ShortLock(name: name, connection: connection, limitMilliseconds: limitMilliseconds)
        let limit = "SET LOCAL lock_timeout = \(lock.lockMilliseconds)"
        // Only `ALTER SEQUENCE` keeps `nextval` out; this one changes nothing, and what is read then is what holds.
        let keepOut = "\(limit); ALTER SEQUENCE \(known.name.sql) INCREMENT BY \(known.settings.increment)"
        try await lock.run("SET LOCAL lock_timeout = 0", on: [known.name]) {
            _ = try await connection.execute(keepOut)
            var state = known
            let row = try await connection.query("SELECT last_value::text, is_called::text FROM \(known.name.sql)").rows.first
            state.lastValue = row?[0].flatMap { Int64($0) } ?? known.lastValue
            state.isCalled = row?[1] == "true"
            guard let change = try plan(state) else { return }
            _ = try await connection.execute(change.sql)
            try await forget(known.name)
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
    private func restoreUnused(_ sequence: QualifiedName, _ record: SequenceState.Record?) async throws {
        let exists = try await connection.query("SELECT pg_catalog.to_regclass($1)::text", [.text(sequence.sql)]).firstValue != nil
        guard exists, let before = record?.before else { return try await forget(sequence) }
        let lock = ShortLock(name: name, connection: connection, limitMilliseconds: limitMilliseconds)
        try await lock.run(
            "ALTER SEQUENCE \(sequence.sql) INCREMENT BY \(before.increment) MINVALUE \(before.minimum) MAXVALUE \(before.maximum) "
                + "START WITH \(before.start)", on: [sequence]
        ) { try await forget(sequence) }
    }

    private func forget(_ sequence: QualifiedName) async throws {
        _ = try await connection.query(
            "DELETE FROM lindero.sequence_split WHERE schema_name = $1 AND sequence_name = $2", [.text(sequence.schema), .text(sequence.name)])
    }
}
