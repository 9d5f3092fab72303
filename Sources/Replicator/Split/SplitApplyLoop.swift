import PostgresClient
import ReplicationCore

/// Takes one direction's groups from the ledger and has them applied, until no more will come.
struct SplitApplyLoop: Sendable {
    let side: Side
    let settings: DirectionSettings
    let ledger: SplitLedger
    let connection: PostgresConnection
    /// On the side that is read.
    let sourceConnection: PostgresConnection
    /// On the side that is written.
    let barrierConnection: PostgresConnection
    let state: DirectionState
    /// See `DirectionSettings.binaryTypes`; `nil` where the streams are text.
    let binaryTypes: [UInt32: ColumnDescription]?
    /// The last heartbeat that was sent before the stream began: a later one has everything of the backlog before it.
    let backlogSequence: Int64

    func run() async throws { try await run(on: connection) }

    /// Runs on the connection's own thread.
    private func run(on connection: isolated PostgresConnection) async throws {
        let applier = SplitGroupApplier(
            connection: connection, source: sourceConnection, side: side, settings: settings,
            barrier: SplitBarrier(
                connection: barrierConnection, side: side.opposite, reading: side, ledger: ledger, holder: connection),
            ledger: ledger, state: state, binaryTypes: binaryTypes)
        let limits = settings.replication.groupLimits
        defer { state.finishApplier() }
        var lastMilliseconds = 0
        while let first = try await next(applier, limits, after: lastMilliseconds) {
            let began = Monotonic.milliseconds()
            var group = first
            do {
                if first.progress == nil {
                    group = try await applier.applyInParts(first) {
                        let sign = SignOfLife(of: connection, everyMilliseconds: SplitBarrier.signMilliseconds)
                        return try await ledger.nextPart(from: side, limits: limits, sign)
                    }
                } else {
                    try await applier.apply(first) { ledger.nextGroupNow(from: side, limits: limits) }
                }
            } catch is SplitStopped {
                return
            }
            lastMilliseconds = Int(Monotonic.milliseconds() - began)
            state.note(applied: ledger.positions(from: side).applied, durable: .zero)
            state.add(applier.takeCounters())
            try await note(group, on: connection)
        }
    }

    private func next(
        _ applier: SplitGroupApplier, _ limits: GroupLimits, after lastMilliseconds: Int
    ) async throws -> SplitGroup? {
        if let ahead = applier.groupAhead { return state.isDraining ? nil : ahead }
        return try await ledger.nextGroup(
            from: side, limits: limits, patienceMilliseconds: ApplyLoop.patienceMilliseconds(after: lastMilliseconds))
    }

    /// Measures what has just become visible on the target.
    private func note(_ group: SplitGroup, on connection: PostgresConnection) async throws {
        if let commitTime = group.commitTime { state.withLag { $0.handleApplied(commitTime) } }
        guard let beat = group.heartbeat else { return }
        let arrival = HeartbeatArrival(settings: settings, state: state, backlogSequence: backlogSequence)
        if arrival.handle(beat) { try await arrival.noteCaughtUp(on: connection) }
    }
}
