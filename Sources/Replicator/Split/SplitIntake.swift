import ReplicationCore

/// Takes what a side's stream brings and reads it into the ledger.
struct SplitIntake: Sendable {
    let side: Side
    let mailbox: StreamMailbox
    let ledger: SplitLedger
    let layouts: SplitLayouts
    let states: SidePair<DirectionState>
    let worker: String

    /// Runs until the mailbox is closed.
    func run() async throws {
        var layouts = layouts
        // One chunk at a time: whether the next may be read depends on what came of this one.
        while let chunks = await mailbox.take(GroupLimits(bytes: 0)) {
            for chunk in chunks {
                try await ledger.waitUntilReadable(side)
                let sign: SplitSign? =
                    switch chunk.heartbeat {
                    case let beat? where beat.worker == worker: .beat(beat)
                    case let beat? where beat.isMarker: .marker
                    case nil, .some: nil
                    }
                try await ledger.read(SplitChunk(chunk, tables: try layouts.tables(of: chunk)), of: side, sign: sign)
                for side in Side.allCases {
                    let positions = ledger.positions(from: side)
                    states[side].note(applied: positions.applied, durable: positions.confirmable)
                }
            }
            try Task.checkCancellation()
        }
    }
}
