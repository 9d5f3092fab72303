/// What is true before a service is moved, or moved once more after a kill.
public struct MoveFacts: Sendable, Equatable {
    /// How the service's clients reach their database.
    public struct Bouncer: Sendable, Equatable {
        /// Whether pgbouncer itself, not only its file, sends them to the new side.
        public var pointsAtTarget: Bool
        /// Somebody paused it: an earlier run that was killed, or a person.
        public var isPaused: Bool
        /// Whether clients give their server back between transactions. Those that keep it for their whole session can't be
        /// paused: pgbouncer would wait until each of them has gone.
        public var releasesServers: Bool

        public init(pointsAtTarget: Bool, isPaused: Bool, releasesServers: Bool) {
            self.pointsAtTarget = pointsAtTarget
            self.isPaused = isPaused
            self.releasesServers = releasesServers
        }
    }

    public var isStrict: Bool
    /// `nil`: the service does not come through pgbouncer.
    public var bouncer: Bouncer?
    public var hasCommand: Bool
    /// Whether the old side refuses the service's writes already.
    public var isRefusedOnSource: Bool
    /// Whether the new side still does, from a move the other way.
    public var isRefusedOnTarget: Bool

    public init(
        isStrict: Bool, bouncer: Bouncer?, hasCommand: Bool, isRefusedOnSource: Bool = false, isRefusedOnTarget: Bool = false
    ) {
        self.isStrict = isStrict
        self.bouncer = bouncer
        self.hasCommand = hasCommand
        self.isRefusedOnSource = isRefusedOnSource
        self.isRefusedOnTarget = isRefusedOnTarget
    }
}

/// One step of a service's move. Each may be done again.
public enum MoveStep: Sendable, Equatable {
    /// The new side takes the service's writes (again).
    case allow
    /// The new side is as near as it gets while all write: what is left for `drain` is short.
    case catchUp
    /// Clients wait in pgbouncer, and writers of the old side at the fence, as asked for: both or neither.
    case hold(pausing: Bool, fencing: Bool)
    /// What the old side holds by now is on the new side.
    case drain
    /// The old side will refuse the service's writes from the moment the fence lifts.
    case refuse
    /// pgbouncer's entry says where the new side is.
    case point
    case resume
    /// The command of the configuration moves the service.
    case command
    /// The fence goes, and the refusal comes, in one moment.
    case lift
    /// The service's sessions that are still on the old side are ended: every write of theirs would be refused.
    case end
    /// No session of the service is left on the old side.
    case wait
}

/// What a service's move has to do, given what is true.
public enum MovePlan {
    public static func steps(_ facts: MoveFacts) -> [MoveStep] {
        var steps: [MoveStep] = []
        if facts.isRefusedOnTarget { steps.append(.allow) }
        // The refusal came with the lift, after everything else: the service has moved.
        let hasMoved = facts.isStrict && facts.isRefusedOnSource && facts.bouncer?.pointsAtTarget ?? true
        let turns = facts.bouncer.map { !$0.pointsAtTarget } ?? false
        if hasMoved {
            if facts.bouncer?.isPaused == true { steps.append(.resume) }
            return steps + [.end, .wait]
        }
        let pauses = turns && facts.bouncer?.releasesServers == true
        if pauses || facts.isStrict {
            steps += [.catchUp, .hold(pausing: pauses, fencing: facts.isStrict), .drain]
        }
        if facts.isStrict { steps.append(.refuse) }
        if turns { steps.append(.point) }
        if pauses || facts.bouncer?.isPaused == true { steps.append(.resume) }
        if facts.hasCommand { steps.append(.command) }
        guard facts.isStrict else { return steps + [.wait] }
        // A person moves it now: under the fence, where its writers wait.
        if facts.bouncer == nil, !facts.hasCommand { steps.append(.wait) }
        return steps + [.lift, .end, .wait]
    }

    /// What leaves the service where it was, after some steps were begun: in the reverse order, each of them harmless where
    /// there is nothing to undo.
    public enum Undoing: Sendable, Equatable {
        case liftFence
        case pointBack
        case resume
        case commandBack
        case allowOnSource
        case refuseOnTarget
    }

    public static func undo(_ begun: [MoveStep]) -> [Undoing] {
        var undoing: [Undoing] = []
        if begun.contains(.command) { undoing.append(.commandBack) }
        if begun.contains(.point) { undoing.append(.pointBack) }
        for step in begun {
            guard case .hold(let pausing, let fencing) = step else { continue }
            if fencing { undoing.insert(.liftFence, at: 0) }
            if pausing { undoing.append(.resume) }
        }
        if begun.contains(.resume), !undoing.contains(.resume) { undoing.append(.resume) }
        if begun.contains(.lift) { undoing.append(.allowOnSource) }
        if begun.contains(.allow) { undoing.append(.refuseOnTarget) }
        return undoing
    }
}

/// How long each try to stop writers may take, and how long they are left alone before the next.
///
/// A try that waits for a long transaction holds everybody who comes after it: so it begins short, and grows.
public struct HoldSchedule: Sendable, Equatable {
    public private(set) var nextMilliseconds: Int
    let largestMilliseconds: Int

    public init(firstMilliseconds: Int = 150, largestMilliseconds: Int = .max) {
        nextMilliseconds = max(1, min(firstMilliseconds, largestMilliseconds))
        self.largestMilliseconds = max(1, largestMilliseconds)
    }

    /// The length of the next try, and of the rest before it when it is not the first; `nil` past the deadline.
    public mutating func next(leftMilliseconds: Int) -> Int? {
        guard leftMilliseconds > 0 else { return nil }
        let length = min(nextMilliseconds, leftMilliseconds)
        nextMilliseconds = min(largestMilliseconds, nextMilliseconds > .max / 2 ? .max : nextMilliseconds * 2)
        return length
    }
}
