import Migrations
import PostgresClient
import TestSupport
import Testing

@testable import Replicator

@Suite struct MigratorTests {
    /// A fresh database, and what is in it besides PostgreSQL's own.
    private struct Fresh {
        let options: ConnectionOptions
        let connection: PostgresConnection

        init() async throws {
            options = ConnectionOptions(try await PostgresCluster.shared("target").createDatabase(prefix: "mig"))
            connection = try await PostgresConnection.connect(options)
        }

        func texts(_ sql: String) async throws -> [String] {
            try await connection.query(sql).rows.compactMap { $0[0] }
        }

        /// Every schema, relation, function, type and origin that Lindero could have left.
        func leftovers() async throws -> [String] {
            try await texts(
                """
                SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'lindero%'
                UNION ALL SELECT relname::text FROM pg_class WHERE oid >= 16384
                UNION ALL SELECT proname::text FROM pg_proc WHERE oid >= 16384
                UNION ALL SELECT typname::text FROM pg_type WHERE oid >= 16384
                UNION ALL SELECT roname FROM pg_replication_origin
                  WHERE roname LIKE 'lindero_' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '%'
                """)
        }
    }

    @Test func migrationsApplyOnceAndStayApplied() async throws {
        let fresh = try await Fresh()
        let migrator = Migrator(connection: fresh.connection)
        #expect(try await migrator.migrate() == Migrations.all.map(\.version))
        #expect(try await migrator.migrate() == [])
        let recorded = try await fresh.texts("SELECT version || ' ' || name FROM lindero.migration ORDER BY version")
        #expect(recorded == Migrations.all.map { "\($0.version) \($0.name)" })
    }

    @Test func manyAtOnceApplyEachMigrationExactlyOnce() async throws {
        let fresh = try await Fresh()
        let applied = try await withThrowingTaskGroup(of: [Int].self) { group in
            for _ in 0..<8 {
                group.addTask {
                    try await PostgresConnection.with(fresh.options) { try await Migrator(connection: $0).migrate() }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(applied.sorted() == Migrations.all.map(\.version))
    }

    @Test func oneThatGoesUpWhileOtherGoesDownLeavesOneOfBothStates() async throws {
        let fresh = try await Fresh()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<6 {
                group.addTask {
                    try await PostgresConnection.with(fresh.options) { connection in
                        let migrator = Migrator(connection: connection)
                        _ = number % 2 == 0 ? try await migrator.migrate() : try await migrator.migrateDown()
                    }
                }
            }
            try await group.waitForAll()
        }
        _ = try await Migrator(connection: fresh.connection).migrate()
        _ = try await Migrator(connection: fresh.connection).migrateDown()
        #expect(try await fresh.leftovers() == [])
    }

    @Test func changedMigrationIsRefusedByName() async throws {
        let fresh = try await Fresh()
        var altered = Migrations.all
        altered[1] = Migrations.Migration(
            version: 2, name: "table_copy", up: altered[1].up + "\n-- once different", down: altered[1].down)
        _ = try await Migrator(connection: fresh.connection, migrations: altered).migrate()
        let problem = await #expect(throws: Migrator.Problem.self) {
            try await Migrator(connection: fresh.connection).migrate()
        }
        #expect(problem?.description.contains("Migration 2 (table_copy)") == true)
    }

    @Test func databaseOfNewerLinderoIsRefusedUpAndDown() async throws {
        let fresh = try await Fresh()
        let newer = Migrations.all + [
            Migrations.Migration(version: 900, name: "later", up: "CREATE TABLE lindero.later ()", down: "DROP TABLE lindero.later")
        ]
        _ = try await Migrator(connection: fresh.connection, migrations: newer).migrate()
        await #expect(throws: Migrator.Problem.self) { try await Migrator(connection: fresh.connection).migrate() }
        await #expect(throws: Migrator.Problem.self) { try await Migrator(connection: fresh.connection).migrateDown() }
        #expect(try await fresh.texts("SELECT count(*) FROM lindero.migration") == ["\(newer.count)"])
    }

    @Test func downLeavesNothing() async throws {
        let fresh = try await Fresh()
        let migrator = Migrator(connection: fresh.connection)
        _ = try await migrator.migrate()
        _ = try await fresh.connection.query(
            """
            SELECT pg_replication_origin_create('lindero_' || oid || '_bot->sync') FROM pg_database
            WHERE datname = current_database()
            """)
        #expect(try await migrator.migrateDown() == Migrations.all.map(\.version).reversed())
        #expect(try await fresh.leftovers() == [])
        #expect(try await migrator.migrateDown() == [])
    }

    @Test func downRefusesSchemaWithForeignObjectsAndRemovesNothing() async throws {
        let fresh = try await Fresh()
        let migrator = Migrator(connection: fresh.connection)
        _ = try await migrator.migrate()
        _ = try await fresh.connection.execute("CREATE TABLE lindero.mine (v int); CREATE FUNCTION lindero.f() RETURNS int RETURN 1")
        let problem = await #expect(throws: Migrator.Problem.self) { try await migrator.migrateDown() }
        #expect(problem?.description.contains("lindero.mine") == true)
        #expect(problem?.description.contains("function lindero.f()") == true)
        #expect(try await fresh.texts("SELECT count(*) FROM lindero.migration") == ["\(Migrations.all.count)"])
        _ = try await fresh.connection.execute("DROP TABLE lindero.mine; DROP FUNCTION lindero.f")
        #expect(try await migrator.migrateDown().isEmpty == false)
    }

    @Test func failedMigrationLeavesNothingHalfMade() async throws {
        let fresh = try await Fresh()
        let broken = Migrations.all + [
            Migrations.Migration(version: 900, name: "broken", up: "CREATE TABLE lindero.half (); SELECT 1/0", down: "")
        ]
        await #expect(throws: PostgresError.self) {
            try await Migrator(connection: fresh.connection, migrations: broken).migrate()
        }
        #expect(try await fresh.leftovers() == [])
        #expect(try await Migrator(connection: fresh.connection).migrate() == Migrations.all.map(\.version))
    }

    @Test func plannedSQLIsWhatMigratingRuns() async throws {
        let fresh = try await Fresh()
        let migrator = Migrator(connection: fresh.connection)
        let plan = try await migrator.plan()
        #expect(try await fresh.leftovers() == [])
        for script in plan { _ = try await fresh.connection.execute(script) }
        let byHand = try await fresh.texts("SELECT attrelid::regclass || '.' || attname FROM pg_attribute WHERE attrelid::regclass::text LIKE 'lindero.%' ORDER BY 1")
        let other = try await Fresh()
        _ = try await Migrator(connection: other.connection).migrate()
        let byMigrator = try await other.texts("SELECT attrelid::regclass || '.' || attname FROM pg_attribute WHERE attrelid::regclass::text LIKE 'lindero.%' ORDER BY 1")
        #expect(byHand == byMigrator)
        #expect(try await Migrator(connection: other.connection).plan() == [])
    }

    @Test func aPlainOwnerMigratesUpAndDown() async throws {
        let fresh = try await Fresh()
        let role = "owner_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let name = try await fresh.texts("SELECT current_database()")[0]
        _ = try await fresh.connection.execute("CREATE ROLE \"\(role)\" LOGIN; ALTER DATABASE \"\(name)\" OWNER TO \"\(role)\"")
        let url = try await PostgresCluster.shared("target").conninfo(database: name, user: role)
        let versions = try await PostgresConnection.with(ConnectionOptions(url)) { connection in
            let migrator = Migrator(connection: connection)
            _ = try await migrator.migrate()
            return try await migrator.migrateDown()
        }
        #expect(versions == Migrations.all.map(\.version).reversed())
        #expect(try await fresh.leftovers() == [])
    }
}
