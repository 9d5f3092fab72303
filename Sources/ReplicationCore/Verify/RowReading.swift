/// A row as one side showed it at one moment.
public struct RowReading: Sendable, Equatable {
    /// Names this very version of the row: whoever writes the row, even with the same values, makes another one.
    public var version: String
    /// A hash of each compared column.
    public var columns: [String]

    public init(version: String, columns: [String]) {
        self.version = version
        self.columns = columns
    }
}

/// A row that is not the same on both sides and will not become so by itself.
public struct RowDifference: Sendable, Equatable {
    public enum Kind: String, Sendable, CaseIterable {
        /// Both sides have it, with other values.
        case changed
        /// The target lacks it.
        case missing
        /// The source lacks it.
        case extra
    }

    public var key: VerifyKey
    public var kind: Kind
    /// Those that differ; empty for a row that one side lacks.
    public var columns: [String]

    public init(key: VerifyKey, kind: Kind, columns: [String] = []) {
        self.key = key
        self.kind = kind
        self.columns = columns
    }
}

/// Looks at a row again while both sides are written to, and never calls a change on its way a difference.
///
/// The readings come in this order, and between them the sides catch up:
/// 1. The target's. In a split the source then catches up with the target.
/// 2. Every transaction that the source still hides but may have sent already comes to its end.
/// 3. The source's. The target catches up with the source.
/// 4. The target's again.
/// 5. As 2, and the source's again: only asked when the target lacks the row.
///
/// When the version of 1 is still there in 4, nothing has written the row on the target from before 3 until everything of
/// 3 had arrived: so the source has not written it either, and what it showed in 3 is what the target should show.
public struct Recheck: Sendable {
    public enum Verdict: Sendable, Equatable {
        case equal
        case differs(RowDifference.Kind, columns: [Int])
        /// The row is being written; nothing can be said.
        case again
        /// The last reading is needed.
        case askSource
    }

    public var targetBefore: RowReading?
    public var source: RowReading?
    public var targetAfter: RowReading?

    public init(targetBefore: RowReading?, source: RowReading?, targetAfter: RowReading?) {
        self.targetBefore = targetBefore
        self.source = source
        self.targetAfter = targetAfter
    }

    public var verdict: Verdict {
        switch (source, targetAfter) {
        case (nil, nil): return .equal
        case (let source?, let target?) where source.columns == target.columns: return .equal
        case (let source?, let target?):
            guard targetBefore?.version == target.version else { return .again }
            return .differs(.changed, columns: source.columns.indices.filter { source.columns[$0] != target.columns[$0] })
        case (nil, let target?): return targetBefore?.version == target.version ? .differs(.extra, columns: []) : .again
        case (_?, nil): return targetBefore == nil ? .askSource : .again
        }
    }

    /// - Parameter sourceAfter: the last reading.
    public func verdict(sourceAfter: RowReading?) -> Verdict {
        guard case .askSource = verdict else { return verdict }
        return sourceAfter?.version == source?.version ? .differs(.missing, columns: []) : .again
    }
}
