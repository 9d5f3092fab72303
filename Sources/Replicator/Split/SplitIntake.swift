import Logging
import PostgresClient
import ReplicationCore

/// Takes what a side's stream brings and reads it into the ledger, once the side shows it.
///
/// Until then rows would be looked for there in vain which others have seen: by an answer to the question whose a number is, and by
/// what comes back of the other side's work on them.
struct SplitIntake: Sendable {
    /// Before it is told that a side hides what it has sent.
    private static let patientMilliseconds: Int64 = 5_000

    let side: Side
    let settings: DirectionSettings
    let connection: PostgresConnection
    let mailbox: StreamMailbox
    let ledger: SplitLedger
    let layouts: SplitLayouts
    let states: SidePair<DirectionState>
    let worker: String
    let logger: Logger

    /// Runs until the mailbox is closed.
    func run() async throws {
        var layouts = layouts
        var sent = SentCommits(connection: connection)
        // One chunk at a time: whether the next may be read depends on what came of this one.
        while let chunks = await mailbox.take(GroupLimits(bytes: 0)) {
            try await settle(chunks, &sent)
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

    private func settle(_ chunks: [ChangeChunk], _ sent: inout SentCommits) async throws {
        let pause = DirectionPause(settings: settings, logger: logger)
        var isTold = false
        try await sent.settle(chunks) { milliseconds in
            // An applier may hold rows until this has been read: who is to stop does not wait for it.
            if milliseconds > 1_000 { try ledger.requireRunning() }
            guard milliseconds > Self.patientMilliseconds, !isTold else { return }
            isTold = true
            await pause.begin(states[side], because: try await problem())
        }
        if isTold { await pause.end(states[side]) }
    }

    private func problem() async throws -> String {
        let source = settings.sourceName
        let sees = "Between two databases of a split only travels what its side shows"
        let isStandby = try await connection.query(
            """
            SELECT 1 FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
            WHERE s.slot_name = $1 AND r.sync_state IN ('sync', 'quorum')
            """, [.text(settings.slot)]
        ).rowCount > 0
        if isStandby {
            return "Commits on \(source) wait for Lindero itself as a synchronous standby. \(sees), so it waits for them, too. Let "
                + "synchronous_standby_names of \(source) name the standbys that are meant, without * and Lindero's streams, then "
                + "run SELECT pg_reload_conf(); there; \(settings.name) goes on by itself."
        }
        return "Commits on \(source) do not show although it has sent them: they wait for a synchronous standby. \(sees). Nothing is "
            + "lost; as soon as the standby answers, or synchronous_standby_names of \(source) is without it, \(settings.name) goes on by itself."
    }
}
