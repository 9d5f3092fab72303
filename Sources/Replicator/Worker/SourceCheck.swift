import PostgresClient
import ReplicationCore

/// Looks at the source before a stream starts: is this still the slot, the server and the history we know?
public struct SourceCheck: Sendable {
    let settings: DirectionSettings
    let connection: PostgresConnection

    public init(settings: DirectionSettings, connection: PostgresConnection) {
        self.settings = settings
        self.connection = connection
    }

    /// - Throws: `ReplicationFailure` when the server writes too little WAL for logical decoding.
    public func requireLogicalWAL() async throws {
        let level = try await connection.query("SHOW wal_level").firstValue ?? ""
        guard level != "logical" else { return }
        throw ReplicationFailure(
            .walLevel,
            "\(settings.sourceName) has wal_level = \(level); the change feed, its slot and stream lag need logical.",
            nextStep: "Run `ALTER SYSTEM SET wal_level = logical;` and restart PostgreSQL. Ownership, upserts and audit "
                + "work meanwhile.", isBlocker: true)
    }

    struct Slot {
        var confirmedLSN: LSN
        var isActive: Bool
        /// Whether it sends transactions when they are prepared.
        var isTwoPhase: Bool
    }

    /// How often a slot that is being made is looked at again.
    private static let makingMilliseconds = 100

    /// Returns once nobody is making the slot any more: that waits for each transaction that runs at the source, even when
    /// the worker that asked for it is gone. Until then the slot is there and has no position, which is not one that was lost.
    func waitUntilMade() async throws {
        while try await connection.query(
            """
            SELECT 1 FROM pg_catalog.pg_replication_slots
            WHERE slot_name = $1 AND active AND confirmed_flush_lsn IS NULL AND wal_status IS DISTINCT FROM 'lost'
            """, [.text(settings.slot)]).rowCount > 0
        {
            try await Task.sleep(for: .milliseconds(Self.makingMilliseconds))
        }
    }

    /// The slot as the source knows it; one that is being made is waited for.
    ///
    /// - Parameter allowsTwoPhase: whether it may send transactions when they are prepared.
    /// - Throws: `ReplicationFailure` when it is missing, invalidated, of another plugin or another database.
    func slot(allowsTwoPhase: Bool = false) async throws -> Slot {
        try await waitUntilMade()
        let result = try await connection.query(
            """
            SELECT plugin, database, active::text, confirmed_flush_lsn::text, wal_status, current_database(), two_phase::text
            FROM pg_catalog.pg_replication_slots WHERE slot_name = $1
            """, [.text(settings.slot)])
        let place = "on \(settings.sourceName)"
        guard let row = result.rows.first else {
            throw ReplicationFailure(
                .slotMissing,
                "Replication slot \(settings.slot) does not exist \(place). It may have been dropped, and changes may be gone.",
                nextStep: settings.afterGap, isBlocker: true)
        }
        guard row[0] == "pgoutput", row[1] == row[5] else {
            throw ReplicationFailure(
                .slotExists,
                "Replication slot \(settings.slot) \(place) is for plugin \(row[0] ?? "none") in database \(row[1] ?? "none").",
                nextStep: "Name a pgoutput slot of database \(row[5] ?? "") under `replication.slot`.", isBlocker: true)
        }
        guard row[4] != "lost", let confirmed = row[3].flatMap({ LSN($0) }) else {
            throw ReplicationFailure(
                .slotInvalidated,
                "Replication slot \(settings.slot) \(place) was invalidated: WAL that it needed is gone.",
                nextStep: settings.afterGap + " Raise max_slot_wal_keep_size on \(settings.sourceName) first.", isBlocker: true)
        }
        guard allowsTwoPhase || row[6] != "true" else {
            throw ReplicationFailure(
                .slotTwoPhase,
                "Replication slot \(settings.slot) \(place) sends transactions when they are prepared (two_phase), which only "
                    + "`backend: replica` takes.",
                nextStep: "On PostgreSQL 18, once no transaction is prepared: ALTER_REPLICATION_SLOT \(settings.slot) (TWO_PHASE "
                    + "false). Before, drop the slot and start over.", isBlocker: true)
        }
        return Slot(confirmedLSN: confirmed, isActive: row[2] == "true", isTwoPhase: row[6] == "true")
    }

    /// Refuses a slot that starts later than what the target has: changes in between would be missing.
    func verify(slot: Slot, appliedLSN: LSN) async throws {
        if let failure = gap(from: appliedLSN, to: slot.confirmedLSN) { throw failure }
        try await requireReached(appliedLSN)
    }

    /// What to say of changes that the slot does not have any more; `nil` where it has all.
    func gap(from appliedLSN: LSN, to confirmedLSN: LSN) -> ReplicationFailure? {
        guard confirmedLSN > appliedLSN else { return nil }
        return ReplicationFailure(
            .slotRecreated,
            "Replication slot \(settings.slot) on \(settings.sourceName) starts at \(confirmedLSN), but the target has "
                + "changes up to \(appliedLSN) only. The slot was recreated or advanced by someone else, or \(settings.targetName) is an older copy "
                + "of itself.",
            nextStep: settings.afterGap, isBlocker: true)
    }

    /// Refuses a server that has not, or no longer, what was read of it: another cluster, or one that went back.
    func requireHistory(_ known: DirectionRecord.Row, upTo appliedLSN: LSN) async throws {
        try requireSame(try await systemIdentifier(), known: known.systemIdentifier)
        try requireNotAhead(known)
        try await requireReached(appliedLSN)
    }

    /// Refuses a server that has not come as far as what was read of it.
    func requireReached(_ appliedLSN: LSN) async throws {
        // A standby may be on its way there, and be promoted between two questions.
        let isBehind = try await connection.query("SELECT pg_catalog.pg_is_in_recovery()::text").firstValue == "true"
        let current = try await currentLSN()
        guard appliedLSN > current else { return }
        throw ReplicationFailure(
            isBehind ? .sourceBehind : .targetAhead,
            "The target has changes up to \(appliedLSN), but \(settings.sourceName) has only reached \(current). "
                + (isBehind ? "It is a standby that has not got as far yet." : "The source is an older copy or a failed-over standby."),
            nextStep: isBehind ? "Wait until it has, then `lindero run`." : stepWhenAhead, isBlocker: true)
    }

    /// Refuses a server that lacked what the target has when it was last looked at: it may have written as much since.
    func requireNotAhead(_ known: DirectionRecord.Row) throws {
        guard let since = known.aheadAt else { return }
        throw ReplicationFailure(
            .targetAhead,
            "\(settings.targetName) has changes that \(settings.sourceName) lacked at \(since): it was an older copy or a failed-over standby, "
                + "and what it has written since makes no difference to that.",
            nextStep: stepWhenAhead, isBlocker: true)
    }

    private var stepWhenAhead: String {
        "Point \(settings.sourceName) at the server that has the newer history, and say so on \(settings.targetName): UPDATE lindero.direction SET ahead_at = NULL "
            + "WHERE name = \(SQLText.literal(settings.name)); then `lindero run`. If no server has it any more: \(settings.withOtherSource)"
    }

    /// Refuses a server whose history lacks what the target has: its positions may look right and mean other changes.
    ///
    /// - Parameter known: the timeline that the target's changes came from; `nil` when nobody noted it.
    /// - Returns: the server's timeline.
    func verifyTimeline(_ stream: ReplicationConnection, known: Int?, appliedLSN: LSN) async throws -> Int {
        let current = try await stream.identifySystem().timeline
        guard let known, known != current else { return current }
        let history = try await stream.timelineHistory(current)
        let why: String
        switch history.verdict(known: known, current: current, appliedLSN: appliedLSN) {
        case .same, .continued: return current
        case .beyondSwitch(let lsn):
            why = "which left timeline \(known) at \(lsn), and the target has changes up to \(appliedLSN)"
        case .unrelated: why = "which never followed timeline \(known), where the target's changes are from"
        }
        throw ReplicationFailure(
            .targetAhead,
            "\(settings.sourceName) is on timeline \(current), \(why): it was failed over or restored without the last of them.",
            nextStep: "Point \(settings.sourceName) at the server that has them. If this is the source from now on: "
                + settings.withOtherSource, isBlocker: true)
    }

    /// Whether the publication exists; one dropped mid-stream is a failure with its own advice.
    func verifyPublication() async throws {
        let found = try await connection.query(
            "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = $1", [.text(settings.publication)])
        guard found.rowCount == 0 else { return }
        throw ReplicationFailure(
            .publicationMissing,
            "Publication \(settings.publication) does not exist on \(settings.sourceName).",
            nextStep: "Create it again with the same tables. Changes made without it cannot be decoded: if there were any, "
                + "start over. " + settings.afterGap, isBlocker: true)
    }

    /// Refuses another cluster under the same address.
    func requireSame(_ systemIdentifier: String, known: String) throws {
        guard known != systemIdentifier else { return }
        throw ReplicationFailure(
            .otherSource,
            "\(settings.sourceName) is another PostgreSQL cluster (system identifier \(systemIdentifier)) than the one "
                + "that \(settings.targetName) was filled from (\(known)).",
            nextStep: "Correct the address of \(settings.sourceName), then `lindero run`. If it is the source from now on: "
                + settings.withOtherSource, isBlocker: true)
    }

    func systemIdentifier() async throws -> String {
        try await connection.query("SELECT system_identifier::text FROM pg_catalog.pg_control_system()").rows.first?[0] ?? ""
    }

    public func currentLSN() async throws -> LSN {
        let result = try await connection.query(
            """
            SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                    ELSE pg_catalog.pg_current_wal_lsn() END)::text
            """)
        return result.rows.first?[0].flatMap { LSN($0) } ?? .zero
    }

    public func senderTimeoutMilliseconds() async throws -> Int {
        let result = try await connection.query(
            "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'")
        return result.rows.first?[0].flatMap { Int($0) } ?? 60_000
    }
}
