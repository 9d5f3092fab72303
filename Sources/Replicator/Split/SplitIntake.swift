import Logging
import PostgresClient
import ReplicationCore

/// Takes what a side's stream brings and reads it into the ledger, once the side shows it.
///
/// Until then rows would be looked for there in vain which others have seen: by an answer to the question whose a number is, and by
/// what comes back of the other side's work on them.
struct SplitIntake: Sendable {
    /// Before it is told that a side hides what it has sent, and before that keeps nobody from stopping.
    private static let patientMilliseconds: Int64 = 5_000
    private static let stoppingMilliseconds: Int64 = 1_000

    let side: Side
    let settings: DirectionSettings
    /// On the side, one that never waits for anybody's locks: an applier may hold what those wait for, until this has been read.
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
        let notice = DirectionNotice(settings: settings, logger: logger)
        var isTold = false
        do {
            try await sent.settle(chunks) { milliseconds in
                // An applier may hold rows until this has been read: who is to stop does not wait for it.
                if milliseconds > Self.stoppingMilliseconds { try ledger.requireRunning() }
                guard milliseconds > Self.patientMilliseconds, !isTold else { return }
                isTold = true
                await notice.begin(states[side], as: .catchingUp, because: try await problem())
            }
        } catch {
            // Nobody waits any more, and that is to be said although this task may be cancelled.
            if isTold { await Task { [states, side] in await notice.end(states[side]) }.value }
            throw error
        }
        if isTold { await notice.end(states[side]) }
    }

    private func problem() async throws -> String {
        let source = settings.sourceName
        let row = try await connection.query(
            "SELECT pg_catalog.current_setting('synchronous_standby_names'), pg_catalog.current_setting('application_name')"
        ).rows.first
        let why = "Commits on \(source) do not show yet although they have been sent. Between the databases of a split only travels what its side shows"
        if StandbyNames(row?[0] ?? "").mean(row?[1] ?? "") {
            return "\(why), and synchronous_standby_names of \(source) means Lindero's own stream, too: each waits for the other. Let it name "
                + "only standbys, without *, then run SELECT pg_reload_conf(); there. \(settings.name) goes on by itself."
        }
        return "\(why). They wait for a synchronous standby: as soon as that answers, or synchronous_standby_names of \(source) is without "
            + "it, \(settings.name) goes on by itself. Nothing is lost."
    }
}
