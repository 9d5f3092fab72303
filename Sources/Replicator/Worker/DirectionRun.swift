import Logging
import PostgresClient
import ReplicationCore

/// One life of a direction: connect, stream, apply, until something ends it. The supervisor starts the next.
struct DirectionRun: Sendable {
    let settings: DirectionSettings
    let state: DirectionState
    let logger: Logger
    /// Names this worker in its heartbeats.
    let worker: String
    /// Whether to ask for binary values where every published type allows it.
    var allowsBinary = true
    /// Whether to have large transactions while they run, if the configuration says so.
    var allowsStreaming = true
    /// Those that begin to come before this position are not applied while they run.
    var earlyFrom = LSN.zero
    /// Source transactions that committed up to here failed in bulk and are applied in exact order.
    var exactUpTo = LSN.zero
    /// Changes that the target refused and that are to be set aside.
    var quarantine = QuarantineOrders()
    /// Which source transaction is asked after each change whether it could end there.
    var late = LateRefusal()
    /// Prepared transactions of the source that are known to have come to nothing.
    var rolledBack: Set<PreparedTransactions.Prepare> = []

    /// Streams until the direction is drained.
    func run() async throws {
        try await PostgresConnection.with(settings.applyOptions) { target in
            try await Self.commitAsynchronously(target)
            try await PostgresConnection.with(settings.source) { source in
                let check = SourceCheck(settings: settings, connection: source)
                let (startLSN, slot) = try await position(target: target, check: check)
                try await LeftTables(settings: settings, target: target).follow()
                try await LeftColumns(settings: settings, target: target).follow()
                let pairs = try await TablePairs.read(settings, source: source, target: target)
                do {
                    try pairs.requireSameTypes()
                } catch let mismatch as SchemaMismatch {
                    throw ApplyError.schemaDiffers(mismatch)
                }
                let types = allowsBinary ? pairs.binaryTypes() : nil
                let spill = try await makeSpill()
                do {
                    try await stream(
                        from: startLSN, slot: slot, binaryTypes: types, spill: spill, source: source, target: target,
                        check: check)
                    await spill?.folder.close()
                } catch {
                    await spill?.folder.close()
                    throw error
                }
            }
        }
    }

    /// A place for transactions that are streamed while they run.
    private func makeSpill() async throws -> StreamSpill? {
        guard settings.replication.streaming == .on, allowsStreaming else { return nil }
        let folder = try await SpillFolder.open(base: settings.replication.spillDirectory, direction: settings.name)
        return StreamSpill(folder: folder, settings: settings, logger: logger)
    }

    /// A commit need not wait for the disk, since only what has reached it is acknowledged. Where standbys must have it
    /// too, it waits as the target's administrator wants.
    static func commitAsynchronously(_ target: PostgresConnection) async throws {
        _ = try await target.execute(
            """
            SELECT pg_catalog.set_config('synchronous_commit',
              CASE pg_catalog.current_setting('synchronous_standby_names')
                WHEN '' THEN 'off' ELSE pg_catalog.current_setting('synchronous_commit') END, false)
            """)
        // Asked for after each commit; a role that may not ask is better told before the first.
        _ = try await TargetTransaction.position(target)
    }

    private func stream(
        from startLSN: LSN, slot: SourceCheck.Slot, binaryTypes: [UInt32: ColumnDescription]?, spill: StreamSpill?,
        source: PostgresConnection, target: PostgresConnection, check: SourceCheck
    ) async throws {
        let isBinary = binaryTypes != nil
        let senderTimeoutMilliseconds = try await check.senderTimeoutMilliseconds()
        var copied = try await TableCopyState.read(target, direction: settings.name).mapValues(\.snapshotLSN)
        let newestCopy = copied.values.max() ?? .zero
        let publication = PublicationWatch(
            settings: settings, tables: Array(copied.keys),
            newTables: NewTables(settings: settings, state: state, logger: logger))
        let twoPhase = try await TwoPhaseStart(settings: settings, source: source, target: target)
            .decide(slot, startLSN: startLSN, newestCopy: newestCopy)
        let isTwoPhase = twoPhase == true
        // All are older than the stream, but a Prepare may be older still.
        if isTwoPhase { copied = [:] }
        let stream = try await ReplicationConnection.connect(settings.source)
        let record = DirectionRecord(connection: target, settings: settings)
        do {
            let known = try await record.read()?.timeline
            let timeline = try await check.verifyTimeline(stream, known: known, appliedLSN: startLSN)
            if timeline != known { try await record.setTimeline(timeline) }
            try await stream.startReplication(
                slot: settings.slot, at: startLSN.rawValue,
                options: StreamOptions.list(
                    publication: settings.publication, isBinary: isBinary, isStreaming: spill != nil,
                    isTwoPhase: isTwoPhase))
            logger.info(
                "streaming",
                metadata: [
                    "direction": "\(settings.name)", "slot": "\(settings.slot)", "from": "\(startLSN)",
                    "format": "\(isBinary ? "binary" : "text")",
                ])
            let backlogSequence = HeartbeatSequence.last
            let shown = try await DirectionRecord(connection: target, settings: settings).lastHeartbeat()
            state.begin(durable: startLSN)
            state.withLag { $0.handleStreamStart(shown: shown) }
            state.set(.catchingUp)
            try await record.note(state: .catchingUp, problem: nil)
            let mailbox = StreamMailbox(limitBytes: settings.replication.waitingBytes)
            let reader = StreamReader(
                stream: stream, mailbox: mailbox, state: state, senderTimeoutMilliseconds: senderTimeoutMilliseconds,
                limits: settings.replication.groupLimits, spill: spill,
                earlyFrom: isTwoPhase ? nil : max(startLSN, newestCopy, exactUpTo, earlyFrom), isTwoPhase: isTwoPhase)
            let plans = PlanCache(
                settings: settings, isBinary: isBinary, userTypes: binaryTypes ?? [:], copiedUpTo: copied,
                sourceOIDs: try await SourceIdentity.known(target, direction: settings.name))
            var prepared = try await PreparedTransactions.read(target, direction: settings.name)
            prepared.rolledBack = rolledBack
            let second = settings.replication.applySessions > 1 && !isTwoPhase ? SecondSession(settings: settings, logger: logger) : nil
            let loop = ApplyLoop(
                mailbox: mailbox, state: state, connection: target, settings: settings, plans: plans, startLSN: startLSN,
                exactUpTo: exactUpTo, quarantine: quarantine, late: late, worker: worker, backlogSequence: backlogSequence,
                prepared: prepared, second: second)
            let heartbeat = HeartbeatWriter(settings: settings, state: state, source: source, worker: worker)
            let wait = twoPhase == nil ? TwoPhaseWait(state: state, newestCopy: newestCopy) : nil
            let locks = LockWatch(
                settings: settings, state: state, logger: logger, processID: try await LockWatch.processID(of: target))
            do {
                try await runTogether(reader, loop, heartbeat, wait, locks, publication)
            } catch {
                await second?.close()
                throw error
            }
            await second?.close()
            await stream.close()
        } catch {
            await stream.close()
            throw error
        }
    }

    /// Reader, applier and heartbeat side by side, and who watches them; the first error ends all.
    private func runTogether(
        _ reader: StreamReader, _ loop: ApplyLoop, _ heartbeat: HeartbeatWriter, _ wait: TwoPhaseWait?, _ locks: LockWatch,
        _ publication: PublicationWatch
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            if let wait { group.addTask { try await wait.run() } }
            group.addTask { try await reader.run() }
            group.addTask { try await loop.run() }
            group.addTask {
                async let foreignKeys: Void = LateForeignKeys(settings: settings, state: state, logger: logger).run()
                try await heartbeat.run()
                await foreignKeys
            }
            group.addTask { try await locks.run() }
            group.addTask { try await publication.run() }
            // Drained, the reader and the applier end; the heartbeat goes on until it is cancelled.
            try await group.next()
            try await group.next()
            group.cancelAll()
        }
    }

    /// Where to start, after every check that the source is the one we left.
    private func position(
        target: PostgresConnection, check: SourceCheck
    ) async throws -> (startLSN: LSN, slot: SourceCheck.Slot) {
        let record = DirectionRecord(connection: target, settings: settings)
        try await check.verifyPublication()
        let slot = try await check.slot(allowsTwoPhase: true)
        let systemIdentifier = try await check.systemIdentifier()
        let isNew = try await record.read() == nil
        let progress: LSN
        if isNew {
            try await PreparedTransactions.requireNone(target, settings: settings)
            // Not even noted before that is settled: the next start would trust what this one did not.
            let promoted = PromotedTarget(settings: settings, source: check.connection, target: target)
            let start = try await promoted.start(slotLSN: slot.confirmedLSN) ?? slot.confirmedLSN
            progress = try await newProgress(target, startLSN: start)
            try await record.create(systemIdentifier: systemIdentifier, startLSN: start)
        } else {
            progress = try await ProgressOrigin(connection: target, direction: settings.name).acquire()
        }
        guard let known = try await record.read() else { return (progress, slot) }
        // Told with the origin taken: whoever begins a split holds it, and a replica would carry what the split has to decide.
        if known.isSplit { throw DirectionSupervisor.splitHasBegun(settings) }
        try check.requireSame(systemIdentifier, known: known.systemIdentifier)
        try check.requireNotAhead(known)
        guard known.slot == settings.slot else {
            throw ReplicationFailure(
                .otherSlot,
                "\(settings.name) on \(settings.targetName) belongs to replication slot \(known.slot), not to \(settings.slot): "
                    + "another slot has another position, and changes would be missing.",
                nextStep: "Go on with slot \(known.slot). To start over from \(settings.slot): " + settings.copyAnew,
                isBlocker: true)
        }
        let applied = max(progress, known.startLSN)
        try await record.noting { try await check.verify(slot: slot, appliedLSN: applied) }
        return (applied, slot)
    }

    /// Takes the origin for a direction that the target has no record of: progress that outlived its record is another
    /// history's, and an adopted target is what the slot's start says.
    private func newProgress(_ target: PostgresConnection, startLSN: LSN) async throws -> LSN {
        let origin = ProgressOrigin(connection: target, direction: settings.name)
        let progress = try await origin.acquire()
        guard progress > startLSN else { return progress }
        throw ReplicationFailure(
            .targetAhead,
            "\(settings.targetName) has no record of \(settings.name), but a replication origin of that name says that it has "
                + "changes up to \(progress), and slot \(settings.slot) starts at \(startLSN): those between would be passed over.",
            nextStep: "If \(settings.targetName) holds what the source had at the slot's start, run there: "
                + "\(try await origin.dropSQL()) Then `lindero run`.", isBlocker: true)
    }
}
