/// What `CREATE SEQUENCE` says of a sequence: which numbers it gives, in which order.
public struct SequenceSettings: Sendable, Equatable {
    public var increment: Int64
    public var minimum: Int64
    public var maximum: Int64
    /// Where `TRUNCATE … RESTART IDENTITY` begins again.
    public var start: Int64

    public init(increment: Int64 = 1, minimum: Int64 = 1, maximum: Int64 = .max, start: Int64 = 1) {
        self.increment = increment
        self.minimum = minimum
        self.maximum = maximum
        self.start = start
    }
}

/// A sequence behind one or more columns, as one side of a split has it.
public struct SequenceState: Sendable, Equatable {
    public var name: QualifiedName
    public var settings: SequenceSettings
    /// Whether it begins again at its end.
    public var cycles = false
    public var lastValue: Int64
    /// Whether `lastValue` was given already.
    public var isCalled: Bool
    /// The farthest number that its columns hold; `nil` when they hold none.
    public var usedValue: Int64?
    /// Whether its columns hold the bare numbers; else nobody knows which are in use.
    public var holdsNumbers = true
    /// What its columns can hold.
    public var columnRange: ClosedRange<Int64>
    /// What it was before Lindero changed it, and how it did; `nil` when it did not.
    public var record: Record?

    public struct Record: Sendable, Equatable {
        public var before: SequenceSettings
        public var mode: ReplicationSettings.Sequences

        public init(before: SequenceSettings, mode: ReplicationSettings.Sequences) {
            self.before = before
            self.mode = mode
        }
    }

    public init(
        name: QualifiedName, settings: SequenceSettings = SequenceSettings(), lastValue: Int64 = 1, isCalled: Bool = false,
        usedValue: Int64? = nil, columnRange: ClosedRange<Int64> = .min ... .max, record: Record? = nil
    ) {
        self.name = name
        self.settings = settings
        self.lastValue = lastValue
        self.isCalled = isCalled
        self.usedValue = usedValue
        self.columnRange = columnRange
        self.record = record
    }

    /// What Lindero found.
    var before: SequenceSettings { record?.before ?? settings }
    var ascends: Bool { settings.increment > 0 }

    /// The number that it gives next; `nil` when there is none left.
    public var nextValue: Int64? {
        guard isCalled else { return usable(lastValue) ? lastValue : nil }
        let (next, overflows) = lastValue.addingReportingOverflow(settings.increment)
        return !overflows && usable(next) ? next : nil
    }

    private func usable(_ value: Int64) -> Bool {
        value >= settings.minimum && value <= settings.maximum && columnRange.contains(value)
    }

    /// How many numbers are left, as far as the columns can hold them.
    public var remaining: UInt64 {
        guard let next = nextValue else { return 0 }
        let end = ascends ? min(settings.maximum, columnRange.upperBound) : max(settings.minimum, columnRange.lowerBound)
        let distance = ascends ? UInt64(bitPattern: end &- next) : UInt64(bitPattern: next &- end)
        let count = distance / settings.increment.magnitude
        return count == .max ? count : count + 1
    }

    /// How much of all numbers that the side may ever have is left, 0 to 1.
    public var headroom: Double {
        let low = max(settings.minimum, columnRange.lowerBound)
        let high = min(settings.maximum, columnRange.upperBound)
        guard high > low else { return 0 }
        let all = (Double(high) - Double(low)) / Double(settings.increment.magnitude) + 1
        return min(1, Double(remaining) / all)
    }
}

/// The sequences of both sides behind the same columns.
public struct SequencePair: Sendable, Equatable {
    public struct Column: Sendable, Hashable {
        public var table: QualifiedName
        public var column: String

        public init(table: QualifiedName, column: String) {
            self.table = table
            self.column = column
        }
    }

    public var columns: [Column]
    public var origin: SequenceState
    public var other: SequenceState
    /// Whether both sides make rows whose numbers meet: then no number may be given twice.
    public var isShared: Bool

    public init(columns: [Column], origin: SequenceState, other: SequenceState, isShared: Bool) {
        self.columns = columns
        self.origin = origin
        self.other = other
        self.isShared = isShared
    }
}

/// Why a pair of sequences can't be shared by two sides.
public enum SequenceProblem: Error, Sendable, Equatable {
    /// It begins again at its end, so it repeats itself anyway.
    case cycles(QualifiedName)
    /// They count in different steps or directions.
    case stepsDiffer(origin: Int64, other: Int64)
    /// No numbers are left for both.
    case exhausted(QualifiedName)
}
