import PostgresClient
import ReplicationCore
import Replicator

/// Whether going back a phase now would lose nothing, and why.
struct RollbackSafety: Sendable {
    var isSafe: Bool
    var because: String

    /// Never throws: what can't be known makes it unsafe.
    static func read(_ loaded: LoadedConfiguration) async -> RollbackSafety {
        if let problem = loaded.phaseProblem { return RollbackSafety(isSafe: false, because: problem) }
        // Looked at as what it was, a split that was to be given up and is all there.
        let loaded = loaded.state.splitToGiveUp.map { loaded.running($0) } ?? loaded
        let state = loaded.state
        guard let move = state.rollback() else {
            return RollbackSafety(isSafe: false, because: "shared is the first phase, there is nothing to go back to")
        }
        do {
            let pair = try PhasePair(loaded)
            if move.givesUp { return RollbackSafety(isSafe: true, because: "\(pair.other.name) is given up: \(pair.origin.name) has all that is left") }
            if move.to == .shared { try await PhaseWorks.requireReplica(pair, loaded) }
            if move.to == .shared || !WorkerMode(.split).isSameLife(as: state.worker) {
                return RollbackSafety(isSafe: true, because: "\(pair.origin.name) has all that the services wrote")
            }
            if state.isBeforeServicesMove {
                return RollbackSafety(isSafe: true, because: "no service has moved: \(pair.origin.name) has all that they wrote")
            }
            _ = try await pair.origin.connected { try await loaded.transitionPolicy($0) }
            let reports = try await LagDirection.reports(loaded)
            let back = "\(pair.other.name)->\(pair.origin.name)"
            var safety = judge(reports.first { $0.name == back }, back, pair)
            if !safety.isSafe { safety.because += await LostRollback.advice(pair) }
            if safety.isSafe, let gap = try await gap(pair, loaded) { safety = RollbackSafety(isSafe: false, because: gap) }
            return safety
        } catch {
            let failure = CommandFailure(error)
            // Home comes what the file declares, so it has to say something that holds.
            if failure.code == "configuration" {
                return RollbackSafety(isSafe: false, because: "what has to come home is not known while \(loaded.path) can't be followed: \(failure.message)")
            }
            let codes: [ReplicationFailure.Code] = [.splitBegun, .splitGivenUp]
            if codes.map(\.rawValue).contains(failure.code) { return RollbackSafety(isSafe: false, because: "\(failure.message) \(failure.nextStep)") }
            let advice = if let pair = try? PhasePair(loaded) { await LostRollback.advice(pair) } else { "" }
            return RollbackSafety(isSafe: false, because: "a database can't be asked (\(failure.message))\(advice)")
        }
    }

    /// Where a slot was made anew, what came between is in nobody's log; rows alone tell whether anything is missing.
    private static func gap(_ pair: PhasePair, _ loaded: LoadedConfiguration) async throws -> String? {
        var renewed: [String] = []
        for database in [pair.origin, pair.other] {
            renewed += try await database.connected { try await SlotRenewal.renewed(on: $0) }.map { "the slot of \($0.direction) was made anew at \($0.time)" }
        }
        // What was compared before it is forgotten.
        guard !renewed.isEmpty, await VerifyGate.read(loaded).first?.result != .equal else { return nil }
        return renewed.joined(separator: ", ") + ", and both databases have not compared equal since: lindero verify --repair, then lindero verify"
    }

    private static func judge(_ report: LagReport?, _ back: String, _ pair: PhasePair) -> RollbackSafety {
        guard let report else { return RollbackSafety(isSafe: false, because: "there is no direction \(back)") }
        switch report.state {
        case .stopped, .paused:
            return RollbackSafety(isSafe: false, because: "\(back) is \(report.state.rawValue): \(report.problem ?? "see lindero status")")
        case .notStarted, .copying:
            return RollbackSafety(isSafe: false, because: "\(back) has not begun")
        case .notRunning, .reconnecting, .catchingUp, .streaming:
            guard let bytes = report.lagBytes else {
                return RollbackSafety(isSafe: false, because: "how far \(back) is behind is not known\(report.problem.map { ": \($0)" } ?? "")")
            }
            let waits = report.state == .notRunning ? ", once a worker runs" : ""
            return RollbackSafety(
                isSafe: true, because: "every change of \(pair.other.name) is in the log that \(back) reads, \(PlainText.bytes(bytes)) of it still to come\(waits)")
        }
    }
}

extension WorkerMode {
    /// Whether both carry two databases both ways.
    func isSameLife(as other: WorkerMode) -> Bool { backend == other.backend }
}
