/// What came of comparing one table.
public struct TableVerification: Sendable, Equatable {
    public var table: QualifiedName
    /// Compared on the side that was walked.
    public var rows = 0
    /// Rows that will not become equal by themselves.
    public var differenceCount = 0
    /// The first of them.
    public var differences: [RowDifference] = []
    /// Rows that were looked at again, because a first look showed them apart.
    public var rechecked = 0
    /// Rows that were written too often to be compared.
    public var undecided = 0
    /// The source's position that the target had reached when the last row was decided.
    public var sourceLSN = LSN.zero

    public init(table: QualifiedName) { self.table = table }
}

/// What came of a whole comparison.
public struct VerifyReport: Sendable, Equatable {
    public var direction: String
    public var tables: [TableVerification] = []
    /// What of each table was compared.
    public var compared: [QualifiedName: VerifyTable] = [:]
    /// Tables that cannot be compared, and why.
    public var skipped: [SkippedTable] = []

    public init(direction: String) { self.direction = direction }

    public struct SkippedTable: Sendable, Equatable {
        public var table: QualifiedName
        public var reason: VerifyTable.Obstacle

        public init(_ table: QualifiedName, _ reason: VerifyTable.Obstacle) {
            self.table = table
            self.reason = reason
        }
    }

    public var differenceCount: Int { tables.reduce(0) { $0 + $1.differenceCount } }
    public var undecided: Int { tables.reduce(0) { $0 + $1.undecided } }
    public var result: VerifyResult {
        if differenceCount > 0 { return .different }
        return undecided > 0 || !skipped.isEmpty ? .undecided : .equal
    }
}

public enum VerifyResult: String, Sendable {
    case equal, different
    /// No difference was found, but not everything could be compared.
    case undecided
}
