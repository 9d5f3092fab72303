import PostgresClient
import ReplicationCore

extension OwnObjects {
    /// - Parameter kept: slots and publications that the configuration names: they were there before Lindero.
    public static func read(_ connection: PostgresConnection, keeping kept: Set<String> = []) async throws -> OwnObjects {
        var objects = OwnObjects()
        objects.slots = try await connection.query(
            """
            SELECT slot_name, active::text,
                   CASE WHEN NOT pg_catalog.pg_is_in_recovery() AND wal_status IS DISTINCT FROM 'lost' THEN
                     pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), restart_lsn)::bigint::text END
            FROM pg_catalog.pg_replication_slots
            WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(slot_name, 'lindero_') AND NOT temporary
            ORDER BY 1
            """
        ).rows.map { Slot(name: $0[0] ?? "", isActive: $0[1] == "true", retainedBytes: $0[2].flatMap { Int64($0) }) }
            .filter { !kept.contains($0.name) }
        objects.publications = try await connection.query(
            "SELECT pubname FROM pg_catalog.pg_publication WHERE pg_catalog.starts_with(pubname, 'lindero_') ORDER BY 1"
        ).rows.compactMap { $0[0] }.filter { !kept.contains($0) }
        let origins = try await connection.query(
            """
            SELECT o.roname, pg_catalog.regexp_replace(
              pg_catalog.substr(o.roname, pg_catalog.length('lindero_' || d.oid || '_') + 1), '\(OriginName.secondSuffix)$', '')
            FROM pg_catalog.pg_replication_origin o, pg_catalog.pg_database d
            WHERE d.datname = pg_catalog.current_database() AND pg_catalog.starts_with(o.roname, 'lindero_' || d.oid || '_')
            ORDER BY 1
            """
        ).rows
        for row in origins {
            let name = row[0] ?? ""
            objects.origins.append(Origin(name: name, direction: row[1] ?? "", isHeld: try await isHeld(name, connection)))
        }
        return objects
    }

    /// Only taking an origin tells whether another session has it.
    private static func isHeld(_ name: String, _ connection: PostgresConnection) async throws -> Bool {
        do {
            _ = try await connection.query("SELECT pg_catalog.pg_replication_origin_session_setup($1)", [.text(name)])
        } catch {
            // What went away meanwhile is not held; a role that may not take it can't drop it either, and is told then.
            return error.isObjectInUse
        }
        _ = try await connection.query("SELECT pg_catalog.pg_replication_origin_session_reset()")
        return false
    }
}
