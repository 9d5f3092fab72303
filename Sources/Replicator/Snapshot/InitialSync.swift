import Logging
import PostgresClient
import ReplicationCore

/// Brings a target from nothing to the start of the stream: publication, slot, tables, data, keys.
///
/// Every step can be killed and run again. The direction's row is written before the slot is made, so a slot without
/// a start position is known to be ours and unfinished; finished tables and parts of tables are never copied twice, the
/// others are copied with a newer snapshot, and the applier skips for each table what its copy already holds.
public struct InitialSync: Sendable {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger

    public init(settings: DirectionSettings, state: DirectionState, logger: Logger) {
        self.settings = settings
        self.state = state
        self.logger = logger
    }

    /// Does what is left to do; at once when nothing is.
    ///
    /// - Throws: `ReplicationFailure` with what a person has to do; `PostgresError`.
    public func run() async throws {
        try await PostgresConnection.with(settings.target) { target in
            _ = try await Migrator(connection: target).migrate()
            try await PostgresConnection.with(settings.source) { source in
                if let known = try await DirectionRecord(connection: target, settings: settings).read() {
                    let check = SourceCheck(settings: settings, connection: source)
                    try check.requireSame(try await check.systemIdentifier(), known: known.systemIdentifier)
                    // Before anything is altered: what is added would come to the split's worker, who knows nothing of it.
                    if known.isSplit { throw DirectionSupervisor.splitHasBegun(settings) }
                } else {
                    try await ReplicaEnd.requireNoSplit(settings, from: source)
                }
                try await NewerSnapshots(settings: settings, logger: logger).run {
                    switch settings.replication.snapshot {
                    case .initial: try await sync(source: source, target: target)
                    case .never: try await checkAdopted(source: source, target: target)
                    }
                }
            }
        }
    }

    private func sync(source: PostgresConnection, target: PostgresConnection) async throws {
        // Another worker may be at it; then it has done the work once this one is let in.
        try await CopyGate(settings: settings).enter(target)
        let record = DirectionRecord(connection: target, settings: settings)
        let known = try await record.read()
        if known?.isSplit == true { throw DirectionSupervisor.splitHasBegun(settings) }
        let isResumed = known.map { $0.startLSN != .zero } ?? false
        if isResumed { state.noteStart() }
        let tables = try await publishedTables(source)
        if let known, isResumed, known.isPrepared {
            return try await addNew(among: tables, known, source: source, target: target)
        }
        if isResumed { try await requireSlot(source) }
        if known == nil { try await forgetFormer(tables, target) }
        let finished = try await TableCopyState.read(target, direction: settings.name)
        try await noteLeft(finished.keys.filter { name in !tables.contains { $0.name == name } }, target)
        state.set(.copying)
        let objects = ReplicationObjects(settings: settings, source: source)
        if known == nil {
            guard try await !objects.slotExists() else { throw objects.foreignSlot() }
            try await PreparedTransactions.requireNone(target, settings: settings)
            // Progress that outlived its record belongs to another copy, perhaps of another cluster.
            try await ProgressOrigin(connection: target, direction: settings.name).drop()
            let check = SourceCheck(settings: settings, connection: source)
            try await record.create(systemIdentifier: check.systemIdentifier(), startLSN: .zero)
        }
        try await objects.ensurePublication(tables)
        let schema = TargetSchema(settings: settings, source: source, target: target, tables: tables, known: tables, isResumed: isResumed)
        let plan = try await schema.prepare { try await record.noteCreation(of: $0) }
        for note in plan.notes { logger.notice("\(note)") }
        let targets = try await CatalogReader.tables(target, matching: tables.map(\.name))
        let pending = tables.filter { finished[$0.name] == nil }
        try await SourceIdentity(settings: settings, source: source, target: target).requireSame(tables)
        let kept = try await keptParts(of: pending, isResumed: isResumed, target: target)
        try await requireEmpty(pending.filter { kept[$0.name] == nil }, on: target)
        if !isResumed || !pending.isEmpty {
            try await SnapshotRun(
                settings: settings, state: state, logger: logger, source: source, target: target,
                targets: Dictionary(targets.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
            ).run(pending, kept: kept, finished: finished, startLSN: isResumed ? known?.startLSN : nil)
        }
        try await finish(schema, targets: targets, source: source, target: target)
        try await record.markPrepared()
    }

    /// What was copied and has left `tables:` before the copy was complete is published no more, from here on: should it be back,
    /// it has missed something, as `LeftTables` sees then.
    private func noteLeft(_ names: [QualifiedName], _ target: PostgresConnection) async throws {
        for name in names {
            _ = try await target.query(
                """
                UPDATE lindero.table_copy SET left_at_lsn = '0/0'
                WHERE direction = $1 AND schema_name = $2 AND table_name = $3 AND left_at_lsn IS NULL
                """, [.text(settings.name), .text(name.schema), .text(name.name)])
        }
    }

    /// What an earlier direction copied, or took as it was, is behind by now.
    private func forgetFormer(_ tables: [TableDescription], _ target: PostgresConnection) async throws {
        let former = try await TableCopyState.read(target, direction: settings.name)
        if former.isEmpty { return }
        try await requireEmpty(
            tables.filter { former[$0.name] != nil }, on: target,
            after: "Rows that an earlier replica left are behind by now: `lindero advance` empties its tables.")
        _ = try await target.query("DELETE FROM lindero.table_copy WHERE direction = $1", [.text(settings.name)])
    }

    /// Nothing is copied for a slot that is gone.
    func requireSlot(_ source: PostgresConnection) async throws {
        _ = try await SourceCheck(settings: settings, connection: source).slot(allowsTwoPhase: true)
    }

    /// Finished parts of tables that are not finished; whatever else is noted is forgotten.
    private func keptParts(
        of pending: [TableDescription], isResumed: Bool, target: PostgresConnection
    ) async throws -> [QualifiedName: ChunkLedger.Kept] {
        let ledger = ChunkLedger(connection: target, direction: settings.name)
        let names = Set(pending.map(\.name))
        var kept: [QualifiedName: ChunkLedger.Kept] = [:]
        for (name, parts) in try await ledger.read() {
            if isResumed, names.contains(name) {
                kept[name] = parts
            } else {
                // Its rows stay, and are somebody's from now on.
                try await ledger.forget(name)
            }
        }
        return kept
    }

    /// The direction's tables: roots of partition trees, not their partitions.
    ///
    /// - Parameter cover: what the publication sends, where that has been read; else it is, if need be.
    func publishedTables(_ source: PostgresConnection, cover: PublicationCover? = nil) async throws -> [TableDescription] {
        var names = settings.policy.map { Array($0.tables.keys) }
        if names == nil, !PublicationCover.isOwn(settings) {
            // A publication without rules decides alone what travels.
            var cover = cover
            if cover == nil { cover = try await PublicationCover.read(settings, on: source) }
            names = cover.map { Array($0.publication.tables.keys) } ?? []
        }
        return try await CatalogReader.tables(source, matching: names).filter {
            !$0.isPartition && settings.includes($0.name)
        }
    }

    /// Rows that Lindero did not copy are somebody's: they are neither overwritten nor mixed with the source's.
    func requireEmpty(_ tables: [TableDescription], on target: PostgresConnection, after hint: String? = nil) async throws {
        let filled = try await target.filled(among: try await CatalogReader.names(target, matching: tables.map(\.name)))
        if !filled.isEmpty { throw try await Self.notEmpty(filled, settings, on: target, after: hint) }
    }

    static func notEmpty(
        _ filled: [QualifiedName], _ settings: DirectionSettings, on target: PostgresConnection, after hint: String? = nil
    ) async throws -> ReplicationFailure {
        let parts = try await target.query(
            """
            SELECT c.oid::pg_catalog.regclass::pg_catalog.text, i.inhparent::pg_catalog.regclass::pg_catalog.text
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
            WHERE c.relispartition AND (n.nspname, c.relname) IN (
              SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))) ORDER BY 1
            """, [.text(SQLText.arrayLiteral(filled.map(\.schema))), .text(SQLText.arrayLiteral(filled.map(\.name)))]
        ).rows
        if let part = parts.first, let name = part[0], let parent = part[1] { return detached(name, parent, settings) }
        return ReplicationFailure(
            .targetNotEmpty,
            "\(settings.targetName) already has rows in \(filled.map { "\($0)" }.joined(separator: ", ")), which Lindero did not copy.",
            nextStep: "Empty these tables, or adopt a slot with `replication: { snapshot: never, slot: … }` if their "
                + "content is the source's at that slot's start." + (hint.map { " \($0)" } ?? ""), isBlocker: true)
    }

    /// Its rows are its root's, and some may have come since the source has another partition for them.
    private static func detached(_ name: String, _ parent: String, _ settings: DirectionSettings) -> ReplicationFailure {
        let target = settings.targetName
        return ReplicationFailure(
            .targetNotEmpty,
            "\(name) is a table of its own on \(settings.sourceName), and a partition of \(parent) on \(target): it was detached, and its rows there are \(parent)'s still.",
            nextStep: "Run on \(target): ALTER TABLE \(parent) DETACH PARTITION \(name); TRUNCATE \(name); then `lindero run`, which copies it, and beside it "
                + "`lindero verify --repair --execute`, which brings the rows of \(parent) that have gone with it. Where \(parent) has other partitions on "
                + "\(settings.sourceName) now, `lindero check` names them.", isBlocker: true)
    }
}

extension PostgresConnection {
    private static let askedAtOnce = 200

    /// Those of some tables that have rows, in one round trip for many.
    ///
    /// - Throws: `PostgresError`, also where one of them may not be read.
    func filled(among tables: [QualifiedName]) async throws(PostgresError) -> [QualifiedName] {
        var filled: [QualifiedName] = []
        for first in stride(from: 0, to: tables.count, by: Self.askedAtOnce) {
            let asked = first..<min(first + Self.askedAtOnce, tables.count)
            let rows = asked.map { "(\($0), EXISTS (SELECT FROM \(tables[$0].sql)))" }.joined(separator: ", ")
            let answer = try await query("SELECT number::text FROM (VALUES \(rows)) AS t(number, has_rows) WHERE has_rows ORDER BY number")
            filled += answer.rows.compactMap { $0[0].flatMap { Int($0) } }.map { tables[$0] }
        }
        return filled
    }
}
