import Logging
import PostgresClient
import ReplicationCore

/// Brings a target from nothing to the start of the stream: publication, slot, tables, data, keys.
///
/// Every step can be killed and run again. The direction's row is written before the slot is made, so a slot without
/// a start position is known to be ours and unfinished; finished tables are never copied twice, the others are copied
/// with a newer snapshot, and the applier skips for each table what its copy already holds.
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
            guard settings.replication.snapshot == .initial else { return }
            try await PostgresConnection.with(settings.source) { source in
                try await sync(source: source, target: target)
            }
        }
    }

    private func sync(source: PostgresConnection, target: PostgresConnection) async throws {
        let record = DirectionRecord(connection: target, settings: settings)
        let known = try await record.read()
        let tables = try await publishedTables(source)
        let finished = try await TableCopyState.read(target, direction: settings.name)
        if let known, known.startLSN != .zero, known.isPrepared { return }
        state.set(.copying)
        let check = SourceCheck(settings: settings, connection: source)
        let objects = ReplicationObjects(settings: settings, source: source)
        if known == nil {
            guard try await !objects.slotExists() else { throw objects.foreignSlot() }
            try await record.create(systemIdentifier: check.systemIdentifier(), startLSN: .zero)
        }
        try await objects.ensurePublication(tables.map(\.name))
        let schema = TargetSchema(settings: settings, source: source, target: target, tables: tables)
        let plan = try await schema.prepare { try await record.noteCreation(of: $0) }
        for note in plan.notes { logger.notice("\(note)") }
        let targets = try await CatalogReader.tables(target, matching: tables.map(\.name))
        let pending = tables.filter { finished[$0.name] == nil }
        try await requireEmpty(pending, on: target)
        try await copy(
            pending, finished: Array(finished.values), targets: targets, record: record, source: source,
            isResumed: known.map { $0.startLSN != .zero } ?? false)
        let created = try await record.createdTables()
        let whole = try await SourceSchema.read(
            source, tables: tables.filter { created.contains($0.name.sql) }, known: tables,
            keeps: { table, column in targets.first { $0.name == table }?.column(column) != nil },
            travels: { settings.travels($0, $1) })
        try await schema.finish(whole)
        try await record.markPrepared()
    }

    /// Copies with the snapshot that comes with a slot: the direction's own, or a temporary one when it exists.
    private func copy(
        _ pending: [TableDescription], finished: [TableCopyState], targets: [TableDescription], record: DirectionRecord,
        source: PostgresConnection, isResumed: Bool
    ) async throws {
        if isResumed && pending.isEmpty { return }
        let walsender = try await ReplicationConnection.connect(settings.source)
        do {
            let name = isResumed ? "\(settings.slot.prefix(50))_resume" : settings.slot
            if !isResumed, try await ReplicationObjects(settings: settings, source: source).slotExists() {
                // Made by a run that died before it could note where the slot begins; nothing was copied with it.
                try await walsender.dropSlot(settings.slot)
            }
            let slot = try await SlotCreation(source: source, logger: logger).create(
                name, temporary: isResumed, on: walsender)
            let lsn = LSN(slot.consistentPoint)
            if !isResumed { try await record.setStart(lsn) }
            logger.info("copying", metadata: ["tables": "\(pending.count)", "snapshot": "\(lsn)"])
            let sizes = try await Self.sizes(of: pending, on: source)
            let state = state
            let queue = CopyQueue(
                pending.map { CopyQueue.Item(table: $0, sizeBytes: sizes[$0.oid] ?? 0) }, finished: finished,
                report: { state.note(copy: $0) })
            try await SnapshotCopier(
                settings: settings, snapshot: slot.snapshotName ?? "", snapshotLSN: lsn, queue: queue,
                targets: Dictionary(targets.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
            ).run()
            await walsender.close()
        } catch {
            await walsender.close()
            throw error
        }
    }

    /// The direction's tables: roots of partition trees, not their partitions.
    private func publishedTables(_ source: PostgresConnection) async throws -> [TableDescription] {
        let names = settings.policy.map { Array($0.tables.keys) }
        return try await CatalogReader.tables(source, matching: names).filter {
            !$0.isPartition && settings.includes($0.name)
        }
    }

    /// Rows that Lindero did not copy are somebody's: they are neither overwritten nor mixed with the source's.
    private func requireEmpty(_ tables: [TableDescription], on target: PostgresConnection) async throws {
        var filled: [String] = []
        for table in tables {
            if try await target.query("SELECT 1 FROM \(table.name.sql) LIMIT 1").rowCount > 0 {
                filled.append("\(table.name)")
            }
        }
        guard filled.isEmpty else {
            throw ReplicationFailure(
                .targetNotEmpty,
                "\(settings.targetName) already has rows in \(filled.joined(separator: ", ")), which Lindero did not copy.",
                nextStep: "Empty these tables, or adopt a slot with `replication: { snapshot: never, slot: … }` if their "
                    + "content is the source's at that slot's start.", isBlocker: true)
        }
    }

    private static func sizes(of tables: [TableDescription], on source: PostgresConnection) async throws -> [UInt32: Int] {
        let oids = "{" + tables.map { "\($0.oid)" }.joined(separator: ",") + "}"
        let rows = try await source.query(
            """
            SELECT oid::text, (SELECT sum(pg_catalog.pg_table_size(relid)) FROM pg_catalog.pg_partition_tree(oid)
                               UNION ALL SELECT pg_catalog.pg_table_size(oid) ORDER BY 1 DESC NULLS LAST LIMIT 1)::bigint::text
            FROM pg_catalog.unnest($1::oid[]) oid
            """, [.text(oids)]
        ).rows
        return Dictionary(
            rows.compactMap { row in
                guard let oid = row[0].flatMap({ UInt32($0) }), let size = row[1].flatMap({ Int($0) }) else { return nil }
                return (oid, size)
            }, uniquingKeysWith: { first, _ in first })
    }
}
