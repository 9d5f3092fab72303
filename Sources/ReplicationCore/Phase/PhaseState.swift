/// One row of `lindero.phase`: a piece of work that was begun, and perhaps ended.
public struct PhaseRecord: Sendable, Equatable {
    /// Rises by one with every move.
    public var move: Int
    /// The work's place in its move, from 1.
    public var number: Int
    public var from: Phase
    public var to: Phase
    public var step: PhaseStep
    public var work: PhaseWork
    public var worker: WorkerMode
    public var isEnded: Bool

    public init(
        move: Int, number: Int, from: Phase, to: Phase, step: PhaseStep, work: PhaseWork, worker: WorkerMode, isEnded: Bool
    ) {
        self.move = move
        self.number = number
        self.from = from
        self.to = to
        self.step = step
        self.work = work
        self.worker = worker
        self.isEnded = isEnded
    }
}

/// Where a system is: the phase that holds, and the move that is under way.
public struct PhaseState: Sendable, Equatable {
    /// The last one that was settled.
    public var phase: Phase
    /// What the worker is to run.
    public var worker: WorkerMode
    /// The number of the last move; 0 before the first.
    public var moveNumber: Int
    /// `nil` at rest.
    public var move: PhaseMove?
    /// Works of the move that were begun, and whether the last of them ended.
    public var begunCount: Int
    public var isLastEnded: Bool
    /// Whether the last record is none that this program's list of works would have written: it can be followed, not led.
    public private(set) var isForeign = false

    /// At rest, before any move.
    public init(phase: Phase) {
        self.phase = phase
        worker = WorkerMode(phase)
        moveNumber = 0
        begunCount = 0
        isLastEnded = true
    }

    /// - Parameters:
    ///   - settled: the last phase that was settled; `nil` before the first.
    ///   - first: the first work of the last move.
    ///   - last: the last one that was begun.
    public init(settled: Phase?, first: PhaseRecord, last: PhaseRecord) {
        phase = settled ?? first.from
        worker = last.worker
        moveNumber = last.move
        let isOver = last.work == .settle && last.isEnded
        move = isOver ? nil : PhaseMove(from: last.from, to: last.to, startMode: first.worker)
        begunCount = last.number
        isLastEnded = last.isEnded
        if let works = move?.works {
            isForeign = !works.indices.contains(last.number - 1)
                || works[last.number - 1] != PlannedWork(last.step, last.work, last.worker)
        }
    }

    /// The work that is under way or comes next; `nil` at rest.
    public var current: PlannedWork? {
        guard let works = move?.works else { return nil }
        let index = isLastEnded ? begunCount : begunCount - 1
        return works.indices.contains(index) ? works[index] : nil
    }

    /// One word: the phase, or the move that is under way, such as `replica->split`.
    public var word: String { move.map { "\($0.from.rawValue)->\($0.to.rawValue)" } ?? phase.rawValue }

    /// What `advance` has to do next to get to a phase; `nil` when it is there.
    public func advance(to target: Phase) -> PhaseMove? {
        if let move {
            if move.isForward { return move.to <= target ? move : nil }
            if move.givesUp { return splitToGiveUp.flatMap { target == .split ? PhaseMove(from: .replica, to: .split, startMode: $0) : nil } }
            // Turned round again: what was taken down already is made anew.
            return move.to < target ? PhaseMove(from: move.to, to: move.from, startMode: worker) : nil
        }
        guard phase < target, let next = phase.next else { return nil }
        return PhaseMove(from: phase, to: next, startMode: worker)
    }

    /// The same, no further than to a phase; `nil` when it is there.
    public func rollback(to target: Phase) -> PhaseMove? {
        guard let move = rollback(), move.to >= target else { return nil }
        return move
    }

    /// Whether a split has been begun, and no service was asked to move yet: it can be given up whatever its directions do.
    public var isBeforeServicesMove: Bool {
        guard worker == .towardsSplit, let works = move?.works, let moving = works.firstIndex(where: { $0.work == .moveServices })
        else { return false }
        // A move that came out of a rollback finds services anywhere.
        return move?.startMode == .replica && begunCount <= moving
    }

    /// What ran when a split began to be given up, as long as nothing of it was taken down: it may turn out that nothing is lost.
    public var splitToGiveUp: WorkerMode? {
        guard let move, move.givesUp, let taking = move.works.firstIndex(where: { $0.work == .giveUp }), begunCount <= taking else { return nil }
        return move.startMode
    }

    /// What `rollback` has to do when the second database of a split is lost for good; `nil` where `rollback` alone does it.
    ///
    /// - Parameter hasSplit: whether the origin holds what a split has left there, whatever the record says.
    public func giveUp(hasSplit: Bool) -> PhaseMove? {
        if let move, move.givesUp { return move }
        let isSplit = phase == .split || move.map { [$0.from, $0.to].contains(.split) } == true
        guard hasSplit || isSplit else { return nil }
        // A split that the file alone began, and says no longer, is still one.
        let isUntold = hasSplit && worker.backend != .split && worker != .nothing
        return PhaseMove(from: .split, to: .shared, startMode: isUntold ? .split : worker)
    }

    /// What `rollback` has to do next; `nil` where there is no way further back.
    public func rollback() -> PhaseMove? {
        if let move {
            if let mode = splitToGiveUp { return PhaseMove(from: .split, to: .replica, startMode: mode) }
            if !move.isForward { return move }
            return PhaseMove(from: move.to, to: move.from, startMode: isBeforeServicesMove ? .nothing : worker)
        }
        return phase.previous.map { PhaseMove(from: phase, to: $0, startMode: worker) }
    }
}
