/// Leads one move through its works: each is recorded as begun, done, and recorded as ended, so that whoever comes after a
/// kill does the one that was under way again, and none that ended.
public struct PhaseMachine: Sendable, Equatable {
    public enum Event: Sendable, Equatable {
        case start
        /// The record that was asked for is durable.
        case recorded
        case done
    }

    public enum Action: Sendable, Equatable {
        /// Record that the work begins; the worker's mode holds from then on.
        case begin(PhaseRecord, PlannedWork)
        /// The number is the work's place in the move, from 1.
        case perform(number: Int, PlannedWork)
        /// Record that it ended.
        case end(PhaseRecord)
        case settled
    }

    private enum State: Equatable {
        case beginning(Int), performing(Int), ending(Int), settled
    }

    public let move: PhaseMove
    public let moveNumber: Int
    private var state: State

    /// Takes up the move where its records end, or begins it where they are of another one.
    public init(_ move: PhaseMove, after known: PhaseState) {
        self.move = move
        if known.move == move {
            moveNumber = known.moveNumber
            state = known.isLastEnded ? .beginning(known.begunCount) : .performing(known.begunCount - 1)
        } else {
            moveNumber = known.moveNumber + 1
            state = .beginning(0)
        }
    }

    public mutating func handle(_ event: Event) -> Action {
        switch (state, event) {
        case (.beginning(let index), .recorded):
            state = .performing(index)
        case (.performing(let index), .done):
            state = .ending(index)
        case (.ending(let index), .recorded):
            state = move.works.indices.contains(index + 1) ? .beginning(index + 1) : .settled
        case (_, .start), (_, .recorded), (_, .done), (.settled, _):
            break
        }
        return action
    }

    /// What the present state asks for.
    private var action: Action {
        switch state {
        case .beginning(let index): .begin(record(index, isEnded: false), move.works[index])
        case .performing(let index): .perform(number: index + 1, move.works[index])
        case .ending(let index): .end(record(index, isEnded: true))
        case .settled: .settled
        }
    }

    private func record(_ index: Int, isEnded: Bool) -> PhaseRecord {
        let work = move.works[index]
        return PhaseRecord(
            move: moveNumber, number: index + 1, from: move.from, to: move.to, step: work.step, work: work.work,
            worker: work.worker, isEnded: isEnded)
    }
}
