import ReplicationCore

/// What a person reads of a piece of work, before it is done and while it is.
struct PhaseWords: Sendable {
    let origin: String
    let other: String
    let gates: Gates
    let move: PhaseMove

    func words(_ work: PlannedWork) -> String {
        switch work.work {
        case .plan: "note the move in lindero.phase on \(origin)"
        case .preflight:
            move.givesUp ? "check once more that \(other) is lost" : move.isForward ? "check: no blocker for \(move.to.rawValue) on either side" : "check that nothing would be lost"
        case .migrate: "bring the schema lindero up to date on \(origin) and \(other)"
        case .emptyCopies: "empty what Lindero copied to \(other) before, if anything is left there"
        case .worker: worker(work.worker)
        case .copied: "wait until every table is copied to \(other), with its keys and indexes"
        case .gates: "gate: \(limits)"
        case .verify: "gate: both databases compared equal, at most \(PlainText.seconds(Double(gates.verifyAgeSeconds))) ago; else compare them now"
        case .widenIdentity: "set REPLICA IDENTITY FULL on tables that lack it, on both sides"
        case .restoreIdentity: "give tables the replica identity back that they had, where nothing needs the old row"
        case .bothStream: "wait until both directions stream"
        case .privateHome: "bring private columns of \(other) home to \(origin)"
        case .moveServices: move.isForward ? "move the services' writers: \(other) to its own database" : "move the services' writers back to \(origin)"
        case .drain: "wait until both databases have all that was written before"
        case .observe: "gate: the limits hold for \(PlainText.seconds(Double(gates.observeSeconds)))"
        case .endSplit: "take down the way back: slot, publication, origin; sequences ahead on \(origin)"
        case .endReplica: "drop the slot and the publication on \(origin), and what \(other) remembers; the rows on \(other) stay"
        case .giveUp:
            "take down on \(origin) what the split needs: slot, publication, origin; its sequences and replica identities as they were"
        case .settle: "the phase is \(move.to.rawValue)"
        }
    }

    private var limits: String {
        "lag within \(PlainText.seconds(Double(gates.maxLagMilliseconds) / 1_000)) and \(PlainText.bytes(gates.maxLagBytes)), "
            + "retained WAL within \(PlainText.bytes(gates.maxRetainedWALBytes))"
    }

    private func worker(_ mode: WorkerMode) -> String {
        switch mode {
        case .shared: "the worker follows \(origin) alone"
        case .replica: "the worker carries \(origin) to \(other)"
        case .towardsSplit: "the worker carries both ways; sequences are shared out; either service may write to either side"
        case .towardsOrigin: "the worker carries every column home; either service may write to either side"
        case .split: "the worker carries each side's own and shared columns"
        case .nothing: "the worker stands still"
        }
    }
}
