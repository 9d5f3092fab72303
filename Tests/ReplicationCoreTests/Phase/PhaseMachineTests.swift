import ReplicationCore
import Testing

@Suite struct PhaseMachineTests {
    /// What a store would hold.
    private struct Journal {
        var records: [PhaseRecord] = []

        mutating func write(_ record: PhaseRecord) {
            records.removeAll { $0.move == record.move && $0.number == record.number }
            records.append(record)
        }

        var state: PhaseState {
            guard let last = records.last, let first = records.first(where: { $0.move == last.move }) else {
                return PhaseState(phase: .shared)
            }
            let settled = records.last { $0.work == .settle && $0.isEnded }?.to
            return PhaseState(settled: settled ?? records.first?.from, first: first, last: last)
        }
    }

    /// Runs a move; ends before the action numbered `killedAt`.
    private static func run(
        _ move: PhaseMove, _ journal: inout Journal, killedAt: Int = .max, performed: (PlannedWork) -> Void = { _ in }
    ) -> Bool {
        var machine = PhaseMachine(move, after: journal.state)
        var action = machine.handle(.start)
        var count = 0
        while true {
            if count == killedAt { return false }
            count += 1
            switch action {
            case .begin(let record, _), .end(let record):
                journal.write(record)
                action = machine.handle(.recorded)
            case .perform(_, let work):
                performed(work)
                action = machine.handle(.done)
            case .settled:
                return true
            }
        }
    }

    @Test func theWayForwardAndBackVisitsEveryPhase() throws {
        var journal = Journal()
        var phases: [Phase] = []
        while let move = journal.state.advance(to: .split) {
            #expect(Self.run(move, &journal))
            phases.append(journal.state.phase)
            #expect(journal.state.worker == WorkerMode(journal.state.phase))
            #expect(journal.state.move == nil)
        }
        while let move = journal.state.rollback() {
            #expect(Self.run(move, &journal))
            phases.append(journal.state.phase)
            #expect(journal.state.worker == WorkerMode(journal.state.phase))
        }
        #expect(phases == [.replica, .split, .replica, .shared])
    }

    /// Killed before any action, a move goes on where it was: every work is done, in order, and only the one under way twice.
    @Test(arguments: [(Phase.shared, Phase.replica), (.replica, .split), (.split, .replica), (.replica, .shared), (.split, .shared)])
    func killedAnywhereItGoesOn(_ from: Phase, _ to: Phase) {
        let move = PhaseMove(from: from, to: to, startMode: WorkerMode(from))
        for killedAt in 0..<(move.works.count * 3) {
            var journal = Journal()
            var performed: [PlannedWork] = []
            #expect(!Self.run(move, &journal, killedAt: killedAt) { performed.append($0) })
            let begun = journal.state.move ?? move
            #expect(begun == move)
            #expect(Self.run(begun, &journal) { performed.append($0) })
            var once = performed
            if let twice = zip(performed, performed.dropFirst()).enumerated().first(where: { $0.element.0 == $0.element.1 }) {
                once.remove(at: twice.offset)
            }
            #expect(once == move.works)
            #expect(journal.state.phase == to)
        }
    }

    /// A move that turns round at any point, and once more, ends where it began or where it was going, at rest.
    @Test func turnedRoundAnywhereItComesBack() throws {
        for (from, to) in [(Phase.shared, Phase.replica), (.replica, .split)] {
            let move = PhaseMove(from: from, to: to, startMode: WorkerMode(from))
            for killedAt in 1..<(move.works.count * 3) {
                var journal = Journal()
                _ = Self.run(move, &journal, killedAt: killedAt)
                let back = try #require(journal.state.rollback())
                #expect(back.to == from)
                for killedAgain in 0..<(back.works.count * 3) {
                    var turned = journal
                    _ = Self.run(back, &turned, killedAt: killedAgain)
                    var forward = turned
                    #expect(Self.run(try #require(turned.state.rollback()), &turned))
                    #expect(turned.state.phase == from)
                    #expect(turned.state.worker == WorkerMode(from))
                    while let again = forward.state.advance(to: to) { #expect(Self.run(again, &forward)) }
                    #expect(forward.state.phase == to)
                    #expect(forward.state.worker == WorkerMode(to))
                }
            }
        }
    }

    /// The split is taken down only after the worker runs nothing, and nobody moves before both directions stream.
    @Test func worksStandInTheOrderThatMakesThemSafe() throws {
        let forward = PhaseMove(from: .replica, to: .split, startMode: .replica).works
        let moved = try #require(forward.firstIndex { $0.work == .moveServices })
        let narrowed = try #require(forward.firstIndex { $0.work == .worker && $0.worker == .split })
        let drained = try #require(forward.firstIndex { $0.work == .drain })
        let streaming = try #require(forward.firstIndex { $0.work == .bothStream })
        let widened = try #require(forward.firstIndex { $0.work == .widenIdentity })
        #expect(widened < streaming && streaming < moved && moved < drained && drained < narrowed)
        let back = PhaseMove(from: .split, to: .replica, startMode: .split).works
        let ended = try #require(back.firstIndex { $0.work == .endSplit })
        #expect(back[ended].worker == .nothing && back[ended - 1].work == .worker)
        #expect(back[..<ended].contains { $0.work == .drain && $0.worker == .towardsOrigin })
    }

    /// Until a service was asked to move, a split is given up without its directions; afterwards they carry everything home.
    @Test func splitIsGivenUpWithoutItsDirectionsUntilAServiceMoves() throws {
        let move = PhaseMove(from: .replica, to: .split, startMode: .replica)
        let moving = try #require(move.works.firstIndex { $0.work == .moveServices })
        for killedAt in 1..<(move.works.count * 3) {
            var journal = Journal()
            _ = Self.run(move, &journal, killedAt: killedAt)
            guard let under = journal.state.move, journal.state.worker == .towardsSplit else { continue }
            #expect(under == move)
            let back = try #require(journal.state.rollback())
            #expect(back.works.contains { $0.work == .bothStream } == (journal.state.begunCount > moving))
            #expect(back.works.contains { $0.work == .endSplit })
        }
    }

    /// From any place in a move to a split or from one, however its works stand; and it does not turn round.
    @Test(arguments: [(Phase.replica, Phase.split), (.split, .replica)])
    func aLostDatabaseIsGivenUpFromAnywhere(_ from: Phase, _ to: Phase) throws {
        let move = PhaseMove(from: from, to: to, startMode: WorkerMode(from))
        for killedAt in 1..<(move.works.count * 3) {
            var journal = Journal()
            _ = Self.run(move, &journal, killedAt: killedAt)
            let lost = try #require(journal.state.giveUp(hasSplit: false))
            for place in 1..<(lost.works.count * 3) {
                var given = journal
                #expect(!Self.run(lost, &given, killedAt: place))
                #expect(given.state.move == lost && given.state.giveUp(hasSplit: false) == lost)
                // Nothing is taken down before that work is begun.
                let taking = try #require(lost.works.firstIndex { $0.work == .giveUp })
                if given.state.begunCount > taking {
                    #expect(given.state.rollback() == lost && given.state.advance(to: .split) == nil)
                } else {
                    let mode = try #require(given.state.splitToGiveUp)
                    // Where services were at home, or the split was still to begin, it is no split that turns round.
                    #expect(mode == journal.state.worker && given.state.advance(to: .replica) == nil)
                    #expect(given.state.rollback() == PhaseMove(from: .split, to: .replica, startMode: mode))
                    var turned = given
                    #expect(Self.run(try #require(given.state.advance(to: .split)), &turned))
                    #expect(turned.state.phase == .split && turned.state.worker == .split)
                }
                #expect(Self.run(lost, &given))
                #expect(given.state.phase == .shared && given.state.worker == .shared && given.state.giveUp(hasSplit: false) == nil)
            }
        }
        #expect(PhaseState(phase: .replica).giveUp(hasSplit: false) == nil)
        // One that the file alone began.
        #expect(PhaseState(phase: .replica).giveUp(hasSplit: true)?.startMode == .split)
        #expect(PhaseState(phase: .shared).giveUp(hasSplit: true)?.startMode == .split)
    }

    @Test func recordsOfAnotherProgramAreFollowedAndNotLed() {
        let first = PhaseRecord(move: 1, number: 1, from: .replica, to: .split, step: .planned, work: .plan, worker: .replica, isEnded: true)
        var last = first
        (last.number, last.step, last.work, last.worker) = (2, .cuttingOver, .drain, .towardsSplit)
        let state = PhaseState(settled: .replica, first: first, last: last)
        #expect(state.isForeign && state.worker == .towardsSplit)
        #expect(!PhaseState(settled: .replica, first: first, last: first).isForeign)
        last.number = 99
        #expect(PhaseState(settled: .replica, first: first, last: last).isForeign)
    }

    @Test func phasesThatHoldNeedNoMove() {
        #expect(PhaseState(phase: .replica).advance(to: .replica) == nil)
        #expect(PhaseState(phase: .split).advance(to: .replica) == nil)
        #expect(PhaseState(phase: .shared).rollback() == nil)
    }
}
