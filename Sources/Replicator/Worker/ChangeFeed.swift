import Logging
import PostgresClient
import ReplicationCore

/// Shared mode's direction: it follows the one database's changes and measures lag, and writes to no table of the users.
public struct ChangeFeed: Sendable {
    let settings: DirectionSettings
    public let state: DirectionState
    let logger: Logger
    let worker: String

    public init(settings: DirectionSettings, state: DirectionState, logger: Logger, worker: String) {
        self.settings = settings
        self.state = state
        self.logger = logger
        self.worker = worker
    }

    /// Follows the feed until drained, over restarts of the server.
    ///
    /// Without `wal_level = logical` there is no feed: the state says what to set, and the rest of shared mode works.
    public func run() async throws {
        async let _: Void = StandstillWatch(settings: settings, state: state).run()
        var backoff = Backoff()
        let startedAtMilliseconds = Monotonic.milliseconds()
        while !state.isDraining && !Task.isCancelled {
            do {
                try await follow()
            } catch let failure as ReplicationFailure where failure.code == .walLevel {
                state.set(.paused, problem: failure.description)
                logger.warning("no change feed", metadata: ["reason": "\(failure)"])
                return try await waitForDrain()
            } catch let error as PostgresError {
                if state.isDraining || Task.isCancelled { return }
                let hasStreamed = state.receivedLSN != .zero
                let waitedMilliseconds = Monotonic.milliseconds() - startedAtMilliseconds
                if error.isObjectInUse {
                    if !hasStreamed, waitedMilliseconds >= DirectionSupervisor.takeoverMilliseconds,
                        await waitedMilliseconds >= DirectionSupervisor.takeoverMilliseconds(of: settings)
                    {
                        throw DirectionSupervisor.slotInUse(settings)
                    }
                } else {
                    guard error.isTransient, hasStreamed else { throw error }
                }
                try await pause(&backoff, because: error)
            }
        }
    }

    private func pause(_ backoff: inout Backoff, because error: PostgresError) async throws {
        let waitMilliseconds = backoff.nextMilliseconds()
        state.set(.reconnecting, problem: "\(error)")
        state.noteReconnect()
        logger.warning(
            "lost the change feed, trying again",
            metadata: ["slot": "\(settings.slot)", "reason": "\(error)", "waitMilliseconds": "\(waitMilliseconds)"])
        try await Task.sleep(for: .milliseconds(waitMilliseconds))
    }

    private func follow() async throws {
        try await PostgresConnection.with(settings.source) { source in
            let check = SourceCheck(settings: settings, connection: source)
            try await check.requireLogicalWAL()
            // A worker that was killed may have left one that is being made.
            try await check.waitUntilMade()
            try await createObjects(on: source)
            let slot = try await check.slot()
            let timeout = try await check.senderTimeoutMilliseconds()
            try await ReplicationConnection.with(settings.source) { stream in
                try await stream.startReplication(
                    slot: settings.slot, at: slot.confirmedLSN.rawValue,
                    options: StreamOptions.list(publication: settings.publication, isBinary: false))
                state.begin(durable: slot.confirmedLSN)
                state.set(.streaming)
                logger.info("following changes", metadata: ["slot": "\(settings.slot)", "from": "\(slot.confirmedLSN)"])
                let mailbox = StreamMailbox(limitBytes: settings.replication.waitingBytes)
                let reader = StreamReader(
                    stream: stream, mailbox: mailbox, state: state, senderTimeoutMilliseconds: timeout, limits: .none)
                let heartbeat = HeartbeatWriter(settings: settings, state: state, source: source, worker: worker)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await reader.run() }
                    group.addTask { await count(from: mailbox) }
                    group.addTask { try await heartbeat.run() }
                    try await group.next()
                    try await group.next()
                    group.cancelAll()
                }
            }
        }
    }

    /// The feed keeps nothing: a change is done with once it is counted.
    private func count(from mailbox: StreamMailbox) async {
        defer { state.finishApplier() }
        while let chunks = await mailbox.take(.none) {
            for chunk in chunks {
                var counters = ApplyCounters()
                counters.changes = chunk.changes.count
                counters.transactions = chunk.transactions.count(where: \.isCommitted)
                state.add(counters)
                state.note(applied: chunk.endLSN, durable: chunk.endLSN)
                if let beat = chunk.heartbeat, beat.worker == worker {
                    state.withLag {
                        $0.handleHeartbeatSeen(sequence: beat.sequence, atMilliseconds: Monotonic.milliseconds())
                    }
                }
            }
        }
    }

    private func createObjects(on source: PostgresConnection) async throws {
        // A publication that was adopted is its owner's business.
        if settings.replication.publication == nil {
            let publication = FeedPublication(name: settings.publication, source: source)
            for skipped in try await publication.ensure(settings.policy?.tables.keys.sorted() ?? []) {
                logger.warning(
                    "a table is not in the change feed",
                    metadata: [
                        "table": "\(skipped.table)", "reason": "\(skipped.reason)", "fix": "\(skipped.fix)",
                    ])
            }
        }
        _ = try await source.query(
            """
            SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')
            WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1)
            """, [.text(settings.slot)], parameterTypes: [19])
    }

    /// Drops what shared mode left on a source that is read otherwise now: nobody would ever read that slot again, and it
    /// would keep WAL until the disk is full. A feed keeps nothing, so nothing is lost; one that is read is left alone.
    ///
    /// - Returns: whether there was something.
    public static func end(on source: PostgresConnection, slot: String) async throws -> Bool {
        let dropped = try await source.query(
            """
            SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
            WHERE slot_name = $1 AND NOT active AND database = pg_catalog.current_database()
            """, [.text(slot)])
        guard dropped.rowCount > 0 else { return false }
        _ = try await source.execute("DROP PUBLICATION IF EXISTS \(SQLText.identifier(slot))")
        return true
    }

    private func waitForDrain() async throws {
        while !state.isDraining { try await Task.sleep(for: .milliseconds(100)) }
    }
}
