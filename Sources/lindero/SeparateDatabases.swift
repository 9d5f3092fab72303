import PostgresClient
import ReplicationCore
import Replicator

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
        let home = try await origin.connected { try await DatabaseIdentity.read($0) }
        var found = SeparateDatabases(databases: [], passedOver: [])
        for settings in loaded.configuration.databases where settings.name != origin.name && !settings.isPhysicalStandby {
            do {
                let database = try loaded.database(settings.name)
                if try await database.connected({ try await DatabaseIdentity.read($0) }) != home { found.databases.append(database) }
            } catch {
                // Before the first move of a shared database nothing says that there is another one.
                guard loaded.configuration.backend == .shared, loaded.phase == nil else { throw error }
                found.passedOver.append(settings.name)
            }
        }
        found.databases.append(origin)
        return found
    }
}
