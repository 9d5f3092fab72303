import ReplicationCore
import Synchronization

/// What the tasks of one direction share: positions, counters, and the wish to stop.
public final class DirectionState: Sendable {
    private struct Values {
        var phase = DirectionPhase.starting
        var problem: String?
        var receivedLSN = LSN.zero
        var appliedLSN = LSN.zero
        var durableLSN = LSN.zero
        var sourceLSN = LSN.zero
        var isDraining = false
        var counters = ApplyCounters()
        var reconnects = 0
        var streaming = StreamingFigures()
        var lag = LagMeter()
        var slot = SlotHealth()
        var copy: CopyProgress?
        /// One a stream: what an earlier applier left must not end the wait for this one.
        var applierDone = Signal()
        var hasStart = false
        /// New tables that have been told of.
        var announced: Set<QualifiedName> = []
    }

    private let values = Mutex(Values())
    private let drainRequest = Signal()

    public init() {}

    public var phase: DirectionPhase { values.withLock { $0.phase } }
    /// What the target shows.
    public var appliedLSN: LSN { values.withLock { $0.appliedLSN } }
    /// What a crash of the target cannot undo; never more than this is acknowledged.
    public var durableLSN: LSN { values.withLock { $0.durableLSN } }
    var receivedLSN: LSN { values.withLock { $0.receivedLSN } }
    /// Set once by a signal; every task of the direction then finishes what it has.
    public var isDraining: Bool { values.withLock { $0.isDraining } }

    public func drain() {
        values.withLock { $0.isDraining = true }
        drainRequest.notify()
    }

    /// Returns once the direction is to be drained, or when the task is cancelled; for one task at a time.
    func waitForDrain() async {
        while !isDraining && !Task.isCancelled { await drainRequest.wait() }
    }

    func set(_ phase: DirectionPhase, problem: String? = nil) {
        values.withLock {
            $0.phase = phase
            $0.problem = problem
            $0.lag.handleStreaming(phase == .streaming || phase == .catchingUp, atMilliseconds: Monotonic.milliseconds())
        }
    }

    /// Whether no stream runs any more, after one did.
    var isStanding: Bool { values.withLock { $0.lag.isStanding } }

    /// - Returns: those of some new tables that nobody has told of yet.
    func announce(_ tables: Set<QualifiedName>) -> Set<QualifiedName> {
        values.withLock {
            let new = tables.subtracting($0.announced)
            $0.announced.formUnion(new)
            return new
        }
    }

    /// Shows what is wrong, if nothing else is.
    ///
    /// - Returns: whether it shows now.
    func tell(_ problem: String) -> Bool {
        values.withLock {
            if $0.problem == nil { $0.problem = problem }
            return $0.problem == problem
        }
    }

    /// It is over; what else has been said since stays.
    func takeBack(_ problem: String) { values.withLock { if $0.problem == problem { $0.problem = nil } } }

    func note(received lsn: LSN) { values.withLock { $0.receivedLSN = max($0.receivedLSN, lsn) } }

    func begin(durable lsn: LSN) {
        values.withLock {
            $0.appliedLSN = lsn
            $0.durableLSN = lsn
            $0.receivedLSN = lsn
            $0.applierDone = Signal()
        }
    }

    /// The stream's start is known: from here on everything can be taken up again where it was.
    func noteStart() { values.withLock { $0.hasStart = true } }
    var hasStart: Bool { values.withLock { $0.hasStart || $0.durableLSN != .zero } }

    func note(applied: LSN, durable: LSN) {
        values.withLock {
            $0.appliedLSN = max($0.appliedLSN, applied)
            $0.durableLSN = max($0.durableLSN, durable)
        }
    }
    func noteReconnect() { values.withLock { $0.reconnects += 1 } }
    func note(streamed count: Int, early: Int) {
        values.withLock {
            $0.streaming.transactions += count
            $0.streaming.earlyTransactions += early
        }
    }
    func note(spilledBytes: Int) { values.withLock { $0.streaming.spilledBytes += spilledBytes } }
    func note(copy: CopyProgress?) { values.withLock { $0.copy = copy } }

    /// Adds what an applier has done since it last said so.
    func add(_ counters: ApplyCounters) { values.withLock { $0.counters.add(counters) } }

    func note(source lsn: LSN, slot: SlotHealth, atMilliseconds now: Int64) {
        values.withLock {
            $0.sourceLSN = lsn
            $0.slot = slot
            $0.lag.handlePositions(sourceLSN: lsn, appliedLSN: $0.appliedLSN, atMilliseconds: now)
            $0.lag.handleRows(total: $0.counters.changes, atMilliseconds: now)
        }
    }

    func withLag<Result>(_ body: (inout LagMeter) -> Result) -> Result { values.withLock { body(&$0.lag) } }

    /// What has been measured so far.
    var figures: LiveFigures {
        values.withLock {
            LiveFigures(
                p50Milliseconds: $0.lag.endToEndMilliseconds(at: 0.5),
                p95Milliseconds: $0.lag.endToEndMilliseconds(at: 0.95),
                p99Milliseconds: $0.lag.endToEndMilliseconds(at: 0.99), rowsPerSecond: $0.lag.rowsPerSecond)
        }
    }

    func finishApplier() { values.withLock { $0.applierDone }.notify() }
    func waitForApplier() async { await values.withLock { $0.applierDone }.wait() }

    /// Shows what another state does as its own: the copy that comes before a split's stream.
    func follow(_ other: DirectionSnapshot) {
        values.withLock {
            $0.phase = other.phase
            $0.problem = other.problem
            $0.copy = other.copy
            $0.sourceLSN = other.sourceLSN
            $0.slot = other.slot
        }
    }

    /// A consistent copy of everything, for status.
    public func snapshot() -> DirectionSnapshot {
        values.withLock {
            DirectionSnapshot(
                phase: $0.phase, problem: $0.problem, receivedLSN: $0.receivedLSN, appliedLSN: $0.appliedLSN,
                durableLSN: $0.durableLSN, sourceLSN: $0.sourceLSN, counters: $0.counters, reconnects: $0.reconnects,
                streaming: $0.streaming, lag: $0.lag, slot: $0.slot, copy: $0.copy)
        }
    }
}

/// What `DirectionState.snapshot` returns.
public struct DirectionSnapshot: Sendable {
    public var phase: DirectionPhase
    public var problem: String?
    public var receivedLSN: LSN
    public var appliedLSN: LSN
    public var durableLSN: LSN
    public var sourceLSN: LSN
    public var counters: ApplyCounters
    public var reconnects: Int
    public var streaming: StreamingFigures
    public var lag: LagMeter
    public var slot: SlotHealth
    public var copy: CopyProgress?
}

/// What came of transactions that were streamed while they ran, since the worker started.
public struct StreamingFigures: Sendable, Equatable {
    /// Those that committed.
    public var transactions = 0
    /// Those of them that the target was at work on before they had.
    public var earlyTransactions = 0
    /// Written into files.
    public var spilledBytes = 0
}

/// The slot as the source reports it.
public struct SlotHealth: Sendable, Equatable {
    public var isActive = false
    /// WAL that the slot keeps the source from removing, in bytes.
    public var retainedWALBytes: UInt64?
    /// WAL that may still be written before the slot is invalidated, in bytes; `nil` when there is no limit.
    public var safeWALBytes: Int64?
    public var status: String?
}
