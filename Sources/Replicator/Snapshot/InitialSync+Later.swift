import Logging
import PostgresClient
import ReplicationCore

/// What comes after the first copy: keys, and tables that the direction gets later.
extension InitialSync {
    /// Keys, constraints and indexes of the tables that Lindero created. Foreign keys wait when the tables show different
    /// moments: rows may still be missing that the stream brings.
    func finish(
        _ schema: TargetSchema, targets: [TableDescription], source: PostgresConnection, target: PostgresConnection
    ) async throws {
        let record = DirectionRecord(connection: target, settings: settings)
        let created = try await record.createdTables()
        var whole = try await SourceSchema.read(
            source, tables: schema.tables.filter { created.contains($0.name.sql) }, known: schema.known,
            keeps: { table, column in targets.first { $0.name == table }?.column(column) != nil },
            travels: { settings.travels($0, $1) })
        let copies = try await TableCopyState.read(target, direction: settings.name).values.map(\.snapshotLSN)
        let isOneMoment = copies.min() == copies.max()
        if isOneMoment { whole.afterCopy += whole.foreignKeys.map(\.step) }
        try await IndexBuilder(settings: settings, state: state, logger: logger, target: target).run(whole)
        guard !isOneMoment, !whole.foreignKeys.isEmpty else { return }
        try await record.setForeignKeysWait(true)
        logger.notice(
            "foreign keys are added once the stream has passed the newest copy",
            metadata: ["count": "\(whole.foreignKeys.count)", "position": "\(copies.max() ?? .zero)"])
    }

    /// Tables of the configuration that a direction which streams already does not have yet.
    func addNew(
        among tables: [TableDescription], _ known: DirectionRecord.Row, source: PostgresConnection, target: PostgresConnection
    ) async throws {
        // Without its publication the direction cannot start at all, and says so.
        guard let cover = try await PublicationCover.read(settings, on: source) else { return }
        try await requireThere(known.unfinishedTables, source)
        let finished = try await TableCopyState.read(target, direction: settings.name)
        try requirePublished(tables.filter { finished[$0.name] != nil }, cover)
        let new = tables.filter { known.unfinishedTables.contains($0.name.sql) || finished[$0.name] == nil && !isWaiting($0.name, known) }
        guard !new.isEmpty else { return }
        try await requireSlot(source)
        try await TableAddition(settings: settings, state: state, logger: logger, source: source, target: target)
            .add(new, known: tables)
    }

    /// Whether a table is to come with the next start only.
    private func isWaiting(_ table: QualifiedName, _ known: DirectionRecord.Row?) -> Bool {
        settings.waitingTables.contains(table) && known?.unfinishedTables.contains(table.sql) != true
    }

    /// A copy that was cut off, or gave way, left a part of a table: nothing streams into that.
    private func requireThere(_ unfinished: Set<String>, _ source: PostgresConnection) async throws {
        if unfinished.isEmpty { return }
        let present = Set(try await CatalogReader.names(source).map(\.sql))
        guard let lost = unfinished.subtracting(present).min() else { return }
        throw ReplicationFailure(
            .schemaDiffers,
            "\(settings.sourceName) has no table \(lost) any more, and its copy had not ended: \(settings.targetName) has a part of its rows.",
            nextStep: "If it has another name now: give it that one back, and rename it on both sides once it is copied. If it is gone: run on "
                + "\(settings.targetName): DROP TABLE \(lost); UPDATE lindero.direction SET unfinished_tables = pg_catalog.array_remove("
                + "unfinished_tables, \(SQLText.literal(lost))) WHERE name = \(SQLText.literal(settings.name)); and take it out of lindero.yaml, where "
                + "that names it. Then `lindero run`.", isBlocker: true)
    }

    /// A target that Lindero did not fill: its publication must still send what the configuration asks for. Tables that came
    /// since it was adopted, and are empty on the target, get their rows.
    func checkAdopted(source: PostgresConnection, target: PostgresConnection) async throws {
        guard let cover = try await PublicationCover.read(settings, on: source) else { return }
        let known = try await DirectionRecord(connection: target, settings: settings).read()
        try await requireThere(known?.unfinishedTables ?? [], source)
        let tables = try await publishedTables(source, cover: cover).filter { !isWaiting($0.name, known) }
        if known != nil, settings.policy != nil {
            try cover.requireWhole(tables.filter { cover.publication.tables[$0.name] == nil })
        }
        // What a former replica copied may have come from another cluster.
        if known == nil { _ = try await target.query("UPDATE lindero.table_copy SET source_oid = NULL WHERE direction = $1", [.text(settings.name)]) }
        let addition = TableAddition(settings: settings, state: state, logger: logger, source: source, target: target)
        let present = Set(try await CatalogReader.names(target, matching: tables.map(\.name)))
        let finished = try await TableCopyState.read(target, direction: settings.name)
        var unfinished = tables.filter { known?.unfinishedTables.contains($0.name.sql) ?? false }
        let new = tables.filter { present.contains($0.name) && finished[$0.name] == nil && !unfinished.contains($0) }
        let filled = Set(try await target.filled(among: new.map(\.name)))
        // What is there when the slot is adopted, and what has rows, is taken as it is.
        let empty = new.filter {
            known != nil && !finished.isEmpty && !filled.contains($0.name) && cover.obstacle($0) == nil
        }
        try await addition.adopt(new.filter { !empty.contains($0) }.map(\.name))
        unfinished += empty
        guard !unfinished.isEmpty else { return }
        try await requireSlot(source)
        try await CopyGate(settings: settings).enter(target)
        try await addition.add(unfinished, known: tables)
    }

    /// A table that left the publication has missed changes, and nobody knows which.
    private func requirePublished(_ tables: [TableDescription], _ cover: PublicationCover) throws {
        let lost = tables.filter { $0.kind != .partitioned && cover.publication.tables[$0.name] == nil }
        guard !lost.isEmpty else { return }
        let name = SQLText.identifier(settings.publication)
        let add = lost.map { "ALTER PUBLICATION \(name) ADD TABLE \($0.name.sql);" }.joined(separator: " ")
        let forget = lost.map { table in
            "TRUNCATE \(table.name.sql); DELETE FROM lindero.table_copy WHERE direction = \(SQLText.literal(settings.name)) AND "
                + "schema_name = \(SQLText.literal(table.name.schema)) AND table_name = \(SQLText.literal(table.name.name));"
        }.joined(separator: " ")
        throw ReplicationFailure(
            .publicationTable,
            "Publication \(settings.publication) on \(settings.sourceName) no longer has "
                + "\(lost.map { "\($0.name)" }.joined(separator: ", ")): changes since then are missing on \(settings.targetName).",
            nextStep: "To copy anew: run on \(settings.sourceName): \(add) On \(settings.targetName): \(forget) "
                + "Then `lindero run`. Or leave them out of `tables:`.", isBlocker: true)
    }
}
