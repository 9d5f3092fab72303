import PostgresClient

/// Which database a session is in, whatever address led there.
///
/// Cluster, server and database: a promoted standby has the cluster's number and the database's, too.
public struct DatabaseIdentity: Sendable, Equatable {
    private let parts: [String?]

    public static func read(_ connection: PostgresConnection) async throws(PostgresError) -> DatabaseIdentity {
        let row = try await connection.query(
            """
            SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text, pg_catalog.pg_postmaster_start_time()::text,
                   (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())::text
            """
        ).rows.first
        return DatabaseIdentity(parts: [row?[0], row?[1], row?[2]])
    }
}
