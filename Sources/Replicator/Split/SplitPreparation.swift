import Logging
import PostgresClient
import ReplicationCore

/// Brings two databases to the beginning of a split: the other side has everything that the origin has, both directions
/// have their slots, and it is known where in both logs the databases were equal.
///
/// Every step can be killed and run again; the last one, which notes where the forward direction begins, is the one
/// that counts. Until then nobody but Lindero writes to the other side.
struct SplitPreparation: Sendable {
    let settings: SplitSettings
    let states: SidePair<DirectionState>
    let logger: Logger
    let worker: String

    private var forward: DirectionSettings { settings[reading: .origin] }
    private var backward: DirectionSettings { settings[reading: .other] }

    /// What a split in transition cannot begin without: a reader would stop at the first change before it.
    private func requireOldRows(_ origin: PostgresConnection) async throws {
        guard let policy = forward.policy, policy.isInTransition else { return }
        let missing = try await FullIdentity(name: settings.name(.origin), connection: origin).missing(policy.tables.keys.sorted())
        guard let first = missing.first else { return }
        throw ReplicationFailure(
            .schemaDiffers, "Services are to move while changes of \(first) on \(settings.name(.origin)) do not carry the old row.",
            nextStep: "Run `lindero advance --to split --execute`, which sees to that.", isBlocker: true)
    }

    /// Does what is left to do; at once when nothing is.
    ///
    /// - Parameter hasConnected: called when both servers have been reached.
    func run(hasConnected: () -> Void) async throws {
        // One session for all that a start asks of a side: a session costs more than its questions.
        let hasBegun = try await settings.withBoth { sides in
            hasConnected()
            for connection in sides.both { _ = try await Migrator(connection: connection).migrate() }
            let hasBegun = try await self.hasBegun(sides[.other])
            if hasBegun { try await SplitIdentity(forward: forward, sides: sides).require() }
            // A copy that was cut off may have made tables.
            let created = hasBegun ? [] : try await DirectionRecord(connection: sides[.other], settings: forward).createdTables()
            try await check(sides, created: created, hasBegun: hasBegun)
            return try await goOn(sides, hasBegun: hasBegun)
        }
        if hasBegun { return }
        do {
            try await catchUp()
        } catch let failure as ReplicationFailure where failure.code == .splitBegun {
            // By another worker, which may be gone.
            return try await run(hasConnected: hasConnected)
        }
        if states[.origin].isDraining { return }
        let end = try await PostgresConnection.with(settings[writing: .other].applyOptions) { fence in
            // Where the other side stands must not change while the split's beginning is noted. The session that has caught up ends.
            try await ProgressOrigin(connection: fence, direction: forward.name).keep()
            return try await settings.withBoth { try await begin($0, fence) }
        }
        switch end {
        case .drained: return
        case .met: return try await run(hasConnected: hasConnected)
        case .begun: logger.notice("the split begins", metadata: ["directions": "\(forward.name), \(backward.name)"])
        }
    }

    private enum End {
        case begun, drained
        /// Another worker has begun it meanwhile.
        case met
    }

    private func begin(_ sides: SidePair<PostgresConnection>, _ fence: PostgresConnection) async throws -> End {
        if try await hasBegun(sides[.other]) { return .met }
        try await giveOldRows(sides[.other])
        // What the copy has made was not there before.
        try await check(sides)
        try await prepareOther(origin: sides[.origin], other: sides[.other])
        // That may have waited for others, and who wanted a split may have thought better of it.
        if states[.origin].isDraining { return .drained }
        try await begin(origin: sides[.origin], other: sides[.other], fence)
        return .begun
    }

    private func check(_ sides: SidePair<PostgresConnection>, created: Set<String> = [], hasBegun: Bool = false) async throws {
        guard let policy = forward.policy else { return }
        try await SplitStartChecks.read(
            policy, Side.allCases.map { (settings.name($0), sides[$0], settings.roles[$0]) }, created: (settings.name(.other), created)
        ).require(hasBegun: hasBegun)
    }

    private func hasBegun(_ other: PostgresConnection) async throws -> Bool {
        try await SplitProgressStore(connection: other, direction: forward.name).read() != nil
    }

    /// Goes on with a split that has begun; false when it has not.
    private func goOn(_ sides: SidePair<PostgresConnection>, hasBegun: Bool) async throws -> Bool {
        guard hasBegun else {
            try await requireOldRows(sides[.origin])
            return false
        }
        try await SplitMembers(settings: settings, other: sides[.other]).requireNone()
        _ = try await unpublished(sides)
        for side in Side.allCases { states[side].noteStart() }
        return true
    }

    /// Copies what is not there yet, and streams as a replica until nothing is behind.
    private func catchUp() async throws {
        let state = states[.origin]
        let copy = DirectionState()
        let supervisor = DirectionSupervisor(
            settings: settings.copy, state: copy, logger: logger, worker: worker,
            prepare: { try await InitialSync(settings: $0, state: copy, logger: logger).run() })
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                try await supervisor.run()
                return true
            }
            group.addTask {
                await state.waitForDrain()
                copy.drain()
                return false
            }
            group.addTask {
                // What it does shows as the direction's own state.
                while copy.phase != .streaming {
                    try await Task.sleep(for: .milliseconds(100))
                    state.follow(copy.snapshot())
                }
                copy.drain()
                return false
            }
            while let isDone = try await group.next() { if isDone { break } }
            group.cancelAll()
        }
        await LateForeignKeys(settings: settings.copy, state: copy, logger: logger).run()
    }

    /// Lets changes of tables that the copy has made on the other side carry their old rows, where they have to.
    private func giveOldRows(_ other: PostgresConnection) async throws {
        guard let policy = forward.policy else { return }
        let tables = try await CatalogReader.tables(other, matching: policy.tables.keys.sorted())
        let created = try await DirectionRecord(connection: other, settings: forward).createdTables()
        try await FullIdentity(name: settings.name(.other), connection: other).set(
            tables.filter { table in
                created.contains(table.name.sql) && policy.tables[table.name]?.needsOldRow(table, on: settings.name(.other), by: settings.name(.origin)) == true
            }.map(\.name))
    }

    /// What the other side needs to send its own changes.
    private func prepareOther(origin: PostgresConnection, other: PostgresConnection) async throws {
        guard let policy = forward.policy else { return }
        let tables = try await CatalogReader.tables(other, matching: policy.tables.keys.sorted())
        try await settings.sequences(origin: origin, other: other).applyOrSayWhy()
        for side in Side.allCases {
            let source = side == .origin ? origin : other
            try await ReplicationObjects(settings: settings[reading: side], source: source)
                .ensurePublication(sent(tables, from: side, policy))
        }
    }

    /// What never leaves a side need not be decoded, sent and read.
    private func sent(_ tables: [TableDescription], from side: Side, _ policy: OwnershipPolicy) -> [TableDescription] {
        tables.filter { policy.tables[$0.name]?.isSilent(settings.name(side), towards: settings.name(side.opposite)) == false }
    }

    /// Publishes and notes what travels from now on. Only the worker that holds both sides' origins may: another one, with another
    /// configuration, would have the one that runs believe that its tables had stayed behind.
    ///
    /// - Parameter owners: with what still is shared as shared.
    func follow(_ sides: SidePair<PostgresConnection>, owners: SplitSettings) async throws {
        let missing = try await unpublished(sides)
        for side in Side.allCases where !missing[side].isEmpty {
            let direction = settings[reading: side]
            try await ReplicationObjects(settings: direction, source: sides[side]).addToPublication(missing[side])
            logger.notice(
                "tables travel from now on",
                metadata: [
                    "direction": "\(direction.name)", "tables": "\(missing[side].map(\.name).sorted().map(\.sql).joined(separator: ", "))",
                ])
        }
        // Only now: what is refused before has not been carried. As one: tables and columns that tell of different files would
        // look like something that has stayed behind.
        let other = sides[.other]
        try await other.inTransaction {
            try await SplitMembers(settings: settings, other: other).follow(owners: owners)
            try await SplitIdentity(forward: forward, sides: sides).follow()
        }
    }

    /// What a side has got to say since the split began: its changes would else be left out, and nobody told.
    ///
    /// - Throws: `ReplicationFailure` for a table that was no part of the split.
    private func unpublished(_ sides: SidePair<PostgresConnection>) async throws -> SidePair<[TableDescription]> {
        var missing = SidePair<[TableDescription]> { _ in [] }
        guard let policy = forward.policy else { return missing }
        var published = SidePair<Set<QualifiedName>> { _ in [] }
        for side in Side.allCases {
            let direction = settings[reading: side]
            try await SourceCheck(settings: direction, connection: sides[side]).verifyPublication()
            published[side] = try await listed(direction.publication, on: sides[side])
        }
        let known = published[.origin].union(published[.other])
        for side in Side.allCases {
            let tables = try await CatalogReader.tables(sides[side], matching: policy.tables.keys.sorted())
            missing[side] = sent(tables, from: side, policy).filter { !published[side].contains($0.name) }
        }
        let later = Set(missing.both.joined().map(\.name)).subtracting(known).sorted()
        guard later.isEmpty else { throw laterTables(later) }
        return missing
    }

    /// What a publication sends: also partitions that are sent under their root's name.
    private func listed(_ publication: String, on source: PostgresConnection) async throws -> Set<QualifiedName> {
        let found = try await source.query(
            """
            SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = $1
            UNION SELECT n.nspname, c.relname FROM pg_catalog.pg_publication p
            JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1
            """, [.text(publication)])
        return Set(found.rows.map { QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? "") })
    }

    private func laterTables(_ tables: [QualifiedName]) -> ReplicationFailure {
        let list = tables.map(\.sql).joined(separator: ", ")
        let additions = Side.allCases.map { side in
            "on \(settings.name(side)): ALTER PUBLICATION \(SQLText.identifier(settings[reading: side].publication)) ADD TABLE \(list);"
        }
        return ReplicationFailure(
            .splitTable, "lindero.yaml names \(list), which was no part of the split when it began: its rows were not copied.",
            nextStep: "While nobody writes there, make the tables of both sides alike, rows and all, and run \(additions.joined(separator: " and ")) "
                + "Then `lindero run`.", isBlocker: true)
    }

    /// The slot of the way back, and the place where both databases are equal.
    ///
    /// - Parameter fence: a session on the other side that has the origin; without it nothing begins.
    private func begin(origin: PostgresConnection, other: PostgresConnection, _ fence: PostgresConnection) async throws {
        let objects = ReplicationObjects(settings: backward, source: other)
        let record = DirectionRecord(connection: origin, settings: backward)
        // What is noted on one side is believed on the other one, whatever becomes of the first.
        for connection in [origin, fence] { try await SplitProgressStore.commitDurably(connection) }
        let slot = try await ReplicationConnection.with(settings.options(.other)) { walsender in
            if try await objects.slotExists() {
                // Ours, of a run that died before the split had begun: the other side has moved on since.
                guard try await record.read() != nil else { throw objects.foreignSlot() }
                try await record.markUnprepared()
                try await SlotCreation(source: other, logger: logger).waitUntilMade(backward)
                try await walsender.dropSlot(backward.slot)
            }
            if try await record.read() == nil {
                let check = SourceCheck(settings: backward, connection: other)
                try await record.create(systemIdentifier: check.systemIdentifier(), startLSN: .zero)
            }
            return try await SlotCreation(source: other, logger: logger).create(
                backward.slot, temporary: false, exportsSnapshot: false, on: walsender)
        }
        let otherLSN = LSN(slot.consistentPoint)
        let originLSN = try await appliedLSN(fence)
        try await record.setStart(otherLSN)
        try await SplitProgressStore(connection: origin, direction: backward.name).begin(
            SplitProgress(appliedLSN: otherLSN, context: CausalContext(lsn: originLSN)))
        try await record.markPrepared()
        // Together: from here on the split may have carried something.
        try await fence.inTransaction {
            try await SplitMembers(settings: settings, other: fence).begin()
            try await SplitProgressStore(connection: fence, direction: forward.name).begin(
                SplitProgress(appliedLSN: originLSN, context: CausalContext(lsn: otherLSN)))
        }
    }

    private func appliedLSN(_ other: PostgresConnection) async throws -> LSN {
        let row = try await other.query(
            "SELECT applied_lsn::text FROM lindero.direction WHERE name = $1", [.text(forward.name)])
        guard let lsn = row.firstValue.flatMap({ LSN($0) }) else { throw ProgressError.noRow }
        return lsn
    }
}
