import PostgresClient
import ReplicationCore

/// The direction's row in the target's `lindero.direction`: what it must recognise when it comes back.
struct DirectionRecord {
    let connection: PostgresConnection
    let settings: DirectionSettings

    struct Row {
        var slot: String
        var systemIdentifier: String
        /// Zero until the slot is made.
        var startLSN: LSN
        /// Whether every table is copied and has its keys.
        var isPrepared: Bool
        /// The source's timeline; `nil` until it was seen.
        var timeline: Int?
        /// Quoted names of tables that came later and are not whole yet.
        var unfinishedTables: Set<String>
        /// Whether foreign keys wait for the stream.
        var foreignKeysWait: Bool
        /// Whether it is a direction of a split that has begun.
        var isSplit: Bool
        /// Since when the target is known to have what the source lost, in words.
        var aheadAt: String?
    }

    func read() async throws -> Row? {
        let result = try await connection.query(
            """
            SELECT slot, system_identifier, start_lsn::text, prepared_at::text, to_jsonb(d) ->> 'timeline',
                   \(TableCopyState.unfinishedSQL)::text, to_jsonb(d) ->> 'foreign_keys_wait', to_jsonb(d) ->> 'causal_lsn',
                   pg_catalog.date_trunc('second', (to_jsonb(d) ->> 'ahead_at')::timestamptz)::text
            FROM lindero.direction d WHERE name = $1
            """, [.text(settings.name)])
        guard let row = result.rows.first, let lsn = row[2].flatMap({ LSN($0) }) else { return nil }
        return Row(
            slot: row[0] ?? "", systemIdentifier: row[1] ?? "", startLSN: lsn, isPrepared: row[3] != nil,
            timeline: row[4].flatMap { Int($0) }, unfinishedTables: Set(SQLText.elements(ofArray: row[5] ?? "{}")),
            foreignKeysWait: row[6] == "true", isSplit: row[7] != nil, aheadAt: row[8])
    }

    /// Written once, when a slot is made or adopted.
    func create(systemIdentifier: String, startLSN: LSN) async throws {
        _ = try await connection.query(
            """
            INSERT INTO lindero.direction (name, slot, publication, origin, system_identifier, start_lsn)
            VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.pg_lsn)
            """,
            [
                .text(settings.name), .text(settings.slot), .text(settings.publication), .text(settings.sourceName),
                .text(systemIdentifier), .text(startLSN.description),
            ])
    }

    /// Forgets the way back of a split, the row that tells of it last.
    static func remove(_ name: String, from target: PostgresConnection) async throws {
        for table in ["heartbeat", "table_copy"] {
            _ = try await target.query("DELETE FROM lindero.\(table) WHERE direction = $1", [.text(name)])
        }
        _ = try await target.query("DELETE FROM lindero.direction WHERE name = $1", [.text(name)])
    }

    func setStart(_ lsn: LSN) async throws {
        _ = try await connection.query(
            "UPDATE lindero.direction SET start_lsn = $2::pg_catalog.pg_lsn WHERE name = $1",
            [.text(settings.name), .text(lsn.description)])
    }

    /// Notes tables that are about to be created on the target.
    func noteCreation(of tables: [QualifiedName]) async throws {
        _ = try await connection.query(
            "UPDATE lindero.direction SET created_tables = created_tables || $2::text[] WHERE name = $1",
            [.text(settings.name), .text(SQLText.arrayLiteral(tables.map(\.sql)))])
    }

    func setTimeline(_ timeline: Int) async throws {
        _ = try await connection.query(
            "UPDATE lindero.direction SET timeline = $2::text::int WHERE name = $1", [.text(settings.name), .text("\(timeline)")])
    }

    /// Runs a look at how far the source has come; what it lacks is noted, since it may seem to have it once it has gone on.
    func noting(_ look: () async throws -> Void) async throws {
        do {
            try await look()
        } catch let failure as ReplicationFailure where failure.code == .targetAhead {
            _ = try await connection.query(
                "UPDATE lindero.direction SET ahead_at = coalesce(ahead_at, pg_catalog.clock_timestamp()) WHERE name = $1", [.text(settings.name)])
            throw failure
        }
    }

    /// Notes tables that are about to be added, or with none that all are whole.
    func noteUnfinished(_ tables: [QualifiedName]) async throws {
        _ = try await connection.query(
            "UPDATE lindero.direction SET unfinished_tables = $2::text[] WHERE name = $1",
            [.text(settings.name), .text(SQLText.arrayLiteral(tables.map(\.sql)))])
    }

    func setForeignKeysWait(_ wait: Bool) async throws {
        _ = try await connection.query(
            "UPDATE lindero.direction SET foreign_keys_wait = $2::text::boolean WHERE name = $1",
            [.text(settings.name), .text("\(wait)")])
    }

    /// Quoted names of the tables that Lindero created.
    func createdTables() async throws -> Set<String> {
        let rows = try await connection.query(
            "SELECT created_tables::text FROM lindero.direction WHERE name = $1", [.text(settings.name)]
        ).rows
        return Set(SQLText.elements(ofArray: rows.first?[0] ?? "{}"))
    }

    func markPrepared() async throws {
        _ = try await connection.query(
            "UPDATE lindero.direction SET prepared_at = pg_catalog.clock_timestamp() WHERE name = $1", [.text(settings.name)])
    }

    /// What was prepared is made anew; whoever looks meanwhile misses nothing.
    func markUnprepared() async throws {
        _ = try await connection.query("UPDATE lindero.direction SET prepared_at = NULL WHERE name = $1", [.text(settings.name)])
    }

    /// Commit time, on the source, of the newest heartbeat that the target shows.
    func lastHeartbeat() async throws -> PostgresTime? {
        let result = try await connection.query(
            "SELECT \(PostgresTime.sql("sent_at")) FROM lindero.heartbeat WHERE direction = $1", [.text(settings.name)])
        return result.rows.first?[0].flatMap { Int64($0) }.map { PostgresTime(microseconds: $0) }
    }

    /// Whether another worker streams the direction, as far as can be seen: what it publishes is its own matter.
    ///
    /// - Parameters:
    ///   - state: of this process. Who has streamed may find the end of its own stream.
    ///   - error: what ended it.
    static func isAnothers(_ settings: DirectionSettings, _ state: DirectionState, after error: any Error) async -> Bool {
        if let code = (error as? ReplicationFailure)?.code, [.slotInUse, .splitBegun].contains(code) { return true }
        if state.durableLSN != .zero { return false }
        let isHeld = try? await PostgresConnection.with(settings.source) { source in
            // The stream of our own copy may still be ending.
            for _ in 0..<10 {
                let active = try await source.query(
                    "SELECT active::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", [.text(settings.slot)]
                ).firstValue
                guard active == "true" else { return false }
                try await Task.sleep(for: .milliseconds(200))
            }
            return true
        }
        return isHeld ?? false
    }

    /// Publishes what the direction is doing, for `status` from another process.
    func note(state: DirectionPhase, problem: String?) async throws {
        _ = try await connection.query(
            """
            UPDATE lindero.direction SET state = $2, problem = $3, updated_at = pg_catalog.clock_timestamp()
            WHERE name = $1
            """, [.text(settings.name), .text(state.rawValue), problem.map { .text($0) } ?? .null])
    }
}
