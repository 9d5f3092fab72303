import PostgresClient
import ReplicationCore

/// Takes a replica down: what it needs on the source, and what it remembers on the target. Its rows stay.
///
/// Every step can be run again; nothing is taken down before the slot is, without which no change can be missed unseen.
public struct ReplicaEnd: Sendable {
    let settings: DirectionSettings
    let source: PostgresConnection
    let target: PostgresConnection

    public init(settings: DirectionSettings, source: PostgresConnection, target: PostgresConnection) {
        self.settings = settings
        self.source = source
        self.target = target
    }

    public enum Failure: Error, Sendable {
        /// A worker still streams.
        case inUse
    }

    /// - Throws: `Failure`, `ReplicationFailure` for a direction of a split, `PostgresError`.
    public func run() async throws {
        do {
            try await takeDown()
        } catch let error as PostgresError where error.isObjectInUse {
            throw Failure.inUse
        }
    }

    private func takeDown() async throws {
        try await Self.requireReplica(settings, on: target)
        try await takeDownWayBack()
        try await takeDownSource()
        try await Self.forget(settings, on: target)
    }

    /// Refuses a direction of a split that has begun: what its target alone has would be lost, and where it stands.
    ///
    /// - Throws: `ReplicationFailure` (`split_begun`), `PostgresError`.
    public static func requireReplica(_ settings: DirectionSettings, on target: PostgresConnection) async throws {
        guard try await target.hasLindero("direction") else { return }
        if try await DirectionRecord(connection: target, settings: settings).read()?.isSplit == true {
            throw DirectionSupervisor.splitHasBegun(settings)
        }
    }

    /// The same, where the target can't be asked: by what the source has of the way back.
    ///
    /// - Throws: `ReplicationFailure` (`split_begun`), `PostgresError`.
    public static func requireReplica(_ settings: DirectionSettings, asking source: PostgresConnection) async throws {
        if try await hasWayBack(settings, source) { throw DirectionSupervisor.splitHasBegun(settings, isReached: false) }
    }

    /// Refuses to copy from a database that holds its side of a split of which the target has nothing: it was given up there, and what
    /// it has may be older.
    ///
    /// - Throws: `ReplicationFailure` (`split_given_up`), `PostgresError`.
    static func requireNoSplit(_ settings: DirectionSettings, from source: PostgresConnection) async throws {
        guard try await hasWayBack(settings, source) else { return }
        let (source, target) = (settings.sourceName, settings.targetName)
        throw ReplicationFailure(
            .splitGivenUp, "\(source) holds its side of a split that \(target) knows nothing of, and is not to be copied from as if it were none.",
            nextStep: "If \(target) is empty, or an older copy, since what it was is lost: `lindero rollback --lost \(target)` goes on with \(source). Only if "
                + "\(source) was given up on \(target) (`rollback --lost \(source)`): look for what \(source) alone has, then give \(source) an empty database.",
            isBlocker: true)
    }

    private static func hasWayBack(_ settings: DirectionSettings, _ source: PostgresConnection) async throws -> Bool {
        try await LostDatabase.arrived(settings, on: source) != nil
    }

    /// A database holds its side of a split of which the other one has nothing (any more).
    public static func givenUp(_ name: String, by other: String) -> ReplicationFailure {
        ReplicationFailure(
            .splitGivenUp,
            "\(name) holds its side of a split that \(other) knows nothing of: it was given up as lost, or one of them is another copy.",
            nextStep: "What \(name) alone has comes by no stream any more: look there first. Then give \(name) an empty database, or make "
                + "this one so: drop its slots, its schema lindero, and the rows of the declared tables.", isBlocker: true)
    }

    /// What a split has left that was killed as it began: the way back is made before the way there is a split's, so nothing has come by it.
    private func takeDownWayBack() async throws {
        guard try await source.hasLindero("direction") else { return }
        let name = "\(settings.targetName)->\(settings.sourceName)"
        guard let row = try await source.query("SELECT slot, publication FROM lindero.direction WHERE name = $1", [.text(name)]).rows.first else { return }
        _ = try await target.query(
            "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", [.text(row[0] ?? "")])
        _ = try await target.execute("DROP PUBLICATION IF EXISTS \(SQLText.identifier(row[1] ?? ""))")
        try await ProgressOrigin(connection: source, direction: name).drop()
        try await DirectionRecord.remove(name, from: source)
    }

    /// The slot first: nobody reads it any more, and it keeps WAL. What the configuration names was there before Lindero
    /// and stays.
    func takeDownSource() async throws {
        if settings.replication.slot == nil {
            _ = try await source.query(
                """
                SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1
                """, [.text(settings.slot)])
        }
        if settings.replication.publication == nil {
            _ = try await source.execute("DROP PUBLICATION IF EXISTS \(SQLText.identifier(settings.publication))")
        }
    }

    /// What the target remembers of the direction, where it was ever there.
    private static func forget(_ settings: DirectionSettings, on target: PostgresConnection) async throws {
        guard try await target.hasLindero("verification") else { return }
        try await ProgressOrigin(connection: target, direction: settings.name).drop()
        // Comparisons were of rows that are behind from now on.
        for table in ["verification", "heartbeat"] {
            _ = try await target.query("DELETE FROM lindero.\(table) WHERE direction = $1", [.text(settings.name)])
        }
        // `table_copy` stays: it tells which rows there are Lindero's.
        _ = try await target.query("DELETE FROM lindero.direction WHERE name = $1", [.text(settings.name)])
    }

    /// The source's part alone, for a target that can't be reached.
    ///
    /// - Throws: `Failure`, `ReplicationFailure` for a direction of a split, `PostgresError`.
    public static func leaveTarget(_ settings: DirectionSettings, source: PostgresConnection) async throws {
        try await requireReplica(settings, asking: source)
        do {
            try await ReplicaEnd(settings: settings, source: source, target: source).takeDownSource()
        } catch let error as PostgresError where error.isObjectInUse {
            throw Failure.inUse
        }
    }

    /// The target's part, where the source's was done without it: the slot is gone, and the target still knows the direction.
    public func finish() async throws {
        let slot = try await source.query("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", [.text(settings.slot)])
        guard slot.rowCount == 0 else { return }
        try await Self.requireReplica(settings, on: target)
        try await Self.forget(settings, on: target)
    }
}

/// Rows on the target that a replica left when it was taken down: they are behind, and in the way of the next copy.
public struct LeftCopies: Sendable {
    let name: String
    let target: PostgresConnection
    let direction: String
    /// How long to try for the tables.
    var limitMilliseconds: Int64 = 60_000

    /// - Parameter name: of the target.
    public init(name: String, target: PostgresConnection, direction: String) {
        self.name = name
        self.target = target
        self.direction = direction
    }

    /// Tables that Lindero copied, all or a part, for a direction that is no more, and that still are there. What was taken as
    /// it was (`TableAddition.adopt`) has no snapshot: where nothing has, the whole target was, and is nobody's to empty.
    /// Nor is what was given up under a former name (`PolicyRefresh`).
    public func tables() async throws -> [QualifiedName] {
        guard try await target.hasLindero("table_copy_chunk", "direction") else { return [] }
        return try await target.query(
            """
            SELECT t.schema_name, t.table_name FROM (
                SELECT direction, schema_name, table_name FROM lindero.table_copy
                WHERE EXISTS (SELECT FROM lindero.table_copy c WHERE c.direction = table_copy.direction AND c.snapshot_lsn <> '0/0')
                  AND NOT (snapshot_lsn = '0/0' AND pg_catalog.to_jsonb(table_copy) ->> 'left_at_lsn' IS NOT DISTINCT FROM '0/0')
                UNION SELECT direction, schema_name, table_name FROM lindero.table_copy_chunk) t
            WHERE t.direction = $1 AND NOT EXISTS (SELECT 1 FROM lindero.direction d WHERE d.name = t.direction)
              AND pg_catalog.to_regclass(pg_catalog.quote_ident(t.schema_name) || '.' || pg_catalog.quote_ident(t.table_name)) IS NOT NULL
            ORDER BY 1, 2
            """, [.text(direction)]
        ).rows.map { QualifiedName(schema: $0[0] ?? "", name: $0[1] ?? "") }
    }

    /// Empties them, all or none, and forgets that they were copied. Who reads there meanwhile waits for a moment only.
    ///
    /// - Returns: the tables.
    /// - Throws: `ReplicationFailure` when one is in use all the time; `PostgresError`.
    public func empty() async throws -> [QualifiedName] {
        let tables = try await tables()
        guard !tables.isEmpty else { return [] }
        let lock = ShortLock(name: name, connection: target, limitMilliseconds: limitMilliseconds)
        try await lock.run("TRUNCATE \(tables.map(\.sql).joined(separator: ", "))", on: tables) {
            for table in ["table_copy", "table_copy_chunk"] {
                _ = try await target.query("DELETE FROM lindero.\(table) WHERE direction = $1", [.text(direction)])
            }
        }
        return tables
    }
}
