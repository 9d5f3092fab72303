import Logging
import PostgresClient
import ReplicationCore

/// One run of the copy: takes the snapshot that comes with a slot, plans, brings kept parts up to it, copies the rest.
struct SnapshotRun {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger
    let source: PostgresConnection
    let target: PostgresConnection
    /// The target's tables, by name.
    let targets: [QualifiedName: TableDescription]

    /// - Parameter startLSN: where the direction's slot begins; `nil` before there is one.
    func run(
        _ pending: [TableDescription], kept: [QualifiedName: ChunkLedger.Kept],
        finished: [QualifiedName: TableCopyState], startLSN: LSN?
    ) async throws {
        let walsender = try await ReplicationConnection.connect(settings.source)
        do {
            let slot = try await slot(walsender, isResumed: startLSN != nil)
            let lsn = LSN(slot.consistentPoint)
            if startLSN == nil { try await DirectionRecord(connection: target, settings: settings).setStart(lsn) }
            state.noteStart()
            logger.info("copying", metadata: ["tables": "\(pending.count)", "snapshot": "\(lsn)"])
            let copier = SnapshotCopier(
                settings: settings, snapshot: slot.snapshotName ?? "", snapshotLSN: lsn, targets: targets,
                rate: CopyRate(bytesPerSecond: settings.replication.copy.rateLimitBytes))
            let whole: @Sendable () async throws -> Void = {
                try await copier.withSource { keeper in
                    try await requireSame(pending, as: keeper)
                    try await copy(pending, kept, finished, keeper, copier, startLSN: startLSN ?? lsn)
                }
            }
            try await CopyLockWatch(source: settings.source, sessions: copier.sessions).whileWatching(whole)
            await walsender.close()
        } catch {
            await walsender.close()
            throw error
        }
    }

    /// The direction's own slot, or a temporary one when that exists already.
    private func slot(_ walsender: ReplicationConnection, isResumed: Bool) async throws -> CreatedSlot {
        let creation = SlotCreation(source: source, logger: logger)
        if isResumed {
            // The last run's may need a moment to go.
            let suffix = String(UInt32.random(in: 0...UInt32.max), radix: 36)
            return try await creation.create("\(settings.slot.prefix(46))_resume_\(suffix)", temporary: true, on: walsender)
        }
        // A server goes on making one whose maker is gone.
        try await creation.waitUntilMade(settings)
        if try await ReplicationObjects(settings: settings, source: source).slotExists() {
            // Made by a run that died before it could note where the slot begins; nothing was copied with it.
            try await walsender.dropSlot(settings.slot)
        }
        return try await creation.create(settings.slot, temporary: false, on: walsender)
    }

    /// - Parameter keeper: shows the snapshot, and keeps its locks until everything is copied.
    private func copy(
        _ pending: [TableDescription], _ kept: [QualifiedName: ChunkLedger.Kept],
        _ finished: [QualifiedName: TableCopyState], _ keeper: PostgresConnection, _ copier: SnapshotCopier, startLSN: LSN
    ) async throws {
        var kept = kept
        let chunkBytes = settings.replication.copy.chunkBytes
        let columns = Dictionary(
            pending.compactMap { table in
                targets[table.name].map { (table.name, CopyColumns(table, to: $0, settings: settings)) }
            }, uniquingKeysWith: { first, _ in first })
        let (layouts, sizes) = try await CopyPlanner(source: keeper, chunkBytes: chunkBytes).layouts(
            of: pending, alwaysStretched: Set(kept.keys), columns: columns)
        if !kept.isEmpty {
            try await copier.withTarget { target in
                try await CopyRepair(
                    settings: settings, source: keeper, marker: source, target: target, targets: targets,
                    snapshotLSN: copier.snapshotLSN, rate: copier.rate, logger: logger
                ).run(&kept, tables: pending, layouts: layouts, from: startLSN)
            }
        }
        var progress = CopyProgress()
        progress.tablesTotal = pending.count + finished.count
        progress.tablesDone = finished.count
        progress.rows = finished.values.reduce(0) { $0 + $1.rows } + kept.values.reduce(0) { $0 + $1.rows }
        var parts: [CopyPart] = []
        for table in pending {
            guard let layout = layouts[table.name] else {
                parts.append(CopyPart(table: table, stretch: nil, sizeBytes: sizes[table.name] ?? 0))
                continue
            }
            let rest = Self.rest(of: table, layout, kept[table.name], chunkBytes: chunkBytes)
            progress.sizeDone += max(0, layout.sizeBytes - rest.reduce(0) { $0 + $1.sizeBytes })
            parts += rest
            if rest.isEmpty {
                try await ChunkLedger(connection: target, direction: settings.name)
                    .finish(table, staying: settings.stayingColumns(of: table.name))
                progress.tablesDone += 1
            }
        }
        let state = state
        try await copier.run(CopyQueue(parts, after: progress, report: { state.note(copy: $0) }))
    }

    /// The tables were read before the slot was made, and that waits for whoever is altering one: a column that is added there is in the
    /// snapshot, and so is what the stream will take for copied.
    ///
    /// - Throws: `ApplyError.schemaDiffers` where the target lacks it, or no rule knows it yet; `CopyYield` where it is enough to begin anew.
    private func requireSame(_ pending: [TableDescription], as keeper: PostgresConnection) async throws {
        let shown = try await CatalogReader.tables(keeper, matching: pending.map(\.name))
        for table in pending {
            guard let now = shown.first(where: { $0.name == table.name }), now.oid == table.oid else { throw CopyYield(altered: table.name) }
            let unowned = settings.unowned(now.columns.filter { !$0.isGenerated }.map(\.name), of: table.name)
            if !unowned.isEmpty {
                throw ApplyError.schemaDiffers(SchemaMismatch(table: table.name, problems: unowned.map { .unownedColumn($0) }))
            }
            let problems = targets[table.name].map { target in
                TargetSchema.problems(original: now, present: target) { settings.travels(table.name, $0) }
            }
            if let problems, !problems.isEmpty { throw ApplyError.schemaDiffers(SchemaMismatch(table: table.name, problems: problems)) }
            if now.columns != table.columns { throw CopyYield(altered: table.name) }
        }
    }

    private static func rest(
        of table: TableDescription, _ layout: CopyPlanner.Layout, _ kept: ChunkLedger.Kept?, chunkBytes: Int
    ) -> [CopyPart] {
        layout.heaps.flatMap { heap in
            heap.rest(without: kept?.ranges[heap.oid] ?? [], chunkBlocks: chunkBytes / max(1, layout.blockBytes)).map {
                CopyPart(
                    table: table, stretch: CopyPart.Stretch(heap: heap, blocks: $0, shape: layout.shape),
                    sizeBytes: $0.count * layout.blockBytes)
            }
        }
    }
}
