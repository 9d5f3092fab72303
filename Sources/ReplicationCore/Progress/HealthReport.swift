/// Whether a person has to look, decided from a status alone.
public struct HealthReport: Sendable, Equatable {
    /// What keeps a direction from going on, or puts it in danger.
    public private(set) var failures: [String] = []
    /// What is beyond a gate of the configuration but mends itself, or may.
    public private(set) var warnings: [String] = []

    public var isHealthy: Bool { failures.isEmpty }

    public init(_ snapshot: StatusSnapshot, gates: Gates = Gates()) {
        for direction in snapshot.directions {
            judgeState(direction)
            judgeSlot(direction, gates)
            judgeLag(direction, gates)
        }
        for standby in snapshot.standbys where standby.state != "streaming" {
            warnings.append("standby \(standby.name) is \(standby.state)")
        }
        warnings += snapshot.conflicts.compactMap(\.words)
        if let clock = snapshot.clock, clock.isPast != false { warnings.append(clock.words) }
    }

    /// `{"healthy": …, "failures": […], "warnings": […]}`.
    public var document: JSONValue {
        .object([
            ("healthy", .bool(isHealthy)), ("failures", .texts(failures)), ("warnings", .texts(warnings)),
        ])
    }

    private mutating func judgeState(_ direction: DirectionStatus) {
        switch direction.state {
        case .stopped, .paused, .reconnecting:
            let state = direction.state?.rawValue ?? ""
            failures.append("\(direction.name) is \(state)" + (direction.problem.map { ": \($0)" } ?? ""))
        case nil:
            failures.append("\(direction.name) has no worker")
        case .starting, .copying, .catchingUp, .streaming, .draining:
            break
        }
    }

    private mutating func judgeSlot(_ direction: DirectionStatus, _ gates: Gates) {
        switch direction.slotStatus {
        case "lost": failures.append("slot \(direction.slot) is lost: copy \(direction.name) anew")
        case "unreserved": failures.append("slot \(direction.slot) is about to be lost (unreserved)")
        default: break
        }
        if let retained = direction.retainedWALBytes, retained > UInt64(gates.maxRetainedWALBytes) {
            let limit = PlainText.bytes(gates.maxRetainedWALBytes)
            warnings.append("slot \(direction.slot) retains \(PlainText.bytes(retained)) of WAL, gate \(limit)")
        }
    }

    private mutating func judgeLag(_ direction: DirectionStatus, _ gates: Gates) {
        guard direction.state != .copying else { return }
        if let seconds = direction.lagSeconds, seconds * 1_000 > Double(gates.maxLagMilliseconds) {
            let limit = PlainText.seconds(Double(gates.maxLagMilliseconds) / 1_000)
            warnings.append("\(direction.name) is \(PlainText.seconds(seconds)) behind, gate \(limit)")
        }
    }
}
