/// Why a direction cannot go on until a person has done something.
public struct ReplicationFailure: Error, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable {
        case slotExists = "slot_exists"
        case targetNotEmpty = "target_not_empty"
        case slotMissing = "slot_missing"
        case slotRecreated = "slot_recreated"
        case slotLate = "slot_late"
        case slotInvalidated = "slot_invalidated"
        case slotInUse = "slot_in_use"
        case splitBegun = "split_begun"
        case splitGivenUp = "split_given_up"
        case publicationMissing = "publication_missing"
        case publicationTable = "publication_table"
        case otherSource = "other_source"
        case targetAhead = "target_ahead"
        case sourceBehind = "source_behind"
        case replicaIdentity = "replica_identity"
        case changeRefused = "change_refused"
        case rowMissing = "row_missing"
        case rowIncomplete = "row_incomplete"
        case privileges = "privileges"
        case progressLost = "progress_lost"
        case otherSlot = "other_slot"
        case walLevel = "wal_level"
        case unsupportedVersion = "unsupported_version"
        case schemaDiffers = "schema_differs"
        case tableRewritten = "table_rewritten"
        case tableRenamed = "table_renamed"
        case clockOffset = "clock_offset"
        case spillUnusable = "spill_unusable"
        case slotTwoPhase = "slot_two_phase"
        case truncated
        case splitTable = "split_table"
        case splitPolicy = "split_policy"
        case memoryLimit = "memory_limit"
        case sequencesShared = "sequences_shared"
        case preparedDisabled = "prepared_disabled"
        case preparedLeft = "prepared_left"
        case preparedGone = "prepared_gone"
        case tableInUse = "table_in_use"
        case tableLeft = "table_left"
        case columnLeft = "column_left"
        case splitWritten = "split_written"
    }

    public var code: Code
    /// What happened and where; never row values.
    public var message: String
    /// The next command to run.
    public var nextStep: String
    /// True when the setup stands in the way (exit code 2) rather than the work having failed (1).
    public var isBlocker: Bool

    public init(_ code: Code, _ message: String, nextStep: String, isBlocker: Bool = false) {
        self.code = code
        self.message = message
        self.nextStep = nextStep
        self.isBlocker = isBlocker
    }

    public var description: String { "\(message) \(nextStep)" }
}
