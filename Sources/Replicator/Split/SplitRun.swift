import Logging
import PostgresClient
import ReplicationCore

/// One life of a split: both streams and both appliers, until something ends one of them. Then all end: a stream that was
/// cut is read again from where both directions stand.
struct SplitRun: Sendable {
    var settings: SplitSettings
    let states: SidePair<DirectionState>
    let logger: Logger
    let worker: String
    /// Whether to ask for binary values where every published type allows it.
    var allowsBinary = true
    /// By side, a transaction that has to be applied in one piece.
    var whole = SidePair<LSN?>(origin: nil, other: nil)

    /// The sessions on one side.
    private struct Links {
        /// Writes what comes from the other side.
        let target: PostgresConnection
        /// Looks at the slot and writes signs of life.
        let control: PostgresConnection
        /// Marks its log, and asks what it shows.
        let barrier: PostgresConnection
        let stream: ReplicationConnection

        func close() async {
            await stream.close()
            for connection in [target, control, barrier] { await connection.close() }
        }
    }

    /// Streams until both directions are drained.
    func run() async throws {
        let replication = settings[reading: .origin].replication
        let files = SplitFiles(try await SpillFolder.open(base: replication.spillDirectory, direction: settings[reading: .origin].name))
        do {
            try await withLinks(.origin) { origin in
                try await withLinks(.other) { other in try await run(SidePair(origin: origin, other: other), files) }
            }
        } catch {
            await files.folder.close()
            throw error
        }
        await files.folder.close()
    }

    /// Runs `body` with the sessions on one side, which are closed afterwards, whatever happens.
    private func withLinks(_ side: Side, _ body: (Links) async throws -> Void) async throws {
        let links = try await connect(side)
        do {
            try await body(links)
        } catch {
            await links.close()
            throw error
        }
        await links.close()
    }

    private func connect(_ side: Side) async throws -> Links {
        var opened: [PostgresConnection] = []
        do {
            var target = settings[writing: side].applyOptions
            target.settings.append((name: "idle_in_transaction_session_timeout", value: "\(SplitBarrier.heldMilliseconds)"))
            let asking = settings[reading: side].askingOptions
            for options in [target, asking, asking] {
                opened.append(try await PostgresConnection.connect(options))
            }
            try await DirectionRun.commitAsynchronously(opened[0])
            for connection in opened[1...] { try await SplitBarrier.prepare(connection) }
            return Links(
                target: opened[0], control: opened[1], barrier: opened[2],
                stream: try await ReplicationConnection.connect(settings.options(side)))
        } catch {
            for connection in opened { await connection.close() }
            throw error
        }
    }

    private func run(_ links: SidePair<Links>, _ files: SplitFiles) async throws {
        try await requireClocks(links)
        var origins: [String] = []
        for side in Side.allCases {
            // Taken first: what an earlier worker's session commits last is then seen.
            let origin = ProgressOrigin(connection: links[side].target, direction: settings[writing: side].name)
            _ = try await origin.acquire()
            origins.append(try await origin.name())
        }
        let positions = try await progress { links[$0].target }
        let controls = SidePair { links[$0].control }
        let identity = SplitIdentity(forward: settings[reading: .origin], sides: controls)
        // First: rules and records go by names.
        try await controls[.other].inTransaction { try await identity.follow() }
        let policies = SplitPolicies(settings: settings, other: controls[.other])
        let former = try await policies.follow(controls, progress: positions)
        var run = self
        if !former.shared.isEmpty { run.settings = settings.sharing(former.shared) }
        try await SplitPreparation(settings: settings, states: states, logger: logger, worker: worker).follow(controls, owners: run.settings)
        run.settings.note(try await identity.known())
        do {
            try await run.stream(links, files, origins, positions, former.rules)
        } catch {
            guard case SplitError.needsFullIdentity(let table) = (error as? SplitSideError)?.error ?? error,
                try await policies.giveUp(former.shared.keys.filter { $0.table == table })
            else { throw error }
            throw SplitRestart.untold(table)
        }
    }

    /// - Parameters:
    ///   - origins: names, by the side on which they are.
    ///   - positions: by the side that is read.
    private func stream(
        _ links: SidePair<Links>, _ files: SplitFiles, _ origins: [String], _ positions: SidePair<SplitProgress>,
        _ former: SplitPolicies.Rules
    ) async throws {
        let tableIDs = settings.tableIDs
        let readers = SidePair { side in
            SplitReader.restart(
                ownOrigin: origins[side.rawValue], outgoing: positions[side], incoming: positions[side.opposite],
                tableIDs: tableIDs, historyLimitBytes: settings.historyBytes, storage: files.history(of: side))
        }
        let binaryTypes = try await binaryTypes(links)
        let isBinary = binaryTypes != nil
        let tables = try await tables(links)
        let echoed = echoedTables(tables)
        let layouts = SidePair { side in
            SplitLayouts(
                side: side, settings: settings[reading: side], tableIDs: tableIDs, echoedTables: echoed[side],
                binaryTables: isBinary ? tables[side] : [:], former: former)
        }
        let reached = SidePair { max(positions[$0].appliedLSN, positions[$0.opposite].context.lsn) }
        // Of both before a slot is looked at: where a side went back, the other one's slot seems to be ahead.
        for side in Side.allCases { try await requireHistory(of: side, links, upTo: reached[side]) }
        for side in Side.allCases {
            try await start(side, links, readers[side], reached: reached[side], isBinary: isBinary)
        }
        let ledger = SplitLedger(readers: readers, progress: positions, settings: settings, files: files, whole: whole)
        let match = settings[reading: .origin].policy?.tables.mapValues(\.match) ?? [:]
        let echoes = SidePair { EchoFilter(ownOrigin: origins[$0.rawValue], match: match) }
        try await runTogether(links, ledger, layouts, echoes, binaryTypes, former)
    }

    /// Refuses a side that has not, or no longer, what the other one got from it.
    private func requireHistory(of side: Side, _ links: SidePair<Links>, upTo reached: LSN) async throws {
        let check = SourceCheck(settings: settings[reading: side], connection: links[side].control)
        let record = DirectionRecord(connection: links[side.opposite].target, settings: settings[reading: side])
        guard let known = try await record.read() else { throw ProgressError.noRow }
        try await record.noting { try await check.requireHistory(known, upTo: reached) }
    }

    /// Starts a side's stream, after every check that the server is the one we left.
    ///
    /// - Parameter reached: the latest position of its log that either direction knows of.
    private func start(
        _ side: Side, _ links: SidePair<Links>, _ reader: SplitReader, reached: LSN, isBinary: Bool
    ) async throws {
        let direction = settings[reading: side]
        let check = SourceCheck(settings: direction, connection: links[side].control)
        let record = DirectionRecord(connection: links[side.opposite].target, settings: direction)
        try await check.verifyPublication()
        let slot = try await check.slot()
        guard let known = try await record.read() else { throw ProgressError.noRow }
        try await check.verify(slot: slot, appliedLSN: reader.startLSN)
        let stream = links[side].stream
        let timeline = try await check.verifyTimeline(stream, known: known.timeline, appliedLSN: reached)
        if timeline != known.timeline { try await record.setTimeline(timeline) }
        try await stream.startReplication(
            slot: direction.slot, at: reader.startLSN.rawValue,
            options: StreamOptions.list(publication: direction.publication, isBinary: isBinary))
        logger.info(
            "streaming",
            metadata: [
                "direction": "\(direction.name)", "slot": "\(direction.slot)", "from": "\(reader.startLSN)",
                "format": "\(isBinary ? "binary" : "text")",
            ])
        let shown = try await record.lastHeartbeat()
        states[side].begin(durable: reader.startLSN)
        states[side].withLag { $0.handleStreamStart(shown: shown) }
        states[side].set(.catchingUp)
        states[side].noteStart()
        try await record.note(state: .catchingUp, problem: nil)
    }

    private func runTogether(
        _ links: SidePair<Links>, _ ledger: SplitLedger, _ layouts: SidePair<SplitLayouts>,
        _ echoes: SidePair<EchoFilter>, _ binaryTypes: SidePair<[UInt32: ColumnDescription]>?, _ former: SplitPolicies.Rules
    ) async throws {
        let backlogSequence = HeartbeatSequence.last
        var timeouts: [Int] = []
        for side in Side.allCases {
            timeouts.append(
                try await SourceCheck(settings: settings[reading: side], connection: links[side].control).senderTimeoutMilliseconds())
        }
        var appliers: [String] = []
        for side in Side.allCases { appliers.append(try await LockWatch.processID(of: links[side].target)) }
        try await withThrowingTaskGroup(of: Bool.self) { [appliers] group in
            for side in Side.allCases {
                let direction = settings[reading: side]
                let mailbox = StreamMailbox(limitBytes: settings.arrivingBytes)
                let reader = StreamReader(
                    stream: links[side].stream, mailbox: mailbox, state: states[side],
                    senderTimeoutMilliseconds: timeouts[side.rawValue], limits: settings.readLimits(side),
                    stopsOnDrain: false, isBehind: { ledger.isBehind(side) }, echoes: echoes[side],
                    isEchoing: { ledger.isEchoing(side) }, noteBacklog: { ledger.note(isBacklog: $0, of: side) },
                    names: direction.sourceTables.names)
                let intake = SplitIntake(
                    side: side, settings: direction, connection: links[side].barrier, mailbox: mailbox, ledger: ledger, layouts: layouts[side],
                    states: states, worker: worker, logger: logger)
                let target = side.opposite
                let loop = SplitApplyLoop(
                    side: side, settings: direction, ledger: ledger, connection: links[target].target,
                    sourceConnection: links[side].control, barrierConnection: links[target].barrier, state: states[side],
                    binaryTypes: binaryTypes?[side], backlogSequence: backlogSequence)
                let heartbeat = HeartbeatWriter(
                    settings: direction, state: states[side], source: links[side].control, worker: worker)
                group.addTask { try await reader.run(); return false }
                group.addTask { try await SplitSideError.naming(side) { try await intake.run() }; return false }
                group.addTask { try await SplitSideError.naming(side) { try await loop.run() }; return true }
                let locks = LockWatch(
                    settings: direction, state: states[side], logger: logger, processID: appliers[target.rawValue])
                group.addTask { try await heartbeat.run(); return false }
                group.addTask { try await locks.run(); return false }
                let publication = PublicationWatch(
                    settings: direction, tables: [],
                    newTables: side == .origin ? NewTables(settings: direction, state: states[side], logger: logger) : nil)
                group.addTask { try await publication.run(); return false }
                group.addTask { await states[side].waitForDrain(); ledger.stop(); return false }
            }
            group.addTask { try await watchClocks(links); return false }
            let identity = SplitIdentity(forward: settings[reading: .origin], sides: SidePair { links[$0].control })
            group.addTask { try await identity.watch(); return false }
            if former.values.contains(where: { !$0.values.allSatisfy(\.isEmpty) }) {
                group.addTask { try await watchPolicies(former, links); return false }
            }
            group.addTask {
                while true {
                    try await Task.sleep(for: .milliseconds(SplitBarrier.heldMilliseconds / 15))
                    ledger.remind()
                }
            }
            // Drained, both appliers end with the group they are at. An applier needs both readers until then, so these
            // are cancelled; what they have read and nobody applied comes again.
            var left = 2
            while left > 0, let isApplier = try await group.next() { if isApplier { left -= 1 } }
            group.cancelAll()
        }
    }

    /// By the side that is read; `nil` where one of the streams has to be text, and so both.
    ///
    /// - Throws: `ReplicationFailure` where a type of the users' own is not the same on both sides.
    private func binaryTypes(_ links: SidePair<Links>) async throws -> SidePair<[UInt32: ColumnDescription]>? {
        var types = SidePair<[UInt32: ColumnDescription]?> { _ in nil }
        for side in Side.allCases {
            let direction = settings[reading: side]
            let pairs = try await TablePairs.read(direction, source: links[side].control, target: links[side.opposite].control)
            do {
                try pairs.requireSameTypes()
            } catch let mismatch as SchemaMismatch {
                throw ReplicationFailure(
                    .schemaDiffers, "\(direction.name): \(mismatch)",
                    nextStep: "Run `lindero check`, and mend on \(direction.targetName) what it names, then `lindero run`; it goes on "
                        + "where it stopped.", isBlocker: true)
            }
            types[side] = pairs.binaryTypes()
        }
        guard allowsBinary, let origin = types[.origin], let other = types[.other] else { return nil }
        return SidePair(origin: origin, other: other)
    }

    /// The tables of each side as they are now.
    private func tables(_ links: SidePair<Links>) async throws -> SidePair<[QualifiedName: TableDescription]> {
        var tables = SidePair<[QualifiedName: TableDescription]> { _ in [:] }
        guard let policy = settings[reading: .origin].policy else { return tables }
        for side in Side.allCases {
            let found = try await CatalogReader.tables(links[side].control, matching: policy.tables.keys.sorted())
            tables[side] = Dictionary(found.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        }
        return tables
    }

    /// Tables whose rows, made by the other side, travel back with what this side gave them; by the side that is read.
    private func echoedTables(_ tables: SidePair<[QualifiedName: TableDescription]>) -> SidePair<Set<QualifiedName>> {
        guard let policy = settings[reading: .origin].policy else { return SidePair(origin: [], other: []) }
        return SidePair { side in
            Set(
                policy.tables.values.filter { ownership in
                    guard let here = tables[side][ownership.table], let there = tables[side.opposite][ownership.table] else { return true }
                    // A key that the other side has changed may move its row here, which comes as a new one.
                    if here.kind == .partitioned { return true }
                    return EchoRule(ownership: ownership, side: settings.name(side), maker: settings.name(side.opposite))
                        .isNeeded(here: here, there: there)
                }.map(\.table))
        }
    }

    private static let clockSeconds = 10

    /// Clocks that were right at the start may be set while we run; writes of so many seconds may then be judged by them.
    private func watchClocks(_ links: SidePair<Links>) async throws {
        while true {
            try await Task.sleep(for: .seconds(Self.clockSeconds))
            try await requireClocks(links)
        }
    }

    /// What both directions have noted, by the side that is read.
    ///
    /// - Parameter session: one on each side.
    private func progress(_ session: (Side) -> PostgresConnection) async throws -> SidePair<SplitProgress> {
        var progress: [SplitProgress] = []
        for side in Side.allCases {
            let store = SplitProgressStore(connection: session(side.opposite), direction: settings[reading: side].name)
            guard let known = try await store.read() else { throw ProgressError.noRow }
            progress.append(known)
        }
        return SidePair(origin: progress[0], other: progress[1])
    }

    /// A former policy costs values and updates; where it can decide nothing any more, the layouts do without.
    private func watchPolicies(_ former: SplitPolicies.Rules, _ links: SidePair<Links>) async throws {
        while true {
            try await Task.sleep(for: .seconds(Self.clockSeconds))
            let progress = try await self.progress { links[$0].control }
            if SplitPolicies.arePassed(former, settings: settings, progress: progress) {
                throw SplitRestart.policiesPassed
            }
        }
    }

    private func requireClocks(_ links: SidePair<Links>) async throws {
        guard let policy = settings[reading: .origin].policy,
            let offset = try await ClockReader.offset(source: links[.origin].control, target: links[.other].control)
        else { return }
        try ClockCheck(
            source: settings.name(.origin), target: settings.name(.other), gates: settings.gates, policy: policy
        ).require(offset)
    }
}
