/// What `lindero.yaml` says, checked for form but not yet against a database.
public struct LinderoConfiguration: Sendable, Equatable {
    public enum Backend: String, Sendable, CaseIterable { case shared, replica, split }

    public var backend: Backend
    /// In the file's order; names are free.
    public var databases: [DatabaseSettings]
    /// Name of the database that holds the data today.
    public var origin: String
    public var defaults: Defaults
    public var gates: Gates
    public var replication: ReplicationSettings
    public var verify = VerifySettings()
    public var cutover = CutoverSettings()
    /// In the file's order; a later rule overrides an earlier pattern, an exact name overrides patterns.
    public var tables: [TableRule]

    public init(
        backend: Backend = .shared, databases: [DatabaseSettings], origin: String,
        defaults: Defaults = .init(),
        gates: Gates = .init(), replication: ReplicationSettings = .init(), tables: [TableRule] = []
    ) {
        self.backend = backend
        self.databases = databases
        self.origin = origin
        self.defaults = defaults
        self.gates = gates
        self.replication = replication
        self.tables = tables
    }

    /// Databases beside the origin that can be written, in the file's order.
    public var others: [DatabaseSettings] { databases.filter { $0.name != origin && !$0.isPhysicalStandby } }

    public func database(_ name: String) -> DatabaseSettings? { databases.first { $0.name == name } }
}

public struct DatabaseSettings: Sendable, Equatable {
    public var name: String
    public var url: SecretReference
    /// Database roles of the service that owns this side.
    public var roles: [String]
    /// True for a physical standby of the origin: reported and awaited, never written.
    public var isPhysicalStandby: Bool

    public init(name: String, url: SecretReference, roles: [String] = [], isPhysicalStandby: Bool = false) {
        self.name = name
        self.url = url
        self.roles = roles
        self.isPhysicalStandby = isPhysicalStandby
    }
}

/// Where a secret is to be read from; never the secret itself, except a conninfo without a password.
public enum SecretReference: Sendable, Equatable {
    case environment(String)
    case file(String)
    /// A libpq conninfo or service name that holds no password.
    case conninfo(String)
}

public struct Defaults: Sendable, Equatable {
    public enum UnlistedColumn: String, Sendable, CaseIterable {
        /// A column nobody owns stops preflight.
        case error
        /// A column nobody owns belongs to the origin.
        case origin
    }
    public var unlistedColumn: UnlistedColumn
    public var conflict: SharedColumnRule.Policy

    public init(unlistedColumn: UnlistedColumn = .error, conflict: SharedColumnRule.Policy = .queue) {
        self.unlistedColumn = unlistedColumn
        self.conflict = conflict
    }
}

public struct Gates: Sendable, Equatable {
    public var maxLagMilliseconds = 2_000
    public var maxLagBytes = 200_000
    public var verifyAgeSeconds = 86_400
    public var maxClockOffsetMilliseconds = 250
    public var cutoverTimeoutSeconds = 30
    /// How long the other limits have to hold before a move is settled.
    public var observeSeconds = 10
    public var maxRetainedWALBytes = 5_000_000_000
    public init() {}
}

public struct ReplicationSettings: Sendable, Equatable {
    public enum Snapshot: String, Sendable, CaseIterable { case initial, never }
    public enum DDL: String, Sendable, CaseIterable {
        /// Pause before the first change that no longer fits.
        case pause
        /// Add columns that the source added; pause on anything else.
        case follow
    }
    public enum MissingRow: String, Sendable, CaseIterable {
        /// Stop the direction at an update or delete whose row is not there.
        case stop
        /// Count and log it, and go on.
        case count
    }
    public enum Streaming: String, Sendable, CaseIterable {
        /// A large transaction comes at its commit; until then the source spills it.
        case off
        /// It comes while it runs, and waits here for its commit.
        case on
    }

    public enum Sequences: String, Sendable, CaseIterable {
        /// Every other number for each side.
        case interleave
        /// Half of the numbers that are left for each side.
        case ranges
    }

    public var snapshot: Snapshot = .initial
    /// An existing slot to adopt; with it nothing is created on the source.
    public var slot: String?
    /// An existing publication to adopt.
    public var publication: String?
    public var ddl: DDL = .pause
    public var missingRow: MissingRow = .stop
    /// How the two sides of a split share the numbers of a sequence.
    public var sequences: Sequences = .interleave
    public var streaming: Streaming = .off
    /// Whether a transaction that is prepared at the source is prepared on the target, too; else it comes at its commit.
    public var twoPhase = false
    /// Folder for transactions that run at the source and do not fit in memory; `nil` for the worker's own choice.
    public var spillDirectory: String?
    /// Heartbeat interval; 0 turns it off.
    public var heartbeatMilliseconds = 1_000
    /// Bytes of decoded changes that may wait in memory, per direction.
    public var memoryLimitBytes = 64 << 20
    /// The quarter of it that changes may fill before they are taken. Two more are for the group at work and the next; the
    /// last is for what planning them needs.
    public var waitingBytes: Int { memoryLimitBytes / 4 - streamedBytes }
    /// What transactions that still run at the source may take of that quarter before they go to a file.
    public var streamedBytes: Int { streaming == .on ? memoryLimitBytes / 8 : 0 }
    /// What may share one target transaction; `nil` bytes are a quarter of the memory.
    public var group = GroupSettings()
    /// The same, decided.
    public var groupLimits: GroupLimits {
        GroupLimits(bytes: group.maximumBytes ?? max(64 << 10, largestGroupBytes), changes: group.maximumChanges)
    }
    /// The largest group for which `memoryLimitBytes` can be kept: see `waitingBytes`.
    public var largestGroupBytes: Int { memoryLimitBytes / 4 }
    /// Sessions on the target that apply a backlog: on a second one the next group begins while one is at work. That takes
    /// cores that have nothing else to do.
    public var applySessions = 1
    public var copy = CopySettings()
    /// Whether a target created by Lindero leaves out columns that do not travel.
    public var omitForeignColumns = false
    public init() {}
}

/// How much of a backlog may be applied in one target transaction.
public struct GroupSettings: Sendable, Equatable {
    /// Bytes of changes, as they are held in memory; `nil` derives them from the memory limit.
    public var maximumBytes: Int?
    /// Row changes; 1 gives every source transaction one of its own.
    public var maximumChanges = 20_000
    public init() {}
}

/// Where a group ends: before the piece of the stream that would pass a limit. A source transaction that is larger
/// is a group of its own.
public struct GroupLimits: Sendable, Equatable {
    public var bytes: Int
    public var changes: Int

    public init(bytes: Int, changes: Int = .max) {
        self.bytes = bytes
        self.changes = changes
    }

    public static let none = GroupLimits(bytes: .max)
}

/// How the initial copy may load both servers.
public struct CopySettings: Sendable, Equatable {
    /// Connections to each server that copy, and later build indexes, at the same time.
    public var jobs = 2
    /// Bytes that all jobs together may read from the source in a second; 0 is no limit.
    public var rateLimitBytes = 0
    /// Tables larger than this are copied in pieces of about this size, each of them kept after a kill.
    public var chunkBytes = 128 << 20
    /// What the target may use for each index that it builds, unless its own setting is larger.
    public var indexMemoryBytes = 256 << 20
    public init() {}
}

/// How a comparison of two databases may load their servers.
public struct VerifySettings: Sendable, Equatable {
    /// Stretches of a table that are compared at the same time, each on a connection to each server; three more do the rest.
    public var jobs = 1
    /// Rows of a stretch; no statement reads more than twice as many.
    public var chunkRows = 10_000
    /// Bytes of rows, in text form, that both servers together may read in a second; 0 is no limit.
    public var rateLimitBytes = 0
    public init() {}
}

/// What becomes of a change that cannot be applied.
public enum OnError: String, Sendable, CaseIterable {
    /// The direction stops before its transaction.
    case stop
    /// It is kept in `lindero.quarantine` for a person, and the rest of its transaction goes on.
    case quarantine
}

/// One entry under `tables:`.
public struct TableRule: Sendable, Equatable {
    /// `Name`, `schema.Name`, or a pattern with `*` and `?`.
    public var pattern: String
    public var match: [String]
    public var insertOwners: [String]
    public var deleteOwners: [String]
    public var privateColumns: [String]
    /// Columns by owner; `*` stands for every column not named elsewhere.
    public var owned: [String: [String]]
    public var shared: [String: SharedColumnRule]
    /// What happens to a change that the target refuses.
    public var onError = OnError.stop
    /// Shared columns for which the file says nowhere who wins.
    public var columnsWithoutPolicy: Set<String> = []
    /// What a split needs beyond owners and policies.
    public var split = SplitRule()
    /// Where in the file each name stands: `""` for the entry itself, `match NAME`, `private NAME`, `fill NAME` and
    /// `references NAME` for those lists, else the column name under `columns`.
    public var marks: [String: SourceMark]

    public init(
        pattern: String, match: [String] = [], insertOwners: [String] = [], deleteOwners: [String] = [],
        privateColumns: [String] = [], owned: [String: [String]] = [:],
        shared: [String: SharedColumnRule] = [:],
        marks: [String: SourceMark] = [:]
    ) {
        self.pattern = pattern
        self.match = match
        self.insertOwners = insertOwners
        self.deleteOwners = deleteOwners
        self.privateColumns = privateColumns
        self.owned = owned
        self.shared = shared
        self.marks = marks
    }
}

/// What a table of a split says of rows that the other side makes or deletes.
public struct SplitRule: Sendable, Equatable {
    public enum OnDelete: String, Sendable, CaseIterable {
        /// The reference is set to NULL.
        case nullify
        /// The row goes with the one it refers to.
        case delete
        /// The row keeps a reference to a row that is gone.
        case keep
    }

    /// Values, in text form, for owned columns of a row that the other side made.
    public var fill: [String: String] = [:]
    /// Columns that hold the primary key of a row in another table (its name as the file spells it), which is another
    /// number on the other side: the row is found there by its table's `match`.
    public var references: [String: String] = [:]
    /// What becomes of a row when the other side deletes one that it refers to.
    public var onDelete = OnDelete.keep
    public init() {}
}

public struct SharedColumnRule: Sendable, Equatable {
    public enum Policy: String, Sendable, CaseIterable {
        case lastWrite = "last_write"
        case prefer, max, min, delta, queue
    }
    public var policy: Policy
    /// The side `prefer` prefers.
    public var side: String?

    public init(policy: Policy, side: String? = nil) {
        self.policy = policy
        self.side = side
    }
}

/// A place in a configuration file, 1-based.
public struct SourceMark: Sendable, Equatable {
    public var line: Int
    public var column: Int
    public init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }
}
