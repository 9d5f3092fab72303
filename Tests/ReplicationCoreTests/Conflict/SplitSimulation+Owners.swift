@testable import ReplicationCore

/// Owners of columns on their way from one side to the other.
struct OwnerMoves {
    enum Stage {
        /// Each side writes its own.
        case settled
        /// Both sides may write everything.
        case open
        /// Each side writes its own again, and what came before is on its way.
        case closing
    }

    var stage = Stage.settled
    /// Columns that each side's clients write, beside the key.
    var writable = (0..<2).map(OwnerMoves.settled)
    /// Ends of both logs when the last owner had moved.
    var markers = [LSN.zero, .zero]

    var isInTransition: Bool { stage != .settled }

    static let shared = Array(SimulatedRow.firstShared..<SimulatedRow.width)
    static func settled(_ side: Int) -> [Int] { [SimulatedRow.owned(by: side)] + shared }
}

extension SplitSimulation {
    /// Goes on, or not yet.
    mutating func stepOwners() throws {
        switch moves.stage {
        case .settled:
            if random.chance(50) { try widen() }
        case .open:
            // On one side, on both, on the other.
            if random.chance(70) { return place() }
            for side in 0..<2 {
                commitWriter(side)
                moves.writable[side] = OwnerMoves.settled(side)
                moves.markers[side] = databases[side].endLSN
            }
            moves.stage = .closing
            note("the owners have moved")
        case .closing:
            let isDrained = (0..<2).allSatisfy { side in
                databases[1 - side].incoming.appliedLSN >= moves.markers[side]
                    && databases[side].incoming.context.lsn >= moves.markers[side]
            }
            guard isDrained || options.faults.narrowsEarly else { return }
            moves.stage = .settled
            try follow()
        }
    }

    mutating func widen() throws {
        moves.stage = .open
        try follow()
        place()
    }

    private mutating func place() {
        for side in 0..<2 {
            commitWriter(side)
            var columns = OwnerMoves.shared
            for column in 1...2 where random.chance(60) { columns.append(column) }
            moves.writable[side] = columns
        }
        let writable = moves.writable
        note("side 0 writes \(writable[0]), side 1 \(writable[1])")
    }

    /// Another life of the worker, under the ownership and the policies as they are now.
    mutating func follow() throws {
        layouts =
            options.hasPolicies
            ? try SimulatedRow.layouts(echoesInserts: echoesInserts, isInTransition: moves.isInTransition, policies: policies)
            : try SimulatedRow.layouts(echoesInserts: echoesInserts, isInTransition: moves.isInTransition)
        truth.isInTransition = moves.isInTransition
        try crash()
    }
}
