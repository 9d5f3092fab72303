/// What an applier does for one remote operation.
public struct Resolution: Sendable, Equatable {
    /// In this order; none when the operation is dropped.
    public var steps: [RowStep] = []
    /// To be recorded in the same target transaction.
    public var conflicts: [ConflictRecord] = []
    /// Of a table that others refer to: the row that the operation ends, by the key that it has here by now, where this side
    /// had given it another one at the same time.
    public var rival: RowKey?
    /// Whether references to the rival are to mean the remote side's row from now on: so on one side, and not on the other.
    public var isRivalYielding = false
    /// Of such a table: what this side's delete of the row has left that the remote side has given another key: some may still
    /// hold its number, and are to mean the successor.
    public var left: EndedRow.Left?
    /// Of such a table: where references to a row that the remote side has moved lead here.
    public var successor: RowKey?
}

/// One statement on the target.
public enum RowStep: Sendable, Equatable {
    /// The key and these columns; the others take their defaults.
    case insert(RowKey, [ColumnWrite])
    case update(RowKey, [ColumnWrite])
    case delete(RowKey)
    /// The row gets another key, and keeps the columns that are not written.
    case move(RowKey, to: RowKey, [ColumnWrite])
}

public struct ColumnWrite: Sendable, Equatable {
    public enum Value: Sendable, Equatable {
        /// The operation's new value.
        case remote
        /// The row's value plus what the operation added to its own: new − old. NULL, and no old row, count as 0.
        case sum
        /// This value, which a local write gave the column before; `nil` is NULL.
        case local([UInt8]?)
        /// The greater one of the operation's new value and this one, as the server compares (`GREATEST`).
        case greatest([UInt8]?)
        /// The smaller one (`LEAST`).
        case least([UInt8]?)
    }

    /// Index into `SplitTable.columns`.
    public var column: Int
    public var value: Value

    public init(column: Int, value: Value) {
        self.column = column
        self.value = value
    }
}

/// A value that arrived and is not what the row holds now.
public struct ConflictRecord: Sendable, Equatable {
    /// What met, in the words of `lindero.conflict`.
    public enum Kind: String, Sendable {
        /// Two writes of one column.
        case column
        /// A write of a row that this side deleted.
        case updateDelete = "update_delete"
        /// Two rows that both sides made with one key.
        case insertInsert = "insert_insert"
        /// A row made again, while this side deleted it.
        case deleteInsert = "delete_insert"
        /// One of the two gave the row another key.
        case keyChange = "key_change"
    }

    public enum Decision: Sendable, Equatable {
        case policy(SharedColumnRule.Policy)
        /// This side deleted the row, or gave it another key, before it saw the write: the write goes with the row.
        case rowEnded
        /// There is no such row, and no reason is known: the databases had parted before.
        case rowMissing
    }

    public var kind: Kind
    public var key: RowKey
    /// Index into `SplitTable.columns`; `nil` for a row that has no column but its key.
    public var column: Int?
    public var decision: Decision
    /// The write that lost. Its value is the operation's new one.
    public var remote: WriteMark
    /// What it lost against. The winner's value is what the row holds after the resolution's steps.
    public var local: WriteMark?

    /// Whether it is recorded only if the row's value, after the resolution's steps, is distinct from the operation's
    /// (`IS DISTINCT FROM`): both sides may have written the same, and of `max` and `min` the server knows the winner.
    public var isRecordedOnlyIfDistinct: Bool {
        if case .policy = decision { true } else { false }
    }
    /// Whether a person is asked.
    public var isOpen: Bool { decision == .policy(.queue) }
}
