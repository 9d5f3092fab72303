/// One direction in a `StatusSnapshot`.
public struct DirectionStatus: Sendable, Equatable, Decodable {
    /// `source->target`.
    public var name: String
    /// `nil` when no worker has told.
    public var state: DirectionPhase?
    /// Why it does not go on, and what to run next.
    public var problem: String?

    /// What the worker has taken from the stream.
    public var receivedLSN: LSN?
    /// What is durable on the target.
    public var appliedLSN: LSN?
    /// Where the source's log ends now.
    public var sourceLSN: LSN?
    /// Source's log that is not applied yet.
    public var lagBytes: UInt64?
    /// Age of what the target shows, by heartbeats.
    public var lagSeconds: Double?
    public var endToEnd = EndToEndLatency()

    public var slot = ""
    public var isSlotActive: Bool?
    /// `wal_status` of PostgreSQL: reserved, extended, unreserved or lost.
    public var slotStatus: String?
    /// Log that the slot keeps the source from removing.
    public var retainedWALBytes: UInt64?
    /// Log that may still be written before the slot is lost; `nil` when there is no limit.
    public var safeWALBytes: Int64?

    public var rowsPerSecond: Double?
    /// Until caught up at the present rate; `nil` when the lag does not shrink.
    public var etaSeconds: Double?
    public var copy: CopyStatus?
    /// Since the worker started; `nil` without a worker.
    public var counters: DirectionCounters?

    public init(name: String) { self.name = name }

    private enum CodingKeys: String, CodingKey {
        case name, state, problem, lagBytes, lagSeconds, endToEnd, slot, slotStatus, rowsPerSecond, etaSeconds, copy
        case counters
        case receivedLSN = "receivedLsn"
        case appliedLSN = "appliedLsn"
        case sourceLSN = "sourceLsn"
        case isSlotActive = "slotActive"
        case retainedWALBytes = "retainedWalBytes"
        case safeWALBytes = "safeWalBytes"
    }
}

/// Time from commit on the source to visible on the target, over the recent heartbeats, in milliseconds.
public struct EndToEndLatency: Sendable, Equatable, Decodable {
    public var p50Milliseconds: Double?
    public var p95Milliseconds: Double?
    public var p99Milliseconds: Double?

    private enum CodingKeys: String, CodingKey {
        case p50Milliseconds = "p50Ms"
        case p95Milliseconds = "p95Ms"
        case p99Milliseconds = "p99Ms"
    }

    public init(p50Milliseconds: Double? = nil, p95Milliseconds: Double? = nil, p99Milliseconds: Double? = nil) {
        self.p50Milliseconds = p50Milliseconds
        self.p95Milliseconds = p95Milliseconds
        self.p99Milliseconds = p99Milliseconds
    }
}

/// How far the initial copy is.
public struct CopyStatus: Sendable, Equatable, Decodable {
    public var tablesDone = 0
    public var tablesTotal = 0
    public var rows = 0
    public var bytes = 0
    /// 0 to 1; below 1 until the last table is done.
    public var fraction = 0.0
    /// Indexes and constraints, built after the data; 0 of 0 until then.
    public var indexesDone = 0
    public var indexesTotal = 0
    public var indexFraction = 0.0
    public var bytesPerSecond: Double?
    public var etaSeconds: Double?

    public init() {}
}

/// What a direction has done since its worker started.
public struct DirectionCounters: Sendable, Equatable, Decodable {
    public var transactions = 0
    /// Changes of the source, before netting.
    public var changes = 0
    /// Changes dropped because they touched only columns that stay behind.
    public var withheldChanges = 0
    /// Changes dropped because their table is not part of the direction.
    public var ignoredChanges = 0
    /// Updates and deletes whose row was not on the target.
    public var missingRows = 0
    /// Groups that were applied again in exact order.
    public var exactOrderGroups = 0
    public var reconnects = 0
    /// Committed transactions that had been streamed while they ran.
    public var streamedTransactions = 0
    public var earlyTransactions = 0
    /// Of them, bytes that went into files.
    public var spilledBytes = 0

    public init() {}
}
