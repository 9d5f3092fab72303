import Migrations
import PostgresClient
import ReplicationCore

/// The way down.
extension Migrator {
    /// Refuses what the way down would refuse, and changes nothing: of two databases neither is taken down when the other
    /// cannot be.
    ///
    /// - Parameter kept: slots and publications that the configuration names: they were there before Lindero and stay.
    /// - Throws: `Problem`, `PostgresError`.
    public func requireRemovable(keeping kept: Set<String> = []) async throws {
        if try await OwnObjects.read(connection, keeping: kept).isInUse { throw Problem.workerRunning }
        try await requireNonePrepared()
        guard try await exists() else { return }
        do {
            try await inTransaction {
                _ = try await removeSchema()
                throw Rehearsed()
            }
        } catch is Rehearsed {
            return
        } catch PostgresError.server(let error) where error.sqlState.rawValue == "55000" {
            throw Problem.stillNeeded(error.message, hint: error.hint ?? "Run `lindero check`.")
        }
    }

    private struct Rehearsed: Error {}

    /// Removes everything of Lindero from the database: its schema, newest migration first, then its slots and publications,
    /// and the replication origins of the directions into it; tables get their replica identity back. Tables and rows stay.
    ///
    /// - Returns: the versions removed.
    @discardableResult
    public func migrateDown(keeping kept: Set<String> = []) async throws -> [Int] {
        let objects = try await OwnObjects.read(connection, keeping: kept)
        if objects.isInUse { throw Problem.workerRunning }
        try await requireNonePrepared()
        guard try await exists() else {
            try await drop(objects)
            return []
        }
        try await restoreIdentities()
        return try await inTransaction {
            let versions = try await removeSchema()
            // A slot and the progress of an origin are gone at once, whatever becomes of the transaction: last.
            try await drop(objects)
            return versions
        }
    }

    /// What the source has prepared stands here, too, and holds locks: without the direction nobody would end it.
    private func requireNonePrepared() async throws {
        let names = try await PreparedTransactions.names(connection)
        guard !names.isEmpty else { return }
        let rollbacks = names.map { "ROLLBACK PREPARED \(SQLText.literal($0));" }.joined(separator: " ")
        throw Problem.stillNeeded(
            "\(names.count == 1 ? "a transaction that is" : "\(names.count) transactions that are") prepared at the source stand\(names.count == 1 ? "s" : "") "
                + "here, too",
            hint: "End them at the source and let the worker follow, or give them up here: \(rollbacks)")
    }

    /// Tables get the replica identity back that they had: the record of it goes.
    private func restoreIdentities() async throws {
        guard try await connection.hasLindero("replica_identity") else { return }
        let name = try await connection.query("SELECT pg_catalog.current_database()").firstValue ?? ""
        try await FullIdentity(name: name, connection: connection).restore()
    }

    /// What `removeOwnSchema` runs.
    func planRemoval() async throws -> [String] {
        let versions = Set(try await applied().map(\.version))
        return migrations.sorted { $0.version > $1.version }.filter { versions.contains($0.version) }.map(\.down)
            + ["DROP TABLE lindero.migration;", "DROP SCHEMA lindero;"]
    }

    /// The schema alone.
    func removeOwnSchema() async throws {
        guard try await exists() else {
            _ = try await connection.execute("DROP SCHEMA IF EXISTS lindero")
            return
        }
        _ = try await inTransaction { try await removeSchema() }
    }

    private func removeSchema() async throws -> [Int] {
        // Triggers on tables of the services may go with it: their writers are not held up for long.
        _ = try await connection.execute("SET LOCAL lock_timeout = \(RemnantRemoval.lockTimeoutMilliseconds)")
        let versions = try await applied().map(\.version)
        if let newest = versions.max(), newest > (migrations.map(\.version).max() ?? 0) {
            throw Problem.newerDatabase(version: newest)
        }
        for migration in migrations.sorted(by: { $0.version > $1.version }) where versions.contains(migration.version) {
            _ = try await connection.execute(migration.down)
        }
        _ = try await connection.execute("DROP TABLE lindero.migration")
        try await requireEmptySchema()
        _ = try await connection.execute("DROP SCHEMA lindero")
        return versions.sorted(by: >)
    }

    private func drop(_ objects: OwnObjects) async throws {
        for statement in objects.dropStatements {
            do {
                _ = try await connection.execute(statement)
            } catch {
                throw error.isObjectInUse ? Problem.workerRunning : error
            }
        }
    }

    private func requireEmptySchema() async throws {
        let rows = try await connection.query(
            """
            SELECT pg_catalog.pg_describe_object(classid, objid, objsubid) FROM pg_catalog.pg_depend
            WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
              AND refobjid = 'lindero'::pg_catalog.regnamespace ORDER BY 1 LIMIT 20
            """
        ).rows
        guard rows.isEmpty else { throw Problem.foreignObjects(rows.compactMap { $0[0] }) }
    }
}
