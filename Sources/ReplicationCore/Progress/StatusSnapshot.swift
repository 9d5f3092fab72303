/// What a worker, or a look at the databases, knows about every direction at one moment.
///
/// Unknown figures are `nil` and printed as `null`: never a guess. Holds no row values and no secrets.
public struct StatusSnapshot: Sendable, Equatable, Decodable {
    public var version: String
    /// `shared`, `replica` or `split`.
    public var backend: String
    /// Where the migration between backends stands; the backend's own name when it is settled.
    public var phase: String
    /// The worker that tells this; `nil` when the databases alone were asked.
    public var worker: String?
    public var uptimeSeconds: Double?
    public var directions: [DirectionStatus]
    public var standbys: [StandbyStatus]
    /// Of each database that can hold some; empty outside of a split.
    public var conflicts: [ConflictStatus]
    /// Of the two sides of a split; `nil` while it is not known.
    public var clock: ClockStatus?

    public init(
        version: String, backend: String, phase: String, worker: String? = nil, uptimeSeconds: Double? = nil,
        directions: [DirectionStatus] = [], standbys: [StandbyStatus] = [], conflicts: [ConflictStatus] = [],
        clock: ClockStatus? = nil
    ) {
        self.version = version
        self.backend = backend
        self.phase = phase
        self.worker = worker
        self.uptimeSeconds = uptimeSeconds
        self.directions = directions
        self.standbys = standbys
        self.conflicts = conflicts
        self.clock = clock
    }
}

/// A physical standby of the origin, as the origin sees it.
public struct StandbyStatus: Sendable, Equatable, Decodable {
    /// Name in the configuration, else its `application_name`.
    public var name: String
    /// `streaming`, `catchup`, …, or `disconnected`.
    public var state: String
    public var replayedLSN: LSN?
    /// WAL that the origin has and the standby does not show yet.
    public var lagBytes: UInt64?
    public var lagSeconds: Double?

    private enum CodingKeys: String, CodingKey {
        case name, state, lagBytes, lagSeconds
        case replayedLSN = "replayedLsn"
    }

    public init(
        name: String, state: String, replayedLSN: LSN? = nil, lagBytes: UInt64? = nil, lagSeconds: Double? = nil
    ) {
        self.name = name
        self.state = state
        self.replayedLSN = replayedLSN
        self.lagBytes = lagBytes
        self.lagSeconds = lagSeconds
    }
}
