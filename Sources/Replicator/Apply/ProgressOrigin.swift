import PostgresClient
import ReplicationCore

/// The direction's replication origin on the target: progress that commits with the data.
struct ProgressOrigin {
    let connection: PostgresConnection
    let direction: String

    /// Takes the origin for this session and reads its progress, in that order: until an earlier worker's session
    /// is gone, its last commit may still be under way, and progress read before would be stale.
    ///
    /// - Returns: end of the last applied source commit; `zero` when nothing was applied yet.
    /// - Throws: `PostgresError` 55006 while another session holds the origin.
    func acquire() async throws -> LSN {
        let name = try await name()
        _ = try await connection.query(
            """
            SELECT pg_catalog.pg_replication_origin_create($1)
            WHERE pg_catalog.pg_replication_origin_oid($1) IS NULL
            """, [.text(name)])
        _ = try await connection.query("SELECT pg_catalog.pg_replication_origin_session_setup($1)", [.text(name)])
        // Told only once it is on disk: the worker before may have left commits that the target shows and its disk lacks.
        let progress = try await connection.query(
            "SELECT pg_catalog.pg_replication_origin_session_progress(true)::text")
        let origin = progress.firstValue.flatMap { LSN($0) } ?? .zero
        // Since PostgreSQL 16 the origin advances with an aborted transaction, too; the row went back with its data.
        let row = try await connection.query("SELECT applied_lsn::text FROM lindero.direction WHERE name = $1", [.text(direction)])
        return row.firstValue.flatMap { LSN($0) } ?? origin
    }

    /// How far the origin that the session holds has come, whether on disk or not.
    static func sessionProgress(_ connection: PostgresConnection) async throws -> LSN {
        let progress = try await connection.query("SELECT pg_catalog.pg_replication_origin_session_progress(false)::text")
        return progress.firstValue.flatMap { LSN($0) } ?? .zero
    }

    /// Forgets the progress.
    ///
    /// - Throws: `ReplicationFailure` with the command to run when the role may not; `PostgresError` 55006 while a
    ///   session holds the origin.
    func drop() async throws {
        let name = try await name()
        let found = try await connection.query(
            "SELECT 1 FROM pg_catalog.pg_replication_origin WHERE roname = $1", [.text(name)])
        // Without one the right to drop it is not needed.
        if found.rowCount == 0 { return }
        do {
            _ = try await connection.query("SELECT pg_catalog.pg_replication_origin_drop($1)", [.text(name)])
        } catch {
            guard error.sqlState?.rawValue == "42501" else { throw error }
            throw ReplicationFailure(
                .privileges, "The target still has replication origin \(name) of an earlier copy, and the role may not drop it.",
                nextStep: "Run on the target as a superuser: \(Self.dropSQL(name)) Then start again.", isBlocker: true)
        }
    }

    static func dropSQL(_ name: String) -> String { "SELECT pg_replication_origin_drop(\(SQLText.literal(name)));" }

    /// Origins belong to the whole cluster, so the name carries the database's OID: a database that was dropped
    /// and made again must not inherit the old one's progress.
    func name() async throws -> String {
        let oid = try await connection.query(
            "SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()")
        return "lindero_\(oid.rows.first?[0] ?? "0")_\(direction)"
    }
}
