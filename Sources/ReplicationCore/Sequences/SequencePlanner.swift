/// What one sequence is to become.
public struct SequenceChange: Sendable, Equatable {
    public var name: QualifiedName
    public var settings: SequenceSettings
    /// The number that it gives next.
    public var restart: Int64

    public init(name: QualifiedName, settings: SequenceSettings, restart: Int64) {
        self.name = name
        self.settings = settings
        self.restart = restart
    }

    /// Transactional, unlike `setval`.
    public var sql: String {
        "ALTER SEQUENCE \(name.sql) INCREMENT BY \(settings.increment) MINVALUE \(settings.minimum) MAXVALUE "
            + "\(settings.maximum) START WITH \(settings.start) RESTART WITH \(restart);"
    }
}

/// What a pair of sequences is to become; `nil` for one that stays as it is.
public struct SequencePlan: Sendable, Equatable {
    public var origin: SequenceChange?
    public var other: SequenceChange?

    public init(origin: SequenceChange?, other: SequenceChange?) {
        self.origin = origin
        self.other = other
    }
}

/// Decides how two sides share the numbers of a sequence, and how one takes them all back.
///
/// Whatever is planned lies ahead of every number that either side has given or holds.
public struct SequencePlanner: Sendable {
    /// The last whole number that programs with floating-point numbers alone (JavaScript) read exactly.
    static let lastExactDouble: Int64 = 9_007_199_254_740_991

    public let mode: ReplicationSettings.Sequences

    public init(mode: ReplicationSettings.Sequences) { self.mode = mode }

    /// How the pair is shared: what two sides have in use stays as it is, since no order of two changes from one to the other
    /// is safe while both write. A new mode counts from the next split on.
    public func mode(of pair: SequencePair) -> ReplicationSettings.Sequences {
        guard let record = pair.origin.record, record.mode == pair.other.record?.mode else { return mode }
        return record.mode
    }

    /// What makes the pair safe for two sides; `nil` when it is already.
    public func plan(_ pair: SequencePair) throws(SequenceProblem) -> SequencePlan? {
        guard pair.isShared else { return try ahead(pair) }
        for state in [pair.origin, pair.other] where state.cycles { throw .cycles(state.name) }
        let step = pair.origin.before.increment
        guard pair.other.before.increment == step else {
            throw .stepsDiffer(origin: step, other: pair.other.before.increment)
        }
        if isSafe(pair) { return nil }
        switch mode(of: pair) {
        case .interleave: return try interleave(pair, step: step)
        case .ranges: return try ranges(pair, step: step)
        }
    }

    /// What gives the pair its own settings back, ahead of everything that was given meanwhile; `nil` when Lindero has
    /// changed neither.
    public func restore(_ pair: SequencePair) throws(SequenceProblem) -> SequencePlan? {
        guard pair.origin.record != nil || pair.other.record != nil else { return nil }
        let next = try next(after: pair, steps: 1)
        return SequencePlan(
            origin: SequenceChange(name: pair.origin.name, settings: try fit(pair.origin, next), restart: next),
            other: SequenceChange(name: pair.other.name, settings: try fit(pair.other, next), restart: next))
    }

    /// The same where the other side is lost: ahead of every number that is known here. One that Lindero has not changed is set ahead
    /// of what came from there, where it is behind.
    public func restore(_ state: SequenceState) throws(SequenceProblem) -> SequenceChange? {
        guard state.record != nil else { return try ahead(SequencePair(columns: [], origin: state, other: state, isShared: false))?.origin }
        let step = state.before.increment
        // One that was never used lies behind what the other side may have given: also where it has the far half.
        let (before, overflows) = state.lastValue.subtractingReportingOverflow(step)
        let given = state.isCalled ? state.lastValue : overflows ? nil : before
        let (next, overflowsToo) = (farthest([given, state.usedValue], ascends: step > 0) ?? 0).addingReportingOverflow(step)
        guard !overflowsToo else { throw .exhausted(state.name) }
        return SequenceChange(name: state.name, settings: try fit(state, next), restart: next)
    }

    private func fit(_ state: SequenceState, _ next: Int64) throws(SequenceProblem) -> SequenceSettings {
        let settings = state.before
        try require(next, in: settings, state)
        return settings
    }

    /// Whether the two can never give the same number, nor one that the other side holds already.
    public func isSafe(_ pair: SequencePair) -> Bool {
        guard pair.isShared else { return (try? ahead(pair)) == .some(nil) }
        let mode = mode(of: pair)
        guard pair.origin.record?.mode == mode, pair.other.record?.mode == mode,
            let origin = pair.origin.nextValue, let other = pair.other.nextValue,
            isAhead(pair.origin, origin, of: pair, mode), isAhead(pair.other, other, of: pair, mode)
        else { return false }
        switch mode {
        case .interleave:
            let step = pair.origin.before.increment
            let (double, overflows) = step.multipliedReportingOverflow(by: 2)
            guard !overflows, pair.origin.settings.increment == double, pair.other.settings.increment == double else { return false }
            return residue(origin, double) != residue(other, double)
        case .ranges:
            return pair.origin.settings.maximum < pair.other.settings.minimum
                || pair.other.settings.maximum < pair.origin.settings.minimum
        }
    }

    /// Whether no row of either side holds a number that this one has yet to give. Most numbers that lie ahead are the other
    /// side's own. One of somebody's own choice that is not the farthest is not seen, as PostgreSQL itself would not see it
    /// coming.
    private func isAhead(
        _ state: SequenceState, _ next: Int64, of pair: SequencePair, _ mode: ReplicationSettings.Sequences
    ) -> Bool {
        [pair.origin.usedValue, pair.other.usedValue].compactMap { $0 }.allSatisfy { used in
            let isOwn =
                switch mode {
                case .interleave: residue(used, state.settings.increment) == residue(next, state.settings.increment)
                case .ranges: used >= state.settings.minimum && used <= state.settings.maximum
                }
            return !isOwn || (state.ascends ? used < next : used > next)
        }
    }

    private func residue(_ value: Int64, _ step: Int64) -> Int64 {
        let size = Int64(clamping: step.magnitude)
        let rest = value % size
        return rest < 0 ? rest + size : rest
    }

    // MARK: plans

    /// Every other number for each side, the nearer one for the origin. Sides that have theirs already keep them: while
    /// one of two changes is made and the other is not yet, they still never meet.
    private func interleave(_ pair: SequencePair, step: Int64) throws(SequenceProblem) -> SequencePlan {
        let (double, overflows) = step.multipliedReportingOverflow(by: 2)
        guard !overflows else { throw .exhausted(pair.origin.name) }
        let own = interleavedResidues(pair, double)
        func change(_ state: SequenceState, steps: Int64, residue own: Int64?) throws(SequenceProblem) -> SequenceChange {
            var settings = state.before
            settings.increment = double
            var next = try next(after: pair, steps: own == nil ? steps : 1)
            if let own {
                let size = Int64(clamping: double.magnitude)
                let forward = step > 0 ? own - residue(next, double) : residue(next, double) - own
                let (aligned, overflows) = next.addingReportingOverflow((forward < 0 ? forward + size : forward) * step.signum())
                guard !overflows else { throw .exhausted(state.name) }
                next = aligned
            }
            // Begun again, the two must not meet either.
            settings.start = next
            try require(next, in: settings, state)
            return SequenceChange(name: state.name, settings: settings, restart: next)
        }
        return SequencePlan(
            origin: try change(pair.origin, steps: 1, residue: own?.origin),
            other: try change(pair.other, steps: 2, residue: own?.other))
    }

    /// Which of the numbers each side has, if they are shared out already.
    private func interleavedResidues(_ pair: SequencePair, _ double: Int64) -> (origin: Int64, other: Int64)? {
        let states = [pair.origin, pair.other]
        guard states.allSatisfy({ $0.record?.mode == .interleave && $0.settings.increment == double }) else { return nil }
        let (origin, other) = (residue(pair.origin.lastValue, double), residue(pair.other.lastValue, double))
        return origin == other ? nil : (origin, other)
    }

    /// Half of the numbers that are left for each side, the nearer half for the origin.
    private func ranges(_ pair: SequencePair, step: Int64) throws(SequenceProblem) -> SequencePlan {
        let first = try next(after: pair, steps: 1)
        let end = limit(pair, from: first)
        let count = (step > 0 ? UInt64(bitPattern: end &- first) : UInt64(bitPattern: first &- end)) / step.magnitude
        // One number is no range.
        guard step > 0 ? first < end : first > end, count >= 2 else { throw .exhausted(pair.origin.name) }
        let half = Int64(clamping: count / 2)
        let second = first + half * step
        var origin = pair.origin.before
        var other = pair.other.before
        if step > 0 {
            (origin.maximum, other.minimum) = (second - 1, second)
            other.maximum = min(other.maximum, end)
        } else {
            (origin.minimum, other.maximum) = (second + 1, second)
            other.minimum = max(other.minimum, end)
        }
        (origin.start, other.start) = (first, second)
        try require(first, in: origin, pair.origin)
        try require(second, in: other, pair.other)
        return SequencePlan(
            origin: SequenceChange(name: pair.origin.name, settings: origin, restart: first),
            other: SequenceChange(name: pair.other.name, settings: other, restart: second))
    }

    /// Where the numbers end that both sides can hold, and that no program rounds if the first is one of those.
    private func limit(_ pair: SequencePair, from first: Int64) -> Int64 {
        let states = [pair.origin, pair.other]
        if pair.origin.before.increment > 0 {
            let end = states.map { min($0.before.maximum, $0.columnRange.upperBound) }.min() ?? .max
            return first < Self.lastExactDouble ? min(end, Self.lastExactDouble) : end
        }
        let end = states.map { max($0.before.minimum, $0.columnRange.lowerBound) }.max() ?? .min
        return first > -Self.lastExactDouble ? max(end, -Self.lastExactDouble) : end
    }

    /// Of a sequence whose numbers are not shared: only set ahead where it would give one that is held.
    private func ahead(_ pair: SequencePair) throws(SequenceProblem) -> SequencePlan? {
        func change(_ state: SequenceState) throws(SequenceProblem) -> SequenceChange? {
            guard let used = farthest([pair.origin.usedValue, pair.other.usedValue], ascends: state.ascends),
                let next = state.nextValue, state.ascends ? next <= used : next >= used
            else { return nil }
            let (restart, overflows) = used.addingReportingOverflow(state.settings.increment)
            guard !overflows else { throw .exhausted(state.name) }
            try require(restart, in: state.settings, state)
            return SequenceChange(name: state.name, settings: state.settings, restart: restart)
        }
        let (origin, other) = (try change(pair.origin), try change(pair.other))
        return origin == nil && other == nil ? nil : SequencePlan(origin: origin, other: other)
    }

    /// The number that many steps after every one that either side has given or holds.
    private func next(after pair: SequencePair, steps: Int64) throws(SequenceProblem) -> Int64 {
        let step = pair.origin.before.increment
        var given: [Int64?] = []
        for state in [pair.origin, pair.other] { given += [lastGiven(state, step: step), state.usedValue] }
        let last = farthest(given, ascends: step > 0) ?? 0
        let (distance, overflows) = step.multipliedReportingOverflow(by: steps)
        let (next, overflowsToo) = last.addingReportingOverflow(distance)
        guard !overflows, !overflowsToo else { throw .exhausted(pair.origin.name) }
        return next
    }

    /// One that was never used has given what is before its first number, unless that was the far half of a split.
    private func lastGiven(_ state: SequenceState, step: Int64) -> Int64? {
        if state.isCalled { return state.lastValue }
        let before = state.before
        let isFarHalf =
            state.record?.mode == .ranges
            && (step > 0 ? state.settings.minimum > before.minimum : state.settings.maximum < before.maximum)
        let (last, overflows) = state.lastValue.subtractingReportingOverflow(step)
        return isFarHalf || overflows ? nil : last
    }

    private func farthest(_ values: [Int64?], ascends: Bool) -> Int64? {
        ascends ? values.compactMap { $0 }.max() : values.compactMap { $0 }.min()
    }

    private func require(_ value: Int64, in settings: SequenceSettings, _ state: SequenceState) throws(SequenceProblem) {
        guard value >= settings.minimum, value <= settings.maximum, state.columnRange.contains(value) else {
            throw .exhausted(state.name)
        }
    }
}
