import Logging
import PostgresClient
import ReplicationCore

/// Brings tables into a direction that streams already: publishes them if the publication is ours, creates and copies
/// them with a snapshot of their own, and gives them their keys. The applier skips what such a copy holds.
///
/// Nothing streams meanwhile. What is not whole is noted first, so that the next start goes on after a kill.
struct TableAddition {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger
    let source: PostgresConnection
    let target: PostgresConnection

    private var record: DirectionRecord { DirectionRecord(connection: target, settings: settings) }

    /// - Parameter known: every table of the direction; foreign keys to others are left out.
    /// - Throws: `ReplicationFailure` with what a person has to do.
    func add(_ tables: [TableDescription], known: [TableDescription]) async throws {
        let sync = InitialSync(settings: settings, state: state, logger: logger)
        let finished = try await TableCopyState.read(target, direction: settings.name)
        let pending = tables.filter { finished[$0.name] == nil }
        if !pending.isEmpty {
            try await TwoPhaseStart.requireNoCopy(settings, source: source, of: pending.map(\.name))
        }
        try requireIdentity(pending)
        let kept = try await keptParts(of: pending)
        try await sync.requireEmpty(pending.filter { kept[$0.name] == nil }, on: target, after: try await rename(among: finished))
        state.set(.copying)
        logger.notice("adding tables", metadata: ["tables": "\(tables.map { "\($0.name)" }.joined(separator: ", "))"])
        try await ReplicationObjects(settings: settings, source: source).addToPublication(tables)
        let unfinished = try await record.read()?.unfinishedTables ?? []
        let schema = TargetSchema(
            settings: settings, source: source, target: target, tables: tables, known: known,
            isResumed: tables.contains { unfinished.contains($0.name.sql) })
        let plan = try await schema.prepare { created in
            try await record.noteUnfinished(tables.map(\.name))
            try await record.noteCreation(of: created)
        }
        try await record.noteUnfinished(tables.map(\.name))
        for note in plan.notes { logger.notice("\(note)") }
        let targets = try await CatalogReader.tables(target, matching: tables.map(\.name))
        if !pending.isEmpty {
            try await SnapshotRun(
                settings: settings, state: state, logger: logger, source: source, target: target,
                targets: Dictionary(targets.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
            ).run(pending, kept: kept, finished: finished, startLSN: .zero)
        }
        try await sync.finish(schema, targets: targets, source: source, target: target)
        try await record.noteUnfinished([])
    }

    /// Parts of a copy that was killed stay while the slot still has every change since they were read. Once the direction
    /// has streamed without the table, those are gone; then so are the parts' rows, which are Lindero's: the table was empty.
    private func keptParts(of tables: [TableDescription]) async throws -> [QualifiedName: ChunkLedger.Kept] {
        let ledger = ChunkLedger(connection: target, direction: settings.name)
        let names = Set(tables.map(\.name))
        let parts = try await ledger.read().filter { names.contains($0.key) }
        guard !parts.isEmpty else { return [:] }
        let slot = try await SourceCheck(settings: settings, connection: source).slot(allowsTwoPhase: true)
        for (name, stale) in parts where stale.snapshotLSN < slot.confirmedLSN {
            logger.notice(
                "copying a table from its beginning again",
                metadata: ["table": "\(name)", "reason": "changes since its first part have passed"])
            _ = try await target.execute("TRUNCATE \(name.sql)")
            try await ledger.forget(name)
        }
        return parts.filter { $0.value.snapshotLSN >= slot.confirmedLSN }
    }

    /// Published without one, PostgreSQL would refuse the service's own updates.
    private func requireIdentity(_ tables: [TableDescription]) throws {
        guard PublicationCover.isOwn(settings),
            let table = tables.first(where: { $0.identityColumns.isEmpty && $0.replicaIdentity != .full })
        else { return }
        throw ReplicationFailure(
            .schemaDiffers,
            "Table \(table.name) is to be added to \(settings.name), but its rows cannot be told apart: published, its UPDATE and "
                + "DELETE would be refused on \(settings.sourceName).",
            nextStep: "Give it a primary key, or run on \(settings.sourceName): ALTER TABLE \(table.name.sql) REPLICA IDENTITY "
                + "FULL; Or leave it out of `tables:`. Then `lindero run`.", isBlocker: true)
    }

    /// What to do if a filled table is one that the direction knows by an older name.
    private func rename(among finished: [QualifiedName: TableCopyState]) async throws -> String? {
        let present = Set(try await CatalogReader.names(source))
        let gone = finished.keys.filter { !present.contains($0) }.sorted()
        guard !gone.isEmpty else { return nil }
        return "If it is \(gone.map { "\($0)" }.joined(separator: " or ")) under a new name, run on \(settings.targetName) instead: "
            + "UPDATE lindero.table_copy SET schema_name = 'NEW', table_name = 'NEW' WHERE direction = "
            + "\(SQLText.literal(settings.name)) AND table_name = 'OLD';"
    }
}

extension TableAddition {
    /// Takes tables as they are: their rows are the direction's already, under another name perhaps.
    func adopt(_ tables: [QualifiedName]) async throws {
        if tables.isEmpty { return }
        _ = try await target.query(
            """
            INSERT INTO lindero.table_copy (direction, schema_name, table_name, snapshot_lsn, rows, bytes)
            SELECT $1, schema, name, '0/0', 0, 0 FROM unnest($2::text[], $3::text[]) AS t(schema, name)
            ON CONFLICT (direction, schema_name, table_name) DO UPDATE SET left_at_lsn = NULL, left_columns = '{}', source_oid = NULL
            """,
            [
                .text(settings.name), .text(SQLText.arrayLiteral(tables.map(\.schema))),
                .text(SQLText.arrayLiteral(tables.map(\.name))),
            ])
    }
}
