import PostgresClient
import ReplicationCore

/// What the direction's own slot knows of tables between two snapshots: the keys of every row that was touched.
///
/// The slot keeps every change since the first snapshot, so its answer is complete. Reading confirms nothing: the slot
/// stays where it is, and the same changes come again when the direction streams.
struct SlotChanges {
    /// A table with parts that an earlier snapshot shows.
    struct Question: Sendable {
        var since: LSN
        /// The replica identity's columns.
        var key: [String]
    }

    enum Answer: Sendable, Equatable {
        /// Old and new keys.
        case keys(Set<VerifyKey>)
        /// Truncated, touched without a key, or touched too often.
        case beyondRepair
    }

    /// More rows than this are sooner copied again.
    static let mostKeys = 250_000

    let settings: DirectionSettings
    let questions: [QualifiedName: Question]
    /// The new snapshot: what committed from here on is not in it.
    let until: LSN

    private var relations: [UInt32: RelationMessage] = [:]
    private(set) var answers: [QualifiedName: Answer] = [:]
    private var keyBytes: [QualifiedName: Int] = [:]
    private var commitLSN: LSN?
    private var isOver = false

    init(settings: DirectionSettings, questions: [QualifiedName: Question], until: LSN) {
        self.settings = settings
        self.questions = questions
        self.until = until
    }

    static func read(
        _ questions: [QualifiedName: Question], until: LSN, from start: LSN, settings: DirectionSettings,
        marker: PostgresConnection, rate: CopyRate
    ) async throws -> [QualifiedName: Answer] {
        var changes = SlotChanges(settings: settings, questions: questions, until: until)
        // Something to read after the snapshot, however quiet the source is.
        _ = try await marker.query(
            "SELECT pg_catalog.pg_logical_emit_message(true, 'lindero.copy', '')::text")
        try await ReplicationConnection.with(settings.source) { stream in
            try await stream.startReplication(
                slot: settings.slot, at: start.rawValue,
                options: StreamOptions.list(publication: settings.publication, isBinary: false))
            try await changes.read(stream, rate)
            try await stream.stop()
        }
        return changes.answers
    }

    private mutating func read(_ stream: ReplicationConnection, _ rate: CopyRate) async throws {
        var decoder = PGOutputDecoder(protocolVersion: StreamOptions.protocolVersion(isStreaming: false))
        var arena = ChangeArena()
        var toldAtMilliseconds: Int64 = 0
        while !isOver {
            let now = Monotonic.milliseconds()
            if now - toldAtMilliseconds > 1_000 {
                // Nothing is confirmed by zeros.
                try await stream.sendStatus(received: 0, flushed: 0, applied: 0, replyRequested: true)
                toldAtMilliseconds = now
            }
            let batch = try await stream.receive(maximumBytes: rate.pieceBytes, waitMilliseconds: 200)
            try await rate.pay(batch.bytes.count)
            for range in batch.messages where !isOver {
                switch try ReplicationFrame(batch.bytes, range) {
                case .xLogData(_, _, _, let payload):
                    handle(try decoder.decode(batch.bytes, payload, into: &arena), arena)
                    arena.removeAll()
                case .keepalive(let endLSN, _, _):
                    if commitLSN == nil, endLSN >= until { isOver = true }
                }
            }
            if batch.isEnd, !isOver { throw PostgresError.closed("The server ended the replication stream.") }
        }
    }

    /// Takes one message; its values are in `arena`.
    mutating func handle(_ message: PGOutputMessage, _ arena: ChangeArena) {
        switch message {
        case .begin(let finalLSN, _, _):
            commitLSN = finalLSN
            // Transactions come in the order of their commits.
            if finalLSN >= until { isOver = true }
        case .commit: commitLSN = nil
        case .relation(let relation, _): relations[relation.id] = relation
        case .insert(let id, let new, _): note(id, [new], arena)
        case .update(let id, let old, let new, _): note(id, [old?.tuple, new].compactMap { $0 }, arena)
        case .delete(let id, let old, _): note(id, [old.tuple], arena)
        case .truncate(let ids, _, _, _):
            for id in ids {
                guard let relation = relations[id], concerns(relation.name) else { continue }
                answers[relation.name] = .beyondRepair
            }
        default: break
        }
    }

    private func concerns(_ table: QualifiedName) -> Bool {
        guard let question = questions[table], let commitLSN else { return false }
        return commitLSN >= question.since && commitLSN < until
    }

    private mutating func note(_ id: UInt32, _ tuples: [TupleReference], _ arena: ChangeArena) {
        guard let relation = relations[id], concerns(relation.name), answers[relation.name] != .beyondRepair,
            let question = questions[relation.name]
        else { return }
        var keys: Set<VerifyKey> = []
        if case .keys(let known)? = answers[relation.name] { keys = known }
        // One owner, or each row would copy the set.
        answers[relation.name] = nil
        for tuple in tuples {
            guard let key = Self.key(tuple, of: relation, question.key, arena), !key.values.isEmpty else {
                return answers[relation.name] = .beyondRepair
            }
            if keys.insert(key).inserted { keyBytes[relation.name, default: 0] += key.values.reduce(96) { $0 + 16 + $1.utf8.count } }
        }
        // Nothing else waits in memory meanwhile; but for the statements the keys are written out again.
        let isSmall = keys.count <= Self.mostKeys && heldBytes <= settings.replication.memoryLimitBytes / 4
        answers[relation.name] = isSmall ? .keys(keys) : .beyondRepair
        if !isSmall { keyBytes[relation.name] = nil }
    }

    /// Of all tables.
    private var heldBytes: Int { keyBytes.values.reduce(0, +) }

    /// `nil` when a column of the key has no value here.
    private static func key(
        _ tuple: TupleReference, of relation: RelationMessage, _ columns: [String], _ arena: ChangeArena
    ) -> VerifyKey? {
        var values: [String] = []
        for column in columns {
            guard let index = relation.columns.firstIndex(where: { $0.name == column }), index < tuple.count else { return nil }
            let cell = arena.cells[tuple.firstCell + index]
            guard cell.kind == .text else { return nil }
            let bytes = arena.bytes[cell.range]
            guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
            values.append(text)
        }
        return VerifyKey(values)
    }
}
