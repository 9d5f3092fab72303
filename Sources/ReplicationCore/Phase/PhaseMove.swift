/// A way from one phase to its neighbour, forward or back.
public struct PhaseMove: Sendable, Equatable {
    public let from: Phase
    public let to: Phase
    /// What the worker ran when the move began: a move that turns round before its end finds other things than one
    /// that begins at rest.
    public let startMode: WorkerMode

    public init(from: Phase, to: Phase, startMode: WorkerMode) {
        self.from = from
        self.to = to
        self.startMode = startMode
    }

    public var isForward: Bool { from < to }

    /// Whether one of two databases is lost for good, and the other goes on alone. No way leads back from there.
    public var givesUp: Bool { from == .split && to == .shared }

    /// The whole way, in order. The same move always has the same works: a record is taken up by its number.
    public var works: [PlannedWork] {
        switch (from, to) {
        case (.shared, .replica): beginReplica
        case (.replica, .split): beginSplit
        case (.split, .replica): endSplit
        case (.replica, .shared): endReplica
        case (.split, .shared): giveUp
        default: []
        }
    }

    private var beginReplica: [PlannedWork] {
        [
            .init(.planned, .plan, startMode), .init(.preflight, .preflight, startMode),
            .init(.prepared, .migrate, startMode),
        ]
            // A way back that was not finished left the replica as it is.
            + (startMode == .replica ? [] : [.init(.prepared, .emptyCopies, startMode)])
            + [
                .init(.copying, .worker, .replica), .init(.copying, .copied, .replica),
                .init(.catchingUp, .gates, .replica), .init(.verified, .verify, .replica),
                .init(.observing, .observe, .replica), .init(.settled, .settle, .replica),
            ]
    }

    private var beginSplit: [PlannedWork] {
        var works = [PlannedWork(.planned, .plan, startMode)]
        // A way back that was killed between taking the split down and going on as a replica.
        if startMode == .nothing {
            works += [.init(.prepared, .endSplit, .nothing), .init(.prepared, .worker, .replica)]
        }
        let before = startMode == .nothing ? WorkerMode.replica : startMode
        return works + [
            .init(.preflight, .preflight, before), .init(.catchingUp, .gates, before), .init(.verified, .verify, before),
            .init(.prepared, .widenIdentity, before), .init(.prepared, .worker, .towardsSplit),
            .init(.prepared, .bothStream, .towardsSplit), .init(.catchingUp, .gates, .towardsSplit),
            .init(.cuttingOver, .moveServices, .towardsSplit), .init(.cuttingOver, .drain, .towardsSplit),
            .init(.cuttingOver, .worker, .split), .init(.observing, .observe, .split),
            .init(.settled, .restoreIdentity, .split), .init(.settled, .settle, .split),
        ]
    }

    private var endSplit: [PlannedWork] {
        let plan = PlannedWork(.planned, .plan, startMode)
        let rest: [PlannedWork] = [
            .init(.cuttingOver, .endSplit, .nothing), .init(.cuttingOver, .worker, .replica),
            .init(.catchingUp, .gates, .replica), .init(.observing, .observe, .replica),
            .init(.settled, .restoreIdentity, .replica), .init(.settled, .settle, .replica),
        ]
        switch startMode {
        // The split never began.
        case .shared, .replica: return [plan, .init(.settled, .restoreIdentity, .replica), .init(.settled, .settle, .replica)]
        case .nothing: return [plan] + rest
        case .split, .towardsSplit, .towardsOrigin:
            return [
                plan, .init(.preflight, .preflight, startMode), .init(.prepared, .widenIdentity, startMode),
                .init(.prepared, .worker, .towardsOrigin), .init(.prepared, .bothStream, .towardsOrigin),
                .init(.catchingUp, .gates, .towardsOrigin), .init(.prepared, .privateHome, .towardsOrigin),
                .init(.cuttingOver, .moveServices, .towardsOrigin), .init(.cuttingOver, .drain, .towardsOrigin),
                .init(.cuttingOver, .worker, .nothing),
            ] + rest
        }
    }

    private var endReplica: [PlannedWork] {
        [
            .init(.planned, .plan, startMode), .init(.cuttingOver, .worker, .shared),
            .init(.cuttingOver, .endReplica, .shared), .init(.settled, .settle, .shared),
        ]
    }

    /// Nothing of it asks the database that is lost.
    private var giveUp: [PlannedWork] {
        [
            .init(.planned, .plan, startMode), .init(.cuttingOver, .worker, .shared), .init(.cuttingOver, .preflight, .shared),
            .init(.cuttingOver, .giveUp, .shared), .init(.settled, .settle, .shared),
        ]
    }
}
