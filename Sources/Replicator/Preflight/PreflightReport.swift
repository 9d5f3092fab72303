import ReplicationCore

/// One thing that preflight found, with its remedy.
public struct PreflightFinding: Sendable, Equatable, CustomStringConvertible {
    public enum Severity: String, Sendable, CaseIterable {
        /// Nothing starts until it is mended.
        case blocker
        /// It will work, and may go wrong later.
        case warning
        /// Good to know.
        case note
    }

    /// Stable names for scripts.
    public enum Code: String, Sendable, CaseIterable {
        case connection
        case serverVersion = "server_version"
        case checkFailed = "check_failed"
        case ownership
        case walLevel = "wal_level"
        case replicationSlots = "replication_slots"
        case walSenders = "wal_senders"
        case replicationPrivilege = "replication_privilege"
        case publicationPrivilege = "publication_privilege"
        case slotRetention = "slot_retention"
        case idleSlotTimeout = "idle_slot_timeout"
        case sameDatabase = "same_database"
        case standbySource = "standby_source"
        case standbyTarget = "standby_target"
        case notAStandby = "not_a_standby"
        case originSlots = "origin_slots"
        case subscription
        case workers
        case encoding
        case longTransaction = "long_transaction"
        case preparedTransaction = "prepared_transaction"
        case preparedDisabled = "prepared_disabled"
        case clockOffset = "clock_offset"
        case largeObjects = "large_objects"
        case sequences
        case partitionTruncate = "partition_truncate"
        case partitionMove = "partition_move"
        case partitionMissing = "partition_missing"
        case inheritance
        case enumOrder = "enum_order"
        case enumLabel = "enum_label"
        case publicationMissing = "publication_missing"
        case publicationTable = "publication_table"
        case publicationColumns = "publication_columns"
        case publicationOperations = "publication_operations"
        case publicationRoot = "publication_root"
        case publicationFilter = "publication_filter"
        case slotExists = "slot_exists"
        case targetNotEmpty = "target_not_empty"
        case slotMissing = "slot_missing"
        case splitBegun = "split_begun"
        case splitGivenUp = "split_given_up"
        case slotPlugin = "slot_plugin"
        case slotDatabase = "slot_database"
        case slotTwoPhase = "slot_two_phase"
        case twoPhase = "two_phase"
        case slotActive = "slot_active"
        case slotInvalidated = "slot_invalidated"
        case slotRecreated = "slot_recreated"
        case otherSource = "other_source"
        case targetAhead = "target_ahead"
        case sourceBehind = "source_behind"
        case replicaIdentity = "replica_identity"
        case replicaIdentityFull = "replica_identity_full"
        case identityStays = "identity_stays"
        case unloggedTable = "unlogged_table"
        case rowSecurity = "row_security"
        case tableLeft = "table_left"
        case columnLeft = "column_left"
        case tableRenamed = "table_renamed"
        case splitPolicy = "split_policy"
        case tableMissing = "table_missing"
        case columnMissing = "column_missing"
        case typeMismatch = "type_mismatch"
        case typeNarrower = "type_narrower"
        case targetKey = "target_key"
        case targetGenerated = "target_generated"
        case identityAlways = "identity_always"
        case foreignNotNull = "foreign_not_null"
        case triggers
        case deferrableKey = "deferrable_key"
        case sourcePrivilege = "source_privilege"
        case targetPrivilege = "target_privilege"
        case fencePrivilege = "fence_privilege"
        case servicePrivilege = "service_privilege"
        case matchKey = "match_key"
        case matchNumbered = "match_numbered"
        case uniqueKey = "unique_key"
        case uniqueKeyMove = "unique_key_move"
        case checkConstraint = "check_constraint"
        case deletedByBoth = "deleted_by_both"
        case foreignTrigger = "foreign_trigger"
        case foreignKeyCut = "foreign_key_cut"
        case foreignKeyAction = "foreign_key_action"
        case truncateRight = "truncate_right"
        case policyMissing = "policy_missing"
        case synchronousStandby = "synchronous_standby"
        case onError = "on_error"
        case fillValue = "fill_value"
        case sequencesShared = "sequences_shared"
        case sequenceHeadroom = "sequence_headroom"
        case roles
        case roleMissing = "role_missing"
        case roleTooStrong = "role_too_strong"
        case guardDrift = "guard_drift"
        case guardNotice = "guard_notice"
        case spillFolder = "spill_folder"
        case diskSpace = "disk_space"
        case connections
        case extensionMissing = "extension_missing"
        case prismaSchemas = "prisma_schemas"
        case prismaMigrations = "prisma_migrations"
        case outputPlugin = "output_plugin"
    }

    public var severity: Severity
    public var code: Code
    /// The database by its name in the configuration; `nil` when it is about several.
    public var database: String?
    /// The table, role, slot or publication concerned.
    public var object: String?
    public var message: String
    /// What mends it: SQL wherever SQL can.
    public var fix: String?
    /// Where in the configuration file, for what the file says wrongly.
    public var mark: SourceMark?

    public init(
        _ severity: Severity, _ code: Code, database: String? = nil, object: String? = nil, _ message: String,
        fix: String? = nil, mark: SourceMark? = nil
    ) {
        self.severity = severity
        self.code = code
        self.database = database
        self.object = object
        self.message = message
        self.fix = fix
        self.mark = mark
    }

    /// `blocker: bot: message`, and the remedy on a line of its own.
    public var description: String {
        let place = database.map { "\($0): " } ?? ""
        return "\(severity.rawValue): \(place)\(message)" + (fix.map { "\n    fix: \($0)" } ?? "")
    }
}

/// Everything preflight found, the worst first.
public struct PreflightReport: Sendable, Equatable {
    public let findings: [PreflightFinding]

    public init(findings: [PreflightFinding]) {
        let order = PreflightFinding.Severity.allCases
        self.findings = order.flatMap { severity in findings.filter { $0.severity == severity } }
    }

    public var blockers: [PreflightFinding] { findings.filter { $0.severity == .blocker } }
    public var isBlocked: Bool { findings.contains { $0.severity == .blocker } }
}
