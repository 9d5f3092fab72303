import Logging
import PostgresClient
import ReplicationCore

/// Keeps a split alive: both directions begin anew after what passes by itself, and end together where a person has to act,
/// since each of them needs the other one's stream to decide.
public struct SplitSupervisor: Sendable {
    let settings: SplitSettings
    let states: SidePair<DirectionState>
    let logger: Logger
    let worker: String

    public init(settings: SplitSettings, states: SidePair<DirectionState>, logger: Logger, worker: String) {
        self.settings = settings
        self.states = states
        self.logger = logger
        self.worker = worker
    }

    private struct Attempt {
        var backoff = Backoff()
        var durable = SidePair(origin: LSN.zero, other: LSN.zero)
        var failuresInPlace = 0
        var allowsBinary = true
        /// Whether both servers have been reached: what fails later is lost, and comes back.
        var hasConnected = false
        /// Since when another session has been met; `nil` until then.
        var inUseSinceMilliseconds: Int64?
        var whole = SidePair<LSN?>(origin: nil, other: nil)
        /// By side, tables of its stream that are none of the split's.
        var staying = SidePair<Set<QualifiedName>>(origin: [], other: [])
    }

    private var isStopping: Bool { Task.isCancelled || states.both.contains(where: \.isDraining) }

    /// Runs until drained.
    ///
    /// - Throws: `ReplicationFailure` when a person has to act; `PostgresError` when the first connection fails.
    public func run() async throws {
        async let _: Void = StandstillWatch(settings: settings[reading: .origin], state: states[.origin]).run()
        async let _: Void = StandstillWatch(settings: settings[reading: .other], state: states[.other]).run()
        var attempt = Attempt()
        while !isStopping {
            do {
                try await SplitPreparation(settings: settings, states: states, logger: logger, worker: worker)
                    .run { attempt.hasConnected = true }
                if isStopping { break }
                var known = settings
                for side in Side.allCases { known.directions[side].stayingTables = attempt.staying[side] }
                try await SplitRun(
                    settings: known, states: states, logger: logger, worker: worker, allowsBinary: attempt.allowsBinary, whole: attempt.whole
                ).run()
            } catch {
                if isStopping { break }
                do {
                    try await recover(from: error, &attempt)
                } catch {
                    if isStopping { break }
                    await stop(because: error)
                    throw error
                }
            }
        }
        for state in states.both { state.set(.draining) }
    }

    /// Returns when both directions may be tried again; throws when they may not.
    private func recover(from caught: any Error, _ attempt: inout Attempt) async throws {
        noteProgress(&attempt)
        let sided = caught as? SplitSideError
        let error = sided?.error ?? caught
        switch error {
        case SplitRestart.whole(let side, let lsn):
            attempt.whole[side] = lsn
            logger.info(
                "reading a large transaction again, to apply it at once",
                metadata: ["direction": "\(settings[reading: side].name)", "commit": "\(lsn)"])
        case SplitRestart.unknown(let side, let table, let oid):
            do {
                attempt.staying[side].formUnion(
                    try await UnknownTable(settings: settings, side: side, table: table, oid: oid).passing())
            } catch let error as PostgresError {
                try await recover(from: error, &attempt)
            }
        case SplitRestart.untold(let table):
            logger.warning(
                "columns are their owners' before all has arrived that was written when they were shared: changes do not carry the old row",
                metadata: ["table": "\(table)", "next": "lindero verify \(table)"])
        case SplitRestart.policiesPassed:
            logger.info("former policies have nothing more to decide")
        case ApplyError.needsText(let table):
            attempt.allowsBinary = false
            logger.info("values travel as text", metadata: ["table": "\(table)"])
        case let failure as ReplicationFailure:
            throw failure
        case let error as PostgresError:
            try await recover(from: error, &attempt)
        case ApplyError.refused(_, let cause) where cause.isSchemaChange && attempt.failuresInPlace < 3:
            attempt.failuresInPlace += 1
        case SpillError.full:
            try await pause(&attempt, because: error)
        case SpillError.damaged where attempt.failuresInPlace < 3:
            try await pause(&attempt, because: error)
        case let error as StreamError where attempt.failuresInPlace < 3:
            try await pause(&attempt, because: error)
        case SplitChanged.row where attempt.failuresInPlace < 3:
            try await pause(&attempt, because: error)
        case is SplitTouched where attempt.failuresInPlace < 3:
            try await pause(&attempt, because: error)
        case is SplitAltered where attempt.failuresInPlace < 3:
            try await pause(&attempt, because: error)
        case let mismatch as SchemaMismatch where mismatch.isOfNames && attempt.failuresInPlace < 3:
            // What has which name by now the preparation says. Whoever renames a table does it on one side first.
            try await pause(&attempt, because: error)
            try await Task.sleep(for: .milliseconds(PublicationWatch.pollMilliseconds))
        case SplitError.needsFullIdentity(let table):
            throw await words(lacking: table, of: sided?.side)
        default:
            throw SplitFailure(settings: settings, side: sided?.side).words(error)
        }
    }

    /// Names what lacks the old row: of a partitioned table it is the partitions.
    private func words(lacking table: QualifiedName, of source: Side?) async -> any Error {
        var lacking: [String] = []
        for side in Side.allCases {
            let (name, options) = (settings.name(side), settings.options(side))
            let found = try? await PostgresConnection.with(options) { connection in
                try await FullIdentity(name: name, connection: connection).missing([table])
            }
            lacking += (found ?? []).map { "on \(name): ALTER TABLE \($0.sql) REPLICA IDENTITY FULL;" }
        }
        return SplitFailure(settings: settings, side: source).untold(table, lacking: lacking)
    }

    private func noteProgress(_ attempt: inout Attempt) {
        for side in Side.allCases where states[side].durableLSN > attempt.durable[side] {
            attempt.durable[side] = states[side].durableLSN
            attempt.failuresInPlace = 0
            attempt.backoff.reset()
        }
    }

    private func recover(from error: PostgresError, _ attempt: inout Attempt) async throws {
        if !error.isObjectInUse { attempt.inUseSinceMilliseconds = nil }
        let hasStart = states.both.allSatisfy(\.hasStart)
        if error.isObjectInUse {
            let now = Monotonic.milliseconds()
            let since = attempt.inUseSinceMilliseconds ?? now
            attempt.inUseSinceMilliseconds = since
            // Who has streamed waits for its own old sessions to end; who has not has met another worker.
            let hasStreamed = states.both.contains { $0.durableLSN != .zero }
            if !hasStreamed, now - since >= DirectionSupervisor.takeoverMilliseconds, await now - since >= takeoverMilliseconds() {
                throw SplitFailure(settings: settings).inUse()
            }
            return try await pause(&attempt, because: error)
        }
        // The slot or the publication went away, and the next attempt says which, and what to do; or a table was altered.
        if error.isUndefinedObject || error.isSchemaChange, attempt.failuresInPlace < 3 {
            attempt.failuresInPlace += 1
            return
        }
        guard error.passesForApplier, hasStart || attempt.hasConnected else { throw error }
        try await pause(&attempt, because: error)
    }

    /// A server ends the sessions of a host that is gone when it has heard nothing of it for so long.
    private func takeoverMilliseconds() async -> Int64 {
        var longest: Int64 = 0
        for side in Side.allCases { longest = max(longest, await DirectionSupervisor.takeoverMilliseconds(of: settings[reading: side])) }
        return longest
    }

    private func pause(_ attempt: inout Attempt, because error: any Error) async throws {
        let waitMilliseconds = attempt.backoff.nextMilliseconds()
        attempt.failuresInPlace += error is PostgresError ? 0 : 1
        for state in states.both {
            state.set(.reconnecting, problem: "\(error)")
            state.noteReconnect()
        }
        logger.warning(
            "lost a stream, trying again", metadata: ["reason": "\(error)", "waitMilliseconds": "\(waitMilliseconds)"])
        try await Task.sleep(for: .milliseconds(waitMilliseconds))
    }

    private func stop(because error: any Error) async {
        for side in Side.allCases {
            let direction = settings[reading: side]
            states[side].set(.stopped, problem: "\(error)")
            if await DirectionRecord.isAnothers(direction, states[side], after: error) { continue }
            try? await PostgresConnection.with(direction.target) { target in
                try await DirectionRecord(connection: target, settings: direction).note(state: .stopped, problem: "\(error)")
            }
        }
    }
}
