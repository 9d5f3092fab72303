import PostgresClient
import ReplicationCore

/// Recognises a target that was a physical standby of the source until it was promoted, and where it stopped following.
///
/// It holds everything before that place and nothing after, so that is where a direction into it begins, wherever its slot
/// was made before: a transaction between both would be applied to rows that have it already.
struct PromotedTarget {
    let settings: DirectionSettings
    let source: PostgresConnection
    let target: PostgresConnection

    /// - Returns: where the direction begins; `nil` when the target is no copy of the source's own cluster.
    /// - Throws: `ReplicationFailure` when the slot begins later, or the target has what the source lost; `PostgresError`.
    func start(slotLSN: LSN) async throws -> LSN? {
        let facts = [try await facts(source), try await facts(target)]
        guard facts[0].cluster == facts[1].cluster, facts[0].server != facts[1].server else { return nil }
        let ours = try await history(settings.source)
        let theirs = try await history(settings.target)
        switch ours.history.parting(current: ours.timeline, of: theirs.history, serverCurrent: theirs.timeline) {
        case .none: return nil
        case .left(let lsn):
            guard slotLSN <= lsn else { throw slotTooLate(slotLSN, left: lsn) }
            try await requireNothingPrepared()
            return lsn
        case .beyond(let lsn):
            throw ReplicationFailure(
                .targetAhead,
                "\(settings.targetName) is a copy of \(settings.sourceName)'s cluster that went on past \(lsn), where \(settings.sourceName) "
                    + "itself was failed over or restored: it may have changes that \(settings.sourceName) lost.",
                nextStep: "Point \(settings.sourceName) at the server that has them, or make the copy anew.", isBlocker: true)
        }
    }

    /// What was prepared when the standby was promoted is prepared on it, too, with its locks; the source decides about its own
    /// alone, and sends it when it commits.
    private func requireNothingPrepared() async throws {
        let left = try await target.query(
            "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() ORDER BY prepared"
        ).rows.compactMap { $0[0] }
        guard !left.isEmpty else { return }
        throw ReplicationFailure(
            .preparedLeft,
            "\(settings.targetName) has transactions that were prepared on \(settings.sourceName) when it was promoted, which nobody will end there.",
            nextStep: "Run on \(settings.targetName): \(left.map { "ROLLBACK PREPARED \(SQLText.literal($0));" }.joined(separator: " ")) "
                + "Then `lindero run`: they come again when they commit.", isBlocker: true)
    }

    private func slotTooLate(_ slotLSN: LSN, left lsn: LSN) -> ReplicationFailure {
        ReplicationFailure(
            .slotLate,
            "\(settings.targetName) was a standby of \(settings.sourceName) and stopped following it at \(lsn), but replication slot "
                + "\(settings.slot) begins at \(slotLSN): the changes between would be missing.",
            nextStep: "Make the slot while the standby still follows, wait until it has replayed past the slot's start, and promote it "
                + "then (Sources/Documentation.docc/PhysicalStandby.md). This copy can't be used: make the standby anew.", isBlocker: true)
    }

    private func facts(_ connection: PostgresConnection) async throws -> (cluster: String?, server: String?) {
        let row = try await connection.query(
            "SELECT system_identifier::text, pg_catalog.pg_postmaster_start_time()::text FROM pg_catalog.pg_control_system()"
        ).rows.first
        return (row?[0], row?[1])
    }

    private func history(_ options: ConnectionOptions) async throws -> (history: TimelineHistory, timeline: Int) {
        try await ReplicationConnection.with(options) { stream in
            let timeline = try await stream.identifySystem().timeline
            return (try await stream.timelineHistory(timeline), timeline)
        }
    }
}

extension ReplicationConnection {
    /// Where the server left the timelines before this one; the first has no history.
    func timelineHistory(_ timeline: Int) async throws -> TimelineHistory {
        guard timeline > 1, let row = try await execute("TIMELINE_HISTORY \(timeline)").rows.first else { return TimelineHistory() }
        return TimelineHistory(text: row[1] ?? "")
    }
}
