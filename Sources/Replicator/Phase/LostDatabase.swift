import PostgresClient
import ReplicationCore

/// A database that is lost for good, seen from the one it was split with: takes down there what the split needs. Nothing of it asks
/// the lost one.
///
/// Every step can be killed and done again. What tells that there is a split goes last: until then nobody takes what is left for
/// a replica.
public struct LostDatabase: Sendable {
    /// Reads the one that is left, for the lost one.
    let outgoing: DirectionSettings
    let left: PostgresConnection
    /// The one that has moved to the second database.
    let service: String
    /// Those that the split carried; empty where nobody can tell.
    let tables: [QualifiedName]
    /// Called between any two steps; a test that throws here is a kill.
    var afterStep: @Sendable () throws -> Void = {}

    /// - Parameters:
    ///   - outgoing: the direction whose target is lost.
    ///   - left: its source.
    ///   - service: the one that the second database belongs to.
    ///   - tables: those that the split carried, as far as is known.
    public init(outgoing: DirectionSettings, left: PostgresConnection, service: String, tables: [QualifiedName] = []) {
        self.outgoing = outgoing
        self.left = left
        self.service = service
        self.tables = tables
    }

    /// Whether an error of connecting may mean that a database is no more; what is refused only is still there.
    public static func isLost(_ error: any Error) -> Bool {
        guard case .connection(let failure)? = error as? PostgresError else { return false }
        switch failure.reason {
        case .refused, .unknownHost, .nameServiceDown, .timedOut, .lost: return true
        // No such database; a server that starts or has no session left says something else.
        case .server: return failure.sqlState?.rawValue == "3D000"
        case .authentication, .encryption, .options, .resources, .other: return false
        }
    }

    /// How far the lost database's writes have come.
    public struct Arrived: Sendable {
        /// End of its last commit that is here, in its own log; `nil` where none ever came.
        public var lsn: LSN?
        /// When it committed its newest sign of life that is here, in words; `nil` where none came.
        public var time: String?
        /// Another one each time that something comes from there.
        public var sign: String
        /// The one there from which it comes.
        var slot: String
    }

    private static func incoming(_ outgoing: DirectionSettings) -> String { "\(outgoing.targetName)->\(outgoing.sourceName)" }

    /// - Returns: `nil` where the split never began, or was taken down.
    /// - Throws: `PostgresError`.
    public static func arrived(_ outgoing: DirectionSettings, on left: PostgresConnection) async throws -> Arrived? {
        guard try await left.hasLindero("direction") else { return nil }
        let rows = try await left.query(
            """
            SELECT d.applied_lsn::text, pg_catalog.date_trunc('second', h.sent_at)::text,
              pg_catalog.concat_ws(' ', d.applied_lsn, h.sent_at, h.source_lsn), d.slot
            FROM lindero.direction d LEFT JOIN lindero.heartbeat h ON h.direction = d.name
            WHERE d.name = $1 AND to_jsonb(d) ->> 'causal_lsn' IS NOT NULL
            """, [.text(incoming(outgoing))]
        ).rows
        return rows.first.map { Arrived(lsn: $0[0].flatMap { LSN($0) }, time: $0[1], sign: $0[2] ?? "", slot: $0[3] ?? "") }
    }

    /// Who answers in the place of a lost database.
    public enum Answering: Sendable {
        /// The side that was split.
        case side
        /// That side without the slot from which its changes went, or with one that the server gave up: maybe a backup of it, or a standby
        /// that was promoted without.
        case copy
        /// A database without a row that the split would have carried.
        case empty
        /// The one that is left, or one that holds something else.
        case another
    }

    /// - Parameters:
    ///   - arrived: what has come from there, if it was a split's side.
    ///   - select: the tables that the split carried, among those that are there.
    /// - Throws: `PostgresError`, where that can't be told.
    public static func answering(
        _ found: PostgresConnection, for outgoing: DirectionSettings, left: PostgresConnection, arrived: Arrived?,
        select: ([QualifiedName]) -> [QualifiedName]
    ) async throws -> Answering {
        if try await found.hasLindero("direction"),
            try await found.query("SELECT 1 FROM lindero.direction WHERE name = $1", [.text(outgoing.name)]).rowCount > 0
        {
            guard let arrived, try await !hasSlot(arrived.slot, on: found) else { return .side }
            return .copy
        }
        if try await DatabaseIdentity.read(found) == DatabaseIdentity.read(left) { return .another }
        return try await found.filled(among: select(try await CatalogReader.names(found))).isEmpty ? .empty : .another
    }

    /// Whether it still has the slot, and all that comes next in it; so, too, of a standby, which has none of its own yet.
    private static func hasSlot(_ slot: String, on found: PostgresConnection) async throws -> Bool {
        try await found.query(
            """
            SELECT 1 WHERE pg_catalog.pg_is_in_recovery() OR EXISTS (
              SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND database = pg_catalog.current_database()
                AND wal_status IS DISTINCT FROM 'lost')
            """, [.text(slot)]
        ).rowCount > 0
    }

    /// - Parameter leftMilliseconds: how long tables may be waited for yet.
    /// - Returns: sequences that stay as they are.
    /// - Throws: `ReplicaEnd.Failure` while a worker still streams, `ReplicationFailure`, `PostgresError`.
    public func takeDown(leftMilliseconds: () -> Int) async throws -> StayingSequences {
        let kept: StayingSequences
        do {
            try await ReplicaEnd(settings: outgoing, source: left, target: left).takeDownSource()
            try afterStep()
            // What the service writes stays here from now on.
            try await MovedService(name: service, roles: [], tables: []).allow(on: left, leftMilliseconds: leftMilliseconds)
            try afterStep()
            kept = try await LoneSequences(name: outgoing.sourceName, connection: left, tables: tables).restore()
            try afterStep()
            _ = try await FullIdentity(name: outgoing.sourceName, connection: left).restore()
            try afterStep()
            try await ProgressOrigin(connection: left, direction: Self.incoming(outgoing)).drop()
            try afterStep()
        } catch let error as PostgresError where error.isObjectInUse {
            throw ReplicaEnd.Failure.inUse
        }
        try await forget()
        return kept
    }

    /// What came from there is the services' own now. The conflict log stays: it has what lost.
    private func forget() async throws {
        let tables = ["heartbeat", "table_copy", "table_copy_chunk", "verification", "split_table", "split_column", "split_policy"]
        let statements = tables.map { ("lindero.\($0)", "direction") } + [("lindero.direction", "name")]
        try await left.inTransaction {
            for (table, column) in statements {
                _ = try await left.query("DELETE FROM \(table) WHERE \(column) = $1", [.text(Self.incoming(outgoing))])
            }
        }
    }
}
