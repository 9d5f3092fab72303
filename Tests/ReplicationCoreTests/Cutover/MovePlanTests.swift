import ReplicationCore
import Testing

struct MovePlanTests {
    private func facts(
        strict: Bool = false, bouncer: MoveFacts.Bouncer? = nil, command: Bool = false, refusedOnSource: Bool = false,
        refusedOnTarget: Bool = false
    ) -> MoveFacts {
        MoveFacts(
            isStrict: strict, bouncer: bouncer, hasCommand: command, isRefusedOnSource: refusedOnSource,
            isRefusedOnTarget: refusedOnTarget)
    }

    private func bouncer(there: Bool = false, paused: Bool = false, releases: Bool = true) -> MoveFacts.Bouncer {
        MoveFacts.Bouncer(pointsAtTarget: there, isPaused: paused, releasesServers: releases)
    }

    @Test func withoutAFenceClientsWaitForTheOtherSideAlone() {
        #expect(
            MovePlan.steps(facts(bouncer: bouncer()))
                == [.catchUp, .hold(pausing: true, fencing: false), .drain, .point, .resume, .wait])
        #expect(MovePlan.steps(facts(command: true)) == [.command, .wait])
        #expect(MovePlan.steps(facts()) == [.wait])
    }

    @Test func clientsThatKeepTheirServerAreNotPaused() {
        #expect(MovePlan.steps(facts(bouncer: bouncer(releases: false))) == [.point, .wait])
    }

    @Test func aStrictFenceStandsUntilTheServiceHasMoved() {
        #expect(
            MovePlan.steps(facts(strict: true, bouncer: bouncer(), command: true))
                == [.catchUp, .hold(pausing: true, fencing: true), .drain, .refuse, .point, .resume, .command, .lift, .end, .wait])
        #expect(
            MovePlan.steps(facts(strict: true))
                == [.catchUp, .hold(pausing: false, fencing: true), .drain, .refuse, .wait, .lift, .end, .wait])
    }

    @Test func theWayBackTakesTheRefusalAway() {
        #expect(MovePlan.steps(facts(command: true, refusedOnTarget: true)) == [.allow, .command, .wait])
    }

    @Test func aKilledMoveIsFinished() {
        // Between PAUSE and the reload; between the reload and RESUME; between RESUME and the lift; after the lift.
        #expect(
            MovePlan.steps(facts(bouncer: bouncer(paused: true)))
                == [.catchUp, .hold(pausing: true, fencing: false), .drain, .point, .resume, .wait])
        #expect(MovePlan.steps(facts(bouncer: bouncer(there: true, paused: true))) == [.resume, .wait])
        #expect(
            MovePlan.steps(facts(strict: true, bouncer: bouncer(there: true)))
                == [.catchUp, .hold(pausing: false, fencing: true), .drain, .refuse, .lift, .end, .wait])
        #expect(MovePlan.steps(facts(strict: true, bouncer: bouncer(there: true), refusedOnSource: true)) == [.end, .wait])
        #expect(MovePlan.steps(facts(bouncer: bouncer(there: true))) == [.wait])
    }

    /// Whatever is true: clients that wait are let go on, a fence is lifted, and both only after it is known where to.
    @Test func everyPlanEndsWithNobodyHeld() {
        let flags = [false, true]
        for strict in flags {
            for command in flags {
                for refused in flags {
                    for back in flags {
                        var bouncers: [MoveFacts.Bouncer?] = [nil]
                        for there in flags {
                            for paused in flags {
                                for releases in flags { bouncers.append(bouncer(there: there, paused: paused, releases: releases)) }
                            }
                        }
                        for bouncer in bouncers {
                            let facts = facts(
                                strict: strict, bouncer: bouncer, command: command, refusedOnSource: refused, refusedOnTarget: back)
                            let steps = MovePlan.steps(facts)
                            #expect(steps.last == .wait)
                            #expect(steps.contains(.resume) || !isPaused(facts, steps))
                            #expect(steps.contains(.lift) == steps.contains { if case .hold(_, true) = $0 { true } else { false } })
                            if let bouncer, !bouncer.pointsAtTarget { #expect(steps.contains(.point)) }
                            if back { #expect(steps.first == .allow) }
                            let undone = MovePlan.undo(steps)
                            #expect(undone.contains(.resume) == isPaused(facts, steps))
                            #expect(undone.contains(.liftFence) == steps.contains(.lift))
                        }
                    }
                }
            }
        }
    }

    private func isPaused(_ facts: MoveFacts, _ steps: [MoveStep]) -> Bool {
        facts.bouncer?.isPaused == true || steps.contains { if case .hold(true, _) = $0 { true } else { false } }
    }

    @Test func whatWasBegunIsUndoneFromTheEnd() {
        let steps: [MoveStep] = [.allow, .hold(pausing: true, fencing: true), .drain, .refuse, .point, .resume, .command, .lift, .end]
        #expect(MovePlan.undo(steps) == [.liftFence, .commandBack, .pointBack, .resume, .allowOnSource, .refuseOnTarget])
        #expect(MovePlan.undo([.hold(pausing: true, fencing: false)]) == [.resume])
        #expect(MovePlan.undo([.wait]) == [])
    }

    @Test func triesBeginShortAndGrow() {
        var schedule = HoldSchedule(firstMilliseconds: 100, largestMilliseconds: 500)
        #expect((0..<4).map { _ in schedule.next(leftMilliseconds: 10_000) } == [100, 200, 400, 500])
        #expect(schedule.next(leftMilliseconds: 30) == 30)
        #expect(schedule.next(leftMilliseconds: 0) == nil)
    }
}
