import Foundation
import Observability
import PostgresClient
import ReplicationCore
import Replicator

/// The worker's status for `/`, `/metrics`, `/health` and `/status.json`.
struct WorkerSnapshot: Sendable {
    let plan: WorkerPlan
    let members: [Worker.Member]
    let standbys: StandbyWatch
    let split: SplitWatch
    let worker: String
    let phase: PhaseGlance
    let startedAtMilliseconds = Monotonic.milliseconds()

    func make() -> StatusSnapshot {
        let now = Monotonic.milliseconds()
        return StatusSnapshot(
            version: LinderoVersion.current, backend: plan.backend.rawValue, phase: phase.word ?? plan.backend.rawValue, worker: worker,
            uptimeSeconds: Double(now - startedAtMilliseconds) / 1_000,
            directions: members.map { Self.direction($0.settings, $0.state.snapshot(), now) },
            standbys: standbys.statuses, conflicts: split.conflicts,
            clock: split.clock)
    }

    private static func direction(
        _ settings: DirectionSettings, _ snapshot: DirectionSnapshot, _ now: Int64
    ) -> DirectionStatus {
        var status = DirectionStatus(name: settings.name)
        status.state = snapshot.phase
        status.problem = snapshot.problem
        status.receivedLSN = snapshot.receivedLSN
        status.appliedLSN = snapshot.appliedLSN
        status.sourceLSN = snapshot.sourceLSN
        status.lagBytes = snapshot.lag.lagBytes
        status.lagSeconds = snapshot.lag.lagSeconds(atMilliseconds: now)
        status.endToEnd = EndToEndLatency(
            p50Milliseconds: snapshot.lag.endToEndMilliseconds(at: 0.5),
            p95Milliseconds: snapshot.lag.endToEndMilliseconds(at: 0.95),
            p99Milliseconds: snapshot.lag.endToEndMilliseconds(at: 0.99))
        status.slot = settings.slot
        status.isSlotActive = snapshot.slot.isActive
        status.slotStatus = snapshot.slot.status
        status.retainedWALBytes = snapshot.slot.retainedWALBytes
        status.safeWALBytes = snapshot.slot.safeWALBytes
        status.rowsPerSecond = snapshot.lag.rowsPerSecond
        status.etaSeconds = snapshot.lag.etaSeconds
        if snapshot.phase == .copying { status.copy = snapshot.copy.map(copy) }
        status.counters = counters(snapshot)
        return status
    }

    private static func copy(_ progress: CopyProgress) -> CopyStatus {
        var status = CopyStatus()
        status.tablesDone = progress.tablesDone
        status.tablesTotal = progress.tablesTotal
        status.rows = progress.rows
        status.bytes = progress.bytes
        status.fraction = progress.fraction
        status.bytesPerSecond = progress.step == .data ? progress.bytesPerSecond : nil
        status.etaSeconds = progress.etaSeconds
        status.indexesDone = progress.indexesDone
        status.indexesTotal = progress.indexesTotal
        status.indexFraction = progress.indexFraction
        return status
    }

    private static func counters(_ snapshot: DirectionSnapshot) -> DirectionCounters {
        var counters = DirectionCounters()
        counters.transactions = snapshot.counters.transactions
        counters.changes = snapshot.counters.changes
        counters.withheldChanges = snapshot.counters.withheld
        counters.ignoredChanges = snapshot.counters.ignored
        counters.missingRows = snapshot.counters.missingRows
        counters.exactOrderGroups = snapshot.counters.fallbacks
        counters.reconnects = snapshot.reconnects
        counters.streamedTransactions = snapshot.streaming.transactions
        counters.earlyTransactions = snapshot.streaming.earlyTransactions
        counters.spilledBytes = snapshot.streaming.spilledBytes
        return counters
    }
}
