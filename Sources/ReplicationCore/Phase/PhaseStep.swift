/// The stations of a move, in their order; every one holds some work.
public enum PhaseStep: String, Sendable, CaseIterable {
    case planned, preflight, prepared, copying
    case catchingUp = "catching_up"
    case verified
    case cuttingOver = "cutting_over"
    case observing, settled
}

/// One piece of work in a move. Each can be killed anywhere and done again.
public enum PhaseWork: String, Sendable, CaseIterable {
    /// Notes the move, so that everybody sees it.
    case plan
    /// Everything that `lindero check` calls a blocker of the phase to come.
    case preflight
    /// The schema `lindero` in each database.
    case migrate
    /// Empties what Lindero itself copied before a way back.
    case emptyCopies = "empty_copies"
    /// The worker runs what the record says, and nothing else.
    case worker
    /// Waits until every table is copied.
    case copied
    /// Waits until lag and retained WAL are within their limits.
    case gates
    /// Compares both databases, unless that was done within `verify_age`.
    case verify
    /// Old rows of every table in the log, which writers on both sides need.
    case widenIdentity = "widen_identity"
    /// Puts that back.
    case restoreIdentity = "restore_identity"
    /// Waits until both directions stream.
    case bothStream = "both_stream"
    /// Brings columns home that never leave their owner's database.
    case privateHome = "private_home"
    /// Moves the writers, one service after the other.
    case moveServices = "move_services"
    /// Waits until both databases have all that was written before.
    case drain
    /// The limits hold for as long as `gates.observe` says.
    case observe
    /// Takes the way back of a split down; the replica goes on from where it stands.
    case endSplit = "end_split"
    /// Takes the replica's slot, publication and record down; its rows stay.
    case endReplica = "end_replica"
    /// Takes down on the origin what a split with a database needs that is lost.
    case giveUp = "give_up"
    /// The new phase holds.
    case settle
}

/// A piece of work in its station, and what the worker runs from its beginning on.
public struct PlannedWork: Sendable, Equatable {
    public let step: PhaseStep
    public let work: PhaseWork
    public let worker: WorkerMode

    public init(_ step: PhaseStep, _ work: PhaseWork, _ worker: WorkerMode) {
        self.step = step
        self.work = work
        self.worker = worker
    }
}
