import PostgresClient
import ReplicationCore
import Replicator

/// What the source says about itself and a slot.
struct SourceFacts: Sendable {
    var walLevel = ""
    var currentLSN: LSN?
    var hasSlot = false
    var isActive = false
    var confirmedLSN: LSN?
    var receivedLSN: LSN?
    var retainedWALBytes: Int64?
    var safeWALBytes: Int64?
    var walStatus: String?
    /// Time since the worker last reported.
    var replyAgeMilliseconds: Double?
    /// Time since the sign of life that the target has seen was written, by this server's clock.
    var heartbeatAgeMilliseconds: Double?
    /// What keeps the slot from being made; `nil` unless it is.
    var slotWaitsFor: [String]?

    static func read(_ connection: PostgresConnection, slot: String?, sentAt: String?) async throws -> SourceFacts {
        let result = try await connection.query(
            """
            SELECT pg_catalog.current_setting('wal_level') AS wal_level, here.lsn::text AS current,
                   slot.slot_name, slot.active::text, slot.confirmed_flush_lsn::text AS confirmed,
                   sender.write_lsn::text AS received,
                   pg_catalog.pg_wal_lsn_diff(here.lsn, slot.restart_lsn)::bigint::text AS retained,
                   slot.safe_wal_size::text AS safe, slot.wal_status,
                   (extract(epoch FROM pg_catalog.clock_timestamp() - sender.reply_time) * 1000)::float8::text AS reply_age,
                   (extract(epoch FROM pg_catalog.clock_timestamp() - $2::timestamptz) * 1000)::float8::text AS heartbeat_age
            FROM (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                              ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) here
                 LEFT JOIN pg_catalog.pg_replication_slots slot ON slot.slot_name = $1::name
                 LEFT JOIN pg_catalog.pg_stat_replication sender ON sender.pid = slot.active_pid
            """, [slot.map { .text($0) } ?? .null, sentAt.map { .text($0) } ?? .null])
        var facts = SourceFacts()
        guard let row = result.rows.first else { return facts }
        facts.walLevel = row["wal_level"] ?? ""
        facts.currentLSN = row["current"].flatMap { LSN($0) }
        facts.hasSlot = row["slot_name"] != nil
        facts.isActive = row["active"] == "true"
        facts.confirmedLSN = row["confirmed"].flatMap { LSN($0) }
        facts.receivedLSN = row["received"].flatMap { LSN($0) }
        facts.retainedWALBytes = row["retained"].flatMap { Int64($0) }
        facts.safeWALBytes = row["safe"].flatMap { Int64($0) }
        facts.walStatus = row["wal_status"]
        facts.replyAgeMilliseconds = row["reply_age"].flatMap { Double($0) }
        facts.heartbeatAgeMilliseconds = row["heartbeat_age"].flatMap { Double($0) }
        if facts.hasSlot && facts.isActive && facts.confirmedLSN == nil && facts.walStatus != "lost" {
            facts.slotWaitsFor = try await OpenTransactions.oldest(connection)
        }
        return facts
    }
}

/// What a replica says about a direction.
struct TargetFacts: Sendable {
    /// Whether the direction has been here.
    var isRegistered = false
    var isPrepared = false
    var state: String?
    var problem: String?
    var appliedLSN: LSN?
    /// When the last heartbeat that is visible here was written, by the source's clock.
    var heartbeatSentAt: String?
    var endToEnd = EndToEndLatency()
    var rowsPerSecond: Double?
    /// While the first copy is not complete.
    var copied: CopiedSoFar?
    var publication = ""

    static func read(_ connection: PostgresConnection, direction: String) async throws -> TargetFacts {
        var facts = TargetFacts()
        guard try await connection.hasLindero("direction") else { return facts }
        let result = try await connection.query(
            """
            SELECT d.state, d.problem, d.publication, d.start_lsn::text AS start, to_jsonb(d) ->> 'applied_lsn' AS applied, d.prepared_at::text AS prepared,
                   h.sent_at::text AS sent, h.source_lsn::text AS seen,
                   h.p50_ms::text AS p50, h.p95_ms::text AS p95, h.p99_ms::text AS p99, h.rows_per_second::text AS rate
            FROM lindero.direction d LEFT JOIN lindero.heartbeat h ON h.direction = d.name WHERE d.name = $1
            """, [.text(direction)])
        guard let row = result.rows.first else { return facts }
        facts.isRegistered = true
        facts.isPrepared = row["prepared"] != nil
        facts.state = row["state"]
        facts.problem = row["problem"]
        facts.publication = row["publication"] ?? ""
        if !facts.isPrepared { facts.copied = try await CopiedSoFar.read(connection, direction: direction) }
        facts.heartbeatSentAt = row["sent"]
        facts.endToEnd.p50Milliseconds = row["p50"].flatMap { Double($0) }
        facts.endToEnd.p95Milliseconds = row["p95"].flatMap { Double($0) }
        facts.endToEnd.p99Milliseconds = row["p99"].flatMap { Double($0) }
        facts.rowsPerSecond = row["rate"].flatMap { Double($0) }
        let applied = row["applied"].flatMap { LSN($0) }
        if let applied, let start = row["start"].flatMap({ LSN($0) }) {
            facts.appliedLSN = max(applied, start)
            return facts
        }
        // Written by a worker that knew the origin alone.
        let lsns = [row["start"], row["seen"], try await progress(connection, direction: direction)]
        facts.appliedLSN = lsns.compactMap { $0.flatMap { LSN($0) } }.max()
        return facts
    }

    /// The replication origin's position; `nil` where the role may not read it.
    private static func progress(_ connection: PostgresConnection, direction: String) async throws -> String? {
        do {
            let result = try await connection.query(
                """
                SELECT o.remote_lsn::text FROM pg_catalog.pg_replication_origin_status o, pg_catalog.pg_database d
                WHERE d.datname = pg_catalog.current_database() AND o.external_id = 'lindero_' || d.oid || '_' || $1::text
                """, [.text(direction)])
            return result.rows.first?[0]
        } catch PostgresError.server(let error) where error.sqlState.rawValue == "42501" {
            return nil
        }
    }
}

/// What a physical standby says about itself.
struct StandbyFacts: Sendable {
    var isInRecovery = false
    var isStreaming = false
    /// Whether somebody has stopped it from showing more.
    var isReplayPaused = false
    var receivedLSN: LSN?
    var replayedLSN: LSN?
    /// Commit time of the last replayed transaction, by the primary's clock.
    var lastCommitAt: String?
    var slot: String?

    static func read(_ connection: PostgresConnection) async throws -> StandbyFacts {
        let result = try await connection.query(
            """
            SELECT pg_catalog.pg_is_in_recovery()::text AS recovering,
                   EXISTS (SELECT 1 FROM pg_catalog.pg_stat_wal_receiver WHERE pid IS NOT NULL)::text AS streaming,
                   (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_is_wal_replay_paused() END)::text AS paused,
                   pg_catalog.pg_last_wal_receive_lsn()::text AS received,
                   pg_catalog.pg_last_wal_replay_lsn()::text AS replayed,
                   pg_catalog.pg_last_xact_replay_timestamp()::text AS committed,
                   nullif(pg_catalog.current_setting('primary_slot_name'), '') AS slot
            """)
        var facts = StandbyFacts()
        guard let row = result.rows.first else { return facts }
        facts.isInRecovery = row["recovering"] == "true"
        facts.isStreaming = row["streaming"] == "true"
        facts.isReplayPaused = row["paused"] == "true"
        facts.receivedLSN = row["received"].flatMap { LSN($0) }
        facts.replayedLSN = row["replayed"].flatMap { LSN($0) }
        facts.lastCommitAt = row["committed"]
        facts.slot = row["slot"]
        return facts
    }
}
