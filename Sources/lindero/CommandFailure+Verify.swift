import ReplicationCore
import Replicator

extension CommandFailure {
    init(verify error: VerifyError, place: String?) {
        switch error {
        case .notMigrated(let database):
            self.init(
                "verify", "The schema lindero of \(database) is not up to date.", place: place,
                nextStep: "Run `lindero migrate`, then the same command again.", exit: .blocked)
        case .notPrepared(let direction, let database):
            self.init(
                "verify", "\(direction) has not brought \(database) to where it can be compared: its initial copy is not done.",
                place: place, nextStep: "Run `lindero run`, and `lindero lag --watch` until it says streaming.", exit: .blocked)
        case .notCaughtUp(let direction, let lsn, let shown):
            self.init(
                "verify",
                "\(direction) does not get to \(lsn), so rows that differ cannot be told from changes on their way; it stands at "
                    + "\(shown?.description ?? "an unknown position"). What is compared so far is kept.",
                place: place, nextStep: "Run `lindero lag` to see why; with `lindero run` at work, run the same command again.")
        case .alreadyRunning(let direction):
            self.init(
                "verify", "Another comparison of \(direction) is at work.", place: place,
                nextStep: "Wait for it, or end it; then run the same command again.", exit: .blocked)
        case .hashesDiffer:
            self.init(
                "verify", "The two servers hash the same text differently: they run on machines of another kind.", place: place,
                nextStep: "Compare by another way, such as dumps of both.", exit: .blocked)
        case .notReplicated(let table):
            self.init(
                "verify", "Table \(table) is not replicated.", place: place,
                nextStep: "Name a table that lindero.yaml covers; `lindero verify` compares all of them.", exit: .blocked)
        }
    }
}
