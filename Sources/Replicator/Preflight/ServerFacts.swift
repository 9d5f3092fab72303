import ReplicationCore

/// What preflight needs to know about one server, its database and the role it is reached with.
struct ServerFacts: Sendable {
    struct Slot: Sendable {
        var name: String
        var plugin: String?
        var database: String?
        var isActive: Bool
        /// Who holds it, by `application_name`; `nil` when that is not visible.
        var holder: String?
        var isLost: Bool
        /// Whether prepared transactions are sent when they are prepared.
        var isTwoPhase: Bool
    }

    struct Publication: Sendable {
        var name: String
        /// Of insert, update, delete and truncate, those it leaves out.
        var missingOperations: [String]
        var publishesThroughRoot: Bool
        var tables: [QualifiedName: PublishedTable]
    }

    struct PublishedTable: Sendable {
        /// `nil` for all columns.
        var columns: Set<String>?
        var hasRowFilter: Bool
    }

    struct OpenTransaction: Sendable {
        var pid: Int
        var application: String
        var ageSeconds: Int
    }

    struct Role: Sendable {
        var name: String
        var isSuperuser: Bool
    }

    /// `150004` for 15.4.
    var version = 0
    var database = ""
    var databaseOID = ""
    /// `nil` when the role may not read it.
    var systemIdentifier: String?
    /// Tells a cluster's servers apart: a standby, also a promoted one, has its primary's identifier.
    var serverStartedAt = ""
    var encoding = ""
    var isInRecovery = false

    var user = ""
    var isSuperuser = false
    var mayReplicate = false
    var mayCreateInDatabase = false
    var maySetReplicationRole = false
    var mayUseOrigins = false

    var walLevel = ""
    var slotLimit = 0
    var senderLimit = 0
    var usedSenders = 0
    /// -1 for no limit.
    var slotRetentionMegabytes = -1
    /// 0 when slots never expire.
    var idleSlotTimeoutSeconds = 0
    /// Libraries that may decode; `nil` where the server does not ask.
    var outputPlugins: [String]?
    var originLimit = 0
    var usedOrigins = 0
    /// How many transactions may be prepared at a time.
    var preparedLimit = 0

    /// `synchronous_standby_names`, and what Lindero's own streams are called.
    var standbyNames = ""
    var applicationName = ""

    var hasLargeObjects = false
    var slots: [Slot] = []
    var publications: [Publication] = []
    var openTransactions: [OpenTransaction] = []
    /// Global identifiers of prepared transactions, of the whole cluster.
    var preparedTransactions: [String] = []
    var roles: [Role] = []

    /// Whether a commit may wait for Lindero's own stream as its synchronous standby.
    var awaitsOwnStream: Bool { StandbyNames(standbyNames).mean(applicationName) }

    func slot(_ name: String) -> Slot? { slots.first { $0.name == name } }
    func publication(_ name: String) -> Publication? { publications.first { $0.name == name } }
}

/// What preflight needs to know about one table beyond its description.
struct TableFacts: Sendable {
    var name: QualifiedName
    var owner = ""
    var isUnlogged = false
    /// Row security would filter what this role sees or writes.
    var isFilteredByRowSecurity = false
    /// The role is the table's owner, or as good as it.
    var actsAsOwner = false
    var maySelect = false
    var mayInsert = false
    var mayUpdate = false
    var mayDelete = false
    var mayTruncate = false
    /// Triggers that fire even for a replicating session.
    var firingTriggers: [String] = []
    /// Keys that are checked at the end of a transaction only: quoted name and definition without that.
    var deferrableKeys: [String] = []
    /// A unique index over NOT NULL columns, fit for `REPLICA IDENTITY USING INDEX`.
    var identityCandidate: String?
    var hasSequence = false
    /// A leaf partition whose changes can't be told apart, when this is a partitioned table.
    var leafWithoutIdentity: String?
    /// One whose identity is not the root's.
    var unlikeLeaf: String?
}
