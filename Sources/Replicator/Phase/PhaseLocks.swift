import PostgresClient
import ReplicationCore

/// Who leads a move, and what workers run: advisory locks in the origin database, which end with their sessions, so that
/// a kill leaves nothing behind that looks alive.
public struct PhaseLocks: Sendable {
    /// `Lind`, the first of both numbers of every lock.
    static let space: Int32 = 0x4C69_6E64
    static let operatorNumber: Int32 = 1

    let connection: PostgresConnection

    public init(connection: PostgresConnection) { self.connection = connection }

    /// - Returns: `nil` when this session leads from now on; else who does.
    public func lead() async throws -> String? {
        let isOurs = try await connection.query(
            "SELECT pg_catalog.pg_try_advisory_lock(\(Self.space), \(Self.operatorNumber))::text"
        ).firstValue == "true"
        if isOurs { return nil }
        return try await leader() ?? "somebody who has just ended"
    }

    /// Who leads a move now: name, process of the server, since when.
    public func leader() async throws -> String? {
        try await connection.query(
            """
            SELECT coalesce(a.application_name, 'a session of another role') || ' (pid ' || a.pid
              || coalesce(', since ' || to_char(a.backend_start, 'HH24:MI:SS'), '') || ')'
            FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
            WHERE \(Self.condition) AND l.objid = \(Self.operatorNumber) AND l.granted
            """
        ).firstValue
    }

    private static let condition = """
        l.locktype = 'advisory' AND l.classid = \(space) AND l.objsubid = 2 AND l.database =
        (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
        """

    /// Shows that this session's worker runs a mode; several may.
    public func show(_ mode: WorkerMode) async throws {
        _ = try await connection.query("SELECT pg_catalog.pg_advisory_lock_shared(\(Self.space), \(mode.lockNumber))")
    }

    public func hide(_ mode: WorkerMode) async throws {
        _ = try await connection.query("SELECT pg_catalog.pg_advisory_unlock_shared(\(Self.space), \(mode.lockNumber))")
    }

    /// Roles of the workers that are alive, other than this session's.
    public func otherWorkerRoles() async throws -> [String] {
        try await connection.query(
            """
            SELECT DISTINCT a.usename FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
            WHERE \(Self.condition) AND l.granted AND l.objid >= 100 AND a.usename <> session_user ORDER BY 1
            """
        ).rows.compactMap { $0[0] }
    }

    /// What workers run now, most important first.
    public func running() async throws -> [WorkerMode] {
        let rows = try await connection.query(
            "SELECT DISTINCT l.objid::bigint::text FROM pg_catalog.pg_locks l WHERE \(Self.condition) AND l.granted"
        ).rows
        let numbers = Set(rows.compactMap { $0[0].flatMap { Int32($0) } })
        return WorkerMode.allCases.filter { numbers.contains($0.lockNumber) }
    }
}
