import PostgresClient

/// Which database an upsert writes, and as whom.
enum UpsertTarget {
    /// - Parameter side: in whose name records are written.
    static func database(_ loaded: LoadedConfiguration, side: String) async throws -> Database {
        switch loaded.configuration.backend {
        case .split: return try loaded.database(side)
        // The other entry is the copy, which only the worker writes: until the split both services write the origin.
        case .replica: return try loaded.origin()
        // As its own role where it has one there. What is another database is where the side is to move, or has been.
        case .shared:
            let own = try loaded.database(side)
            let origin = try loaded.origin()
            if own.name == origin.name { return own }
            if try await identity(own) == identity(origin) { return own }
            StandardError.write(
                "note: \"\(own.name)\" is another database; \"\(origin.name)\" is written, which both services share until a split, by the role of "
                    + "its own url.\n")
            return origin
        }
    }

    /// The same for two connections to one database, whatever host, role or pooler they go through.
    private static func identity(_ database: Database) async throws -> String? {
        try await database.connected { connection in
            try await connection.query(
                """
                SELECT s.system_identifier || '/' || pg_catalog.pg_postmaster_start_time() || '/' || d.oid FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d
                WHERE d.datname = pg_catalog.current_database()
                """
            ).rows.first?[0]
        }
    }
}
