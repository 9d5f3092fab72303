import Foundation
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Whatever a publication leaves out, PostgreSQL says nothing of it: the worker looks, stops, and says what brings back what is missing.
@Suite struct PublicationWatchTests {
    private static let tables = "guest: { columns: { bot: \"*\" } }\n  stay: { columns: { bot: \"*\" } }"
    private static let publication = "(SELECT quote_ident(pubname) FROM pg_publication LIMIT 1)"

    private func scene() async throws -> BadInputScene {
        let scene = try await BadInputScene(
            script: "CREATE TABLE guest (id int PRIMARY KEY, name text); CREATE TABLE stay (id int PRIMARY KEY, v text)",
            tables: Self.tables, replication: "heartbeat: 200ms")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (1, 'a'), (2, 'b'); INSERT INTO stay VALUES (1, 'one')")
        return scene
    }

    private func alter(_ scene: BadInputScene, _ action: String) async throws {
        let name = try #require(try await scene.source.execute("SELECT quote_ident(pubname) FROM pg_publication").firstValue)
        _ = try await scene.source.execute("ALTER PUBLICATION \(name) \(action)")
    }

    /// Of a direction that reads the source, for a look at it alone.
    private func settings(_ scene: BadInputScene, publication: String) -> DirectionSettings {
        let options = ConnectionOptions(scene.sourceURL)
        return DirectionSettings(
            sourceName: "bot", targetName: "sync", source: options, target: options, slot: "s", publication: publication, backend: .replica,
            replication: ReplicationSettings(), policy: nil)
    }

    /// What each does to the publication, what is then written, and what is said.
    static let losses = [
        ("SET TABLE guest WHERE (id < 100), stay", "INSERT INTO guest VALUES (500, 'out')", "filters the rows of"),
        ("SET TABLE guest (id), stay", "INSERT INTO guest VALUES (3, 'c')", "leaves out \"name\" of"),
        ("SET (publish = 'insert, truncate')", "DELETE FROM guest WHERE id = 2", "leaves out every update, delete"),
        ("DROP TABLE guest", "INSERT INTO guest VALUES (3, 'c')", "no longer has"),
    ]

    @Test(arguments: losses) func whatIsLeftOutStopsTheWorkerAndIsBrought(_ loss: (alter: String, write: String, words: String)) async throws {
        let scene = try await scene()
        var worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        try await alter(scene, loss.alter)
        _ = try await scene.source.execute(loss.write)
        #expect(try await worker.wait(timeoutSeconds: 60) == 2)
        #expect(worker.errors.contains(loss.words), "\(worker.errors)")

        // Started again it is refused, too; `check` says the same.
        let refused = try await scene.run(["run", "--http", "none", "--json"])
        let checked = try await scene.run(["check", "--json"])
        #expect(refused.exitCode == 2)
        #expect(checked.exitCode == 2 && checked.output.contains("publication_table"), "\(checked.output)")
        if !loss.alter.hasPrefix("DROP") {
            let next = try #require(try failure(refused).next)
            let advice = try #require(next.split(separator: "Run on bot: ").last?.split(separator: " Then `").first)
            _ = try await scene.source.execute(String(advice))
        } else {
            try await alter(scene, "ADD TABLE guest")
        }
        worker = try scene.start()
        try await worker.waitForErrors("streaming")
        let repaired = try await scene.run(["verify", "--repair", "--execute"])
        #expect(repaired.exitCode == 0, "\(repaired.output)\(repaired.errors)")
        try await scene.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    /// Its changes come under the root's name, and key.
    @Test func aPartitionThatTellsTooLittleIsRefused() async throws {
        let scene = try await BadInputScene(
            script: """
                CREATE TABLE guest (id int, hotel int, k int NOT NULL, name text, PRIMARY KEY (id, hotel), UNIQUE (k, hotel)) PARTITION BY LIST (hotel);
                CREATE TABLE first PARTITION OF guest FOR VALUES IN (1); CREATE TABLE second PARTITION OF guest FOR VALUES IN (2);
                """, tables: "guest: { columns: { bot: \"*\" } }", replication: "heartbeat: 200ms")
        _ = try await scene.source.execute("INSERT INTO guest SELECT i, 1 + i % 2, i, 'x' FROM generate_series(1, 10) i")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute("UPDATE guest SET name = 'y' WHERE id = 3")
        try await scene.waitUntilEqual()
        _ = try await scene.source.execute("ALTER TABLE second REPLICA IDENTITY USING INDEX second_k_hotel_key")
        #expect(try await worker.wait(timeoutSeconds: 60) == 2)
        #expect(worker.errors.contains("ALTER TABLE public.second REPLICA IDENTITY FULL;"), "\(worker.errors)")
        let checked = try await scene.run(["check", "--json"])
        #expect(checked.exitCode == 2 && checked.output.contains("replica_identity"), "\(checked.output)")
        _ = try await scene.source.execute("ALTER TABLE second REPLICA IDENTITY FULL; UPDATE guest SET k = k + 100; DELETE FROM guest WHERE id < 3")
        let again = try scene.start()
        try await scene.waitUntilEqual()
        again.terminate()
        #expect(try await again.wait() == 0, "\(again.errors)")
    }

    /// Without its root's name the stream has partitions that nobody knows; without a partitioned table it makes no difference.
    @Test func aPublicationByPartitionsLacksTheirRoot() async throws {
        let scene = try await BadInputScene(script: "CREATE TABLE guest (id int PRIMARY KEY); CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY RANGE (id)")
        _ = try await scene.source.execute("CREATE TABLE low PARTITION OF whole FOR VALUES FROM (0) TO (100); CREATE PUBLICATION p FOR TABLE guest, whole")
        let settings = settings(scene, publication: "p")
        let cover = try #require(try await PublicationCover.read(settings, on: scene.source))
        func tables(_ names: String...) -> [QualifiedName] { names.map { QualifiedName(schema: "public", name: $0) } }
        try await cover.require(tables("guest"), on: scene.source)
        let failure = await #expect(throws: ReplicationFailure.self) { try await cover.require(tables("guest", "whole"), on: scene.source) }
        #expect(failure?.nextStep.contains("SET (publish_via_partition_root = true);") == true)
    }

    /// What finds the row there is what counts: with FULL the primary key, if there is one.
    @Test(arguments: [
        ("", "", true), ("", "ALTER TABLE low REPLICA IDENTITY USING INDEX low_k_key", false), ("", "ALTER TABLE low REPLICA IDENTITY FULL", true),
        ("ALTER TABLE guest REPLICA IDENTITY FULL", "", true), ("ALTER TABLE guest REPLICA IDENTITY FULL; ALTER TABLE guest DROP CONSTRAINT guest_pkey", "", false),
    ]) func aPartitionTellsEnoughOrNot(_ made: (root: String, leaf: String, isEnough: Bool)) async throws {
        let scene = try await BadInputScene(script: "CREATE TABLE guest (id int PRIMARY KEY, k int NOT NULL) PARTITION BY RANGE (id)")
        _ = try await scene.source.execute(
            "CREATE TABLE low PARTITION OF guest FOR VALUES FROM (0) TO (100); CREATE UNIQUE INDEX low_k_key ON low (k); \(made.root); \(made.leaf)")
        let settings = settings(scene, publication: "s")
        let misfit = try await PartitionIdentity(settings: settings, source: scene.source).misfit(among: [QualifiedName(schema: "public", name: "guest")])
        #expect((misfit == nil) == made.isEnough)
    }

    /// Who holds a table, for hours maybe, keeps the watch from looking, and nothing else.
    @Test func aTableThatIsHeldKeepsNoSignOfLifeWaiting() async throws {
        let scene = try await BadInputScene(
            script: "CREATE TABLE guest (id int PRIMARY KEY, name text) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF guest FOR VALUES FROM (0) TO (100)",
            replication: "heartbeat: 200ms")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        let holder = try await BadInputScene.connect(scene.sourceURL)
        _ = try await holder.execute("BEGIN; LOCK TABLE guest IN ACCESS EXCLUSIVE MODE")
        let began = try #require(try await scene.source.execute("SELECT clock_timestamp()").firstValue)
        try await waitUntil("signs of life come, for longer than the watch waits between two looks") {
            try await scene.target.execute("SELECT FROM lindero.heartbeat WHERE sent_at > '\(began)'::timestamptz + interval '11 s'").rowCount == 1
        }
        _ = try await holder.execute("DROP TABLE guest; COMMIT")
        await holder.close()
        let dropped = try #require(try await scene.source.execute("SELECT clock_timestamp()").firstValue)
        try await waitUntil("it goes on") {
            try await scene.target.execute("SELECT FROM lindero.heartbeat WHERE sent_at > '\(dropped)'::timestamptz + interval '6 s'").rowCount == 1
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    /// A new table under an old name is in no publication.
    @Test func aTableInThePlaceOfAnotherIsMissed() async throws {
        let scene = try await scene()
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        _ = try await scene.source.execute("""
            CREATE TABLE guest_new (LIKE guest INCLUDING ALL); INSERT INTO guest_new SELECT * FROM guest; ALTER TABLE guest RENAME TO guest_old;
            ALTER TABLE guest_new RENAME TO guest; INSERT INTO guest VALUES (3, 'c')
            """)
        #expect(try await worker.wait(timeoutSeconds: 60) == 2)
        #expect(worker.errors.contains("no longer has") && worker.errors.contains("guest"), "\(worker.errors)")
    }

    /// What is dropped for good, or has another name, or is part of another table now, is not missed.
    @Test(arguments: [
        "DROP TABLE stay", "ALTER TABLE stay RENAME TO stays",
        "CREATE TABLE whole (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); ALTER TABLE whole ATTACH PARTITION stay DEFAULT; ALTER PUBLICATION watched ADD TABLE whole",
    ]) func whatIsNoTableOfItsOwnAnyMoreIsNotMissed(_ change: String) async throws {
        let scene = try await scene()
        _ = try await scene.source.execute("CREATE PUBLICATION watched FOR TABLE guest, stay WITH (publish_via_partition_root = true)")
        let settings = settings(scene, publication: "watched")
        let first = try #require(try await PublicationCover.read(settings, on: scene.source))
        _ = try await scene.source.execute(change)
        let sent = Array(first.publication.tables.keys)
        try await PublicationCover.read(settings, on: scene.source)?.require(sent, since: first, on: scene.source)
        // A new one of that name is.
        _ = try await scene.source.execute("ALTER TABLE IF EXISTS stay RENAME TO was; CREATE TABLE stay (id int PRIMARY KEY, v text)")
        let now = try #require(try await PublicationCover.read(settings, on: scene.source))
        await #expect(throws: ReplicationFailure.self) { try await now.require(sent, since: first, on: scene.source) }
    }
}
