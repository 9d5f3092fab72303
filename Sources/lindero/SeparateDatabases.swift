import PostgresClient
import ReplicationCore

/// The databases of a configuration that really are different ones: services that share one are named beside it, and
/// reach it by addresses and roles of their own.
struct SeparateDatabases: Sendable {
    /// In the file's order, the origin last: it knows what the worker has to run, so it is taken down last, too.
    var databases: [Database]
    /// Names of those that can't be reached and may well be the origin.
    var passedOver: [String]

    /// - Throws: `CommandFailure` where a database can't be reached that Lindero keeps something in.
    static func read(_ loaded: LoadedConfiguration) async throws -> SeparateDatabases {
        let origin = try loaded.origin()
        let home = try await origin.connected { try await identity($0) }
        var found = SeparateDatabases(databases: [], passedOver: [])
        for settings in loaded.configuration.databases where settings.name != origin.name && !settings.isPhysicalStandby {
            do {
                let database = try loaded.database(settings.name)
                if try await database.connected({ try await identity($0) }) != home { found.databases.append(database) }
            } catch {
                // Before the first move of a shared database nothing says that there is another one.
                guard loaded.configuration.backend == .shared, loaded.phase == nil else { throw error }
                found.passedOver.append(settings.name)
            }
        }
        found.databases.append(origin)
        return found
    }

    /// Cluster, server and database; a promoted standby has the cluster's number and the database's, too.
    private static func identity(_ connection: PostgresConnection) async throws -> [String?] {
        let row = try await connection.query(
            """
            SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text, pg_catalog.pg_postmaster_start_time()::text,
                   (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())::text
            """
        ).rows.first
        return [row?[0], row?[1], row?[2]]
    }
}
