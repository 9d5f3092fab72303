import Logging
import PostgresClient
import ReplicationCore

/// Keeps one direction alive: starts it again after what passes by itself, waits where a person has to act,
/// ends where going on would lose or break something.
public struct DirectionSupervisor: Sendable {
    /// How long a slot or origin may be held by a session that is not ours before that is an error, at the start.
    static let takeoverMilliseconds: Int64 = 30_000

    let settings: DirectionSettings
    public let state: DirectionState
    let logger: Logger
    let worker: String
    /// Brings the target to the slot's start before the first stream, by the rules given; does nothing when that is done.
    let prepare: @Sendable (DirectionSettings) async throws -> Void

    public init(
        settings: DirectionSettings, state: DirectionState, logger: Logger, worker: String,
        prepare: @escaping @Sendable (DirectionSettings) async throws -> Void
    ) {
        self.settings = settings
        self.state = state
        self.logger = logger
        self.worker = worker
        self.prepare = prepare
    }

    /// Runs until drained.
    ///
    /// - Throws: `ReplicationFailure` when a person has to act; `PostgresError` when the first connection fails.
    public func run() async throws {
        async let _: Void = StandstillWatch(settings: settings, state: state).run()
        var attempt = Attempt(settings: settings)
        attempt.quarantine.tell = tell
        while !state.isDraining && !Task.isCancelled {
            do {
                let rules = rules(of: attempt)
                try await prepare(rules)
                var run = DirectionRun(settings: rules, state: state, logger: logger, worker: worker)
                run.exactUpTo = attempt.exactUpTo
                run.allowsBinary = attempt.allowsBinary
                run.allowsStreaming = attempt.allowsStreaming
                run.earlyFrom = attempt.earlyFrom
                run.quarantine = attempt.quarantine
                run.late = LateRefusal(commitLSN: attempt.lateLSN)
                run.rolledBack = attempt.rolledBack
                try await run.run()
            } catch {
                if state.isDraining || Task.isCancelled { break }
                do {
                    try await recover(from: error, &attempt)
                } catch {
                    if state.isDraining || Task.isCancelled { break }
                    state.set(.stopped, problem: "\(error)")
                    if await !DirectionRecord.isAnothers(settings, state, after: error) { await record(.stopped, problem: "\(error)") }
                    throw error
                }
            }
        }
        state.set(.draining)
    }

    /// The newest ones: they speak of what came during a copy.
    private func rules(of attempt: Attempt) -> DirectionSettings {
        var newest = attempt.settings
        if state.durableLSN != .zero, let known = settings.policy, let policy = newest.policy {
            newest.waitingTables = Set(policy.tables.keys).subtracting(known.tables.keys)
        }
        return newest
    }

    private struct Attempt {
        /// With the newest ownership rules.
        var settings: DirectionSettings
        /// Since when another session has been met; `nil` until then.
        var inUseSinceMilliseconds: Int64?
        var backoff = Backoff()
        var exactUpTo = LSN.zero
        var quarantine = QuarantineOrders()
        /// The source transaction whose end was refused last.
        var lateLSN = LSN.zero
        /// Prepared transactions that the source had rolled back when their changes were refused.
        var rolledBack: Set<PreparedTransactions.Prepare> = []
        var allowsBinary = true
        var allowsStreaming = true
        /// No transaction twice that could not be applied while it ran, nor after two failures in the same place.
        var earlyFrom = LSN.zero
        var lastLSN = LSN.zero
        var failuresAtLSN = 0
        var resumedAtMilliseconds: Int64 = 0
    }

    /// From so many on somebody should know that it is no matter of a few bad rows.
    private static let manyOfOneTransaction = 10

    /// What lasted this long was more than another failed attempt.
    private static let lastingMilliseconds: Int64 = 30_000

    /// Returns when the direction may be tried again; throws when it may not.
    private func recover(from error: any Error, _ attempt: inout Attempt) async throws {
        let canGoOn = state.hasStart
        if state.durableLSN <= attempt.lastLSN { attempt.earlyFrom = max(attempt.earlyFrom, state.receivedLSN) }
        if state.durableLSN > attempt.lastLSN {
            attempt.lastLSN = state.durableLSN
            attempt.failuresAtLSN = 0
            attempt.backoff.reset()
            attempt.quarantine.forget(upTo: state.durableLSN)
            attempt.rolledBack = attempt.rolledBack.filter { $0.lsn >= state.durableLSN }
        }
        if Monotonic.milliseconds() - attempt.resumedAtMilliseconds >= Self.lastingMilliseconds { attempt.backoff.reset() }
        if await isOfRolledBack(error, &attempt) { return }
        switch error {
        case ApplyError.schemaDiffers(let mismatch):
            do {
                try await mend(mismatch, &attempt)
            } catch let error as PostgresError {
                try await recover(from: error, &attempt, canGoOn: canGoOn)
            } catch let error as CopyYield {
                try await pause(&attempt, because: error)
            } catch ApplyError.schemaDiffers {
                // Altered while it was copied: `prepare` goes on with it, and says what differs.
            }
        case ApplyError.bulkFailed(let upTo):
            attempt.exactUpTo = upTo
        case ApplyError.tooEarly:
            attempt.earlyFrom = max(attempt.earlyFrom, state.receivedLSN)
            logger.info("a large transaction is applied at its commit", metadata: ["direction": "\(settings.name)"])
        case ApplyError.needsText(let table):
            attempt.allowsBinary = false
            logger.info("values travel as text", metadata: ["direction": "\(settings.name)", "table": "\(table)"])
        case ApplyError.missingRow(let change):
            guard setAside(for: error, &attempt) else { throw Self.missingRow(change, settings) }
        case ApplyError.incompleteRow(let change):
            guard setAside(for: error, &attempt) else { throw Self.incompleteRow(change, settings) }
        case ApplyError.refused(let change, let cause):
            // A definition that changed under a prepared statement mends itself when plans are made anew.
            attempt.failuresAtLSN += 1
            if cause.isSchemaChange, attempt.failuresAtLSN < 3 { return }
            if cause.isWithoutPartition, let change, attempt.failuresAtLSN < 3, try await wait(forPartitionOf: change.table, &attempt) { return }
            if setAside(for: error, &attempt) { return }
            guard let lack = try await missingLabels(change, cause) else { throw Self.refused(change, cause, settings) }
            try await mend(lack, &attempt)
        case ApplyError.refusedLate(let commitLSN, let cause):
            guard attempt.lateLSN != commitLSN else { throw Self.refused(nil, cause, settings) }
            attempt.lateLSN = commitLSN
            attempt.exactUpTo = max(attempt.exactUpTo, commitLSN)
        case ApplyError.preparedGone(let xid, let commitLSN):
            throw Self.preparedGone(xid, commitLSN, settings)
        case is TwoPhaseWait.Due:
            logger.info("transactions come when they are prepared, from now on", metadata: ["direction": "\(settings.name)"])
        case ProgressError.noRow:
            throw ReplicationFailure(
                .progressLost,
                "\(settings.name) has no row in lindero.direction on \(settings.targetName) any more: somebody removed it.",
                nextStep: "Restore the row from a backup of \(settings.targetName). " + settings.copyAnew, isBlocker: true)
        case let failure as ReplicationFailure:
            throw failure
        case let error as PostgresError:
            try await recover(from: error, &attempt, canGoOn: canGoOn)
        case let error as SpillError:
            try await recover(from: error, &attempt)
        case let error as CopyYield:
            try await pause(&attempt, because: error)
        case StreamError.tooManySubtransactions(let xid):
            attempt.allowsStreaming = false
            logger.warning(
                "large transactions come at their commit from now on",
                metadata: ["direction": "\(settings.name)", "reason": "\(StreamError.tooManySubtransactions(xid: xid))"])
        case let error as StreamError:
            attempt.failuresAtLSN += 1
            guard attempt.failuresAtLSN < 3 else { throw error }
            try await pause(&attempt, because: error)
        default:
            throw error
        }
    }

    /// Whether what was refused is part of a prepared transaction that has come to nothing: it may have come with holes.
    private func isOfRolledBack(_ error: any Error, _ attempt: inout Attempt) async -> Bool {
        guard settings.replication.twoPhase, let change = (error as? ApplyError)?.change else { return false }
        let prepare = PreparedTransactions.Prepare(xid: change.xid, lsn: change.commitLSN)
        guard !attempt.rolledBack.contains(prepare) else { return false }
        // Where the source can't be asked, what was refused is: nothing is passed on a guess.
        let isRolledBack = try? await PostgresConnection.with(settings.askingOptions) {
            try await SourceTransaction(xid: change.xid).isRolledBack(on: $0)
        }
        guard isRolledBack == true else { return false }
        attempt.rolledBack.insert(prepare)
        logger.info(
            "a prepared transaction was rolled back before it was read", metadata: ["direction": "\(settings.name)", "xid": "\(change.xid)"])
        return true
    }

    private func mend(_ mismatch: SchemaMismatch, _ attempt: inout Attempt) async throws {
        if case .anotherTable(let oid)? = mismatch.problems.first {
            try await PostgresConnection.with(settings.target) { target in
                try await PostgresConnection.with(settings.source) { source in
                    try await SourceIdentity(settings: settings, source: source, target: target).settle(mismatch.table, oid: oid)
                }
            }
            return
        }
        if mismatch.isUnowned {
            attempt.settings = try await PolicyRefresh(state: state, logger: logger).settings(after: mismatch, attempt.settings)
            if case .unknownTable? = mismatch.problems.first, attempt.settings.includes(mismatch.table), !state.isDraining {
                try await TableArrival(settings: attempt.settings, state: state, logger: logger).takeUp(mismatch.table)
            }
        } else {
            try await SchemaPause(settings: attempt.settings, state: state, logger: logger).wait(for: mismatch)
        }
    }

    /// What the target's enums lack, where a change was refused for a label; `nil` where the source's table does not tell.
    private func missingLabels(_ change: FailedChange?, _ cause: PostgresError) async throws -> SchemaMismatch? {
        guard let table = change?.table, cause.isOfLabel else { return nil }
        let lacks = try? await PostgresConnection.with(settings.target) { target in
            try await PostgresConnection.with(settings.source) { source in
                try await EnumLabels.missing(
                    try await CatalogReader.tables(source, matching: [table]), source: source, target: target, travels: settings.travels)
            }
        }
        guard let lacks, !lacks.isEmpty else { return nil }
        return SchemaMismatch(table: table, problems: lacks.map { .missingLabels($0.missing) })
    }

    /// Orders a refused change into the quarantine, if its table allows that and it was not tried before.
    private func setAside(for error: any Error, _ attempt: inout Attempt) -> Bool {
        guard let (change, reason) = QuarantineOrders.order(for: error, settings),
            attempt.quarantine.add(change, because: reason)
        else { return false }
        attempt.exactUpTo = max(attempt.exactUpTo, change.commitLSN)
        tell(change, reason)
        if attempt.quarantine.count(of: change.commitLSN) == Self.manyOfOneTransaction {
            logger.warning(
                "many changes of one transaction are refused at its end, and each takes another pass over it while the slot keeps WAL",
                metadata: [
                    "direction": "\(settings.name)", "table": "\(change.table)",
                    "next": "mend what refuses them on \(settings.targetName), or set on_error: stop",
                ])
        }
        return true
    }

    @Sendable private func tell(_ change: FailedChange, _ reason: QuarantineOrders.Reason) {
        logger.error(
            "a change goes into quarantine",
            metadata: [
                "direction": "\(settings.name)", "change": "\(change)", "reason": "\(reason.text)",
                "next": "lindero quarantine list",
            ])
    }

    private func recover(from error: PostgresError, _ attempt: inout Attempt, canGoOn: Bool) async throws {
        if error.isObjectInUse {
            let now = Monotonic.milliseconds()
            let since = attempt.inUseSinceMilliseconds ?? now
            attempt.inUseSinceMilliseconds = since
            // Who has streamed waits for its own old session to end; who has not has met another worker.
            if state.durableLSN == .zero, now - since >= Self.takeoverMilliseconds,
                await now - since >= Self.takeoverMilliseconds(of: settings)
            {
                throw Self.slotInUse(settings)
            }
            return try await pause(&attempt, because: error)
        }
        attempt.inUseSinceMilliseconds = nil
        // 42704: the slot or the publication went away; the next attempt says which, and what to do.
        if error.isUndefinedObject && attempt.failuresAtLSN < 3 {
            attempt.failuresAtLSN += 1
            return
        }
        if error.isUndefinedObject, error.description.contains("\"\(settings.publication)\"") {
            throw Self.publicationMissed(settings, after: state.durableLSN)
        }
        guard error.passesForApplier, canGoOn else { throw error }
        try await pause(&attempt, because: error)
    }

    /// What was kept in files is gone; the source sends it again.
    private func recover(from error: SpillError, _ attempt: inout Attempt) async throws {
        switch error {
        case .full:
            try await pause(&attempt, because: error)
        case .damaged:
            attempt.failuresAtLSN += 1
            guard attempt.failuresAtLSN < 4 else { throw Self.spillUnusable(error, settings) }
            try await pause(&attempt, because: error)
        case .unusable:
            throw Self.spillUnusable(error, settings)
        }
    }

    private func pause(_ attempt: inout Attempt, because error: any Error) async throws {
        let waitMilliseconds = attempt.backoff.nextMilliseconds()
        let wasCopying = state.phase == .copying
        state.set(.reconnecting, problem: "\(error)")
        state.noteReconnect()
        // Class 53: a full disk, no memory, no free connection.
        var isFull = (error as? PostgresError)?.sqlState?.class == "53"
        if case SpillError.full = error { isFull = true }
        let isTaken = (error as? PostgresError)?.isObjectInUse ?? false
        logger.warning(
            isTaken
                ? "another session has the slot or the origin, waiting for it to end"
                : isFull
                ? "a server is out of space or another resource; nothing is lost, give it more and this goes on by itself"
                : wasCopying ? "the copy was interrupted, going on with what is left" : "lost the stream, trying again",
            metadata: [
                "direction": "\(settings.name)", "reason": "\(error)", "waitMilliseconds": "\(waitMilliseconds)",
            ])
        try await Task.sleep(for: .milliseconds(waitMilliseconds))
        attempt.resumedAtMilliseconds = Monotonic.milliseconds()
    }

    /// How long to wait for a slot or an origin that another session holds: a server ends the stream of a host that is gone when it
    /// has heard nothing of it for `wal_sender_timeout`, and its other sessions as they have asked it to.
    static func takeoverMilliseconds(of settings: DirectionSettings) async -> Int64 {
        let timeout = try? await PostgresConnection.with(settings.source) { source in
            try await SourceCheck(settings: settings, connection: source).senderTimeoutMilliseconds()
        }
        return max(Int64(timeout ?? 60_000), ConnectionOptions.silenceMilliseconds) + takeoverMilliseconds / 2
    }

    private func record(_ phase: DirectionPhase, problem: String) async {
        try? await PostgresConnection.with(settings.target) { target in
            try await DirectionRecord(connection: target, settings: settings).note(state: phase, problem: problem)
        }
    }

    /// Whether one was missing, and is there.
    private func wait(forPartitionOf table: QualifiedName, _ attempt: inout Attempt) async throws -> Bool {
        do {
            return try await PartitionPause(settings: attempt.settings, state: state, logger: logger).wait(for: table)
        } catch let error as PostgresError where error.passesForApplier {
            try await pause(&attempt, because: error)
            return true
        }
    }
}

extension PostgresError {
    private var code: String? {
        guard case .server(let error) = self else { return nil }
        return error.sqlState.rawValue
    }
    /// A slot or origin that another session holds.
    var isObjectInUse: Bool { code == "55006" }
    /// Something that does not exist; of a publication, PostgreSQL 18 only warns.
    var isUndefinedObject: Bool {
        if case .server(let error) = self, error.isOmission { return true }
        return code == "42704"
    }
    /// A table or column, or its type, changed since the statement was prepared.
    var isSchemaChange: Bool { ["42P01", "42703", "0A000", "42804", "42883", "42P16"].contains(code) }
}
