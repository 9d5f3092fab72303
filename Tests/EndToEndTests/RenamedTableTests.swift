import PostgresClient
import TestSupport
import Testing

/// What gets another name on the source, under rules that speak of the old one: the stream shows each change under the name of
/// its time, and nothing of it passes by.
@Suite struct RenamedTableTests {
    private static let rows = "SELECT string_agg(v::text, ' ' ORDER BY id) FROM visitor v"

    /// - Parameter tables: what lindero.yaml lists; `nil` for every table.
    private static func file(tables: String?, ddl: String = "pause") -> String {
        let file = BadInputScene.file(tables: tables ?? "", replication: "heartbeat: 200ms, ddl: \(ddl)")
        return tables == nil ? file.replacingOccurrences(of: "tables:\n", with: "") : file
    }

    private func scene(tables: String?, ddl: String = "pause") async throws -> BadInputScene {
        let scene = try await BadInputScene(script: "CREATE TABLE guest (id int PRIMARY KEY, name text)")
        try scene.folder.write(Self.file(tables: tables, ddl: ddl))
        _ = try await scene.source.execute("INSERT INTO guest VALUES (1, 'copied')")
        return scene
    }

    private func expectSame(_ scene: BadInputScene, _ expected: String) async throws {
        try await waitUntil("the target shows \(expected)") {
            (try? await scene.target.execute(Self.rows).firstValue) == expected
        }
        #expect(try await scene.source.execute(Self.rows).firstValue == expected)
    }

    private func stop(_ worker: RunningLindero) async throws {
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    @Test func aTableThatIsRenamedWhileItStreamsWaitsForItsName() async throws {
        let scene = try await scene(tables: nil)
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute("ALTER TABLE guest RENAME TO visitor; INSERT INTO visitor VALUES (2, 'late')")
        try await worker.waitForErrors("Table visitor does not exist on the target.")
        _ = try await scene.target.execute("ALTER TABLE guest RENAME TO visitor")
        try await expectSame(scene, "(1,copied) (2,late)")
        try await stop(worker)
        await PostgresCluster.dropSlots(scene.source)
    }

    /// Two tables that look alike, with a row each, and a worker that streams them.
    private func streamingTwo() async throws -> (BadInputScene, RunningLindero) {
        let scene = try await BadInputScene(
            script: "CREATE TABLE guest (id int PRIMARY KEY, name text); CREATE TABLE visitor (id int PRIMARY KEY, name text)")
        try scene.folder.write(Self.file(tables: nil))
        _ = try await scene.source.execute("INSERT INTO guest VALUES (1, 'guest'); INSERT INTO visitor VALUES (1, 'visitor')")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        return (scene, worker)
    }

    /// Each change would go to the other table, and nothing would say so.
    @Test func tablesThatChangePlacesStopUntilTheTargetsDo() async throws {
        let (scene, first) = try await streamingTwo()
        _ = try await scene.source.execute("UPDATE guest SET name = 'guest before'")
        _ = try await scene.source.execute(
            """
            ALTER TABLE guest RENAME TO other; ALTER TABLE visitor RENAME TO guest; ALTER TABLE other RENAME TO visitor;
            UPDATE guest SET name = 'visitor after'; INSERT INTO visitor VALUES (2, 'guest after');
            """)
        #expect(try await first.wait() == 2)
        #expect(first.errors.contains("Table guest of bot is another one than was copied to sync under that name: that was visitor."), "\(first.errors)")
        #expect(try await scene.target.execute(Self.rows).firstValue == "(1,visitor)", "nothing of it went to the wrong one")
        let again = try scene.start()
        #expect(try await again.wait() == 2, "a start alone mends nothing")
        let sql = try #require(again.errors.firstMatch(of: /run there: (BEGIN;.*COMMIT;) Then/)?.1)
        _ = try await scene.target.execute(String(sql))
        let worker = try scene.start()
        try await expectSame(scene, "(1,\"guest before\") (2,\"guest after\")")
        let guests = Self.rows.replacing("visitor", with: "guest")
        #expect(try await scene.target.execute(guests).firstValue == "(1,\"visitor after\")")
        try await stop(worker)
        await PostgresCluster.dropSlots(scene.source)
    }

    /// A table that was prepared beside it takes the place of another, which is gone.
    @Test func aTableThatTakesTheNameOfAnotherStops() async throws {
        let (scene, first) = try await streamingTwo()
        _ = try await scene.source.execute(
            "ALTER TABLE visitor RENAME TO former; ALTER TABLE guest RENAME TO visitor; INSERT INTO visitor VALUES (2, 'late')")
        #expect(try await first.wait() == 2)
        let sql = try #require(first.errors.firstMatch(of: /run there: (BEGIN;.*COMMIT;) Then/)?.1, "\(first.errors)")
        _ = try await scene.target.execute(String(sql))
        let worker = try scene.start()
        try await expectSame(scene, "(1,guest) (2,late)")
        #expect(try await scene.target.execute("SELECT name FROM former").firstValue == "visitor")
        try await stop(worker)
        await PostgresCluster.dropSlots(scene.source)
    }

    /// The rows that were copied are the new table's: they became its first partition.
    @Test func aTableThatIsMadePartitionedGoesOn() async throws {
        let scene = try await BadInputScene(script: "CREATE TABLE visitor (id int PRIMARY KEY, name text)")
        try scene.folder.write(
            BadInputScene.file(tables: "visitor: { columns: { bot: \"*\" } }", replication: "heartbeat: 200ms, publication: everything"))
        _ = try await scene.source.execute(
            """
            INSERT INTO visitor VALUES (1, 'old');
            CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true);
            """)
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute(
            """
            ALTER TABLE visitor RENAME TO visitor_0; CREATE TABLE visitor (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
            ALTER TABLE visitor ATTACH PARTITION visitor_0 FOR VALUES FROM (0) TO (10);
            CREATE TABLE visitor_1 PARTITION OF visitor FOR VALUES FROM (10) TO (20);
            """)
        _ = try await scene.source.execute("INSERT INTO visitor VALUES (2, 'first'), (11, 'second')")
        try await expectSame(scene, "(1,old) (2,first) (11,second)")
        try await stop(worker)
        await PostgresCluster.dropSlots(scene.source)
    }

    @Test func aTableThatIsListedWaitsForTheList() async throws {
        let scene = try await scene(tables: "guest: { columns: { bot: \"*\" } }")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute("ALTER TABLE guest RENAME TO visitor; INSERT INTO visitor VALUES (2, 'late')")
        try await worker.waitForErrors("Table visitor is none that lindero.yaml speaks of.")
        _ = try await scene.target.execute("ALTER TABLE guest RENAME TO visitor")
        try scene.folder.write(Self.file(tables: "visitor: { columns: { bot: \"*\" } }"))
        try await expectSame(scene, "(1,copied) (2,late)")
        try await stop(worker)
        await PostgresCluster.dropSlots(scene.source)
    }

    @Test func whatWaitsUnderTheOldNameIsNotGivenUpUnlessAPersonSaysSo() async throws {
        let scene = try await scene(tables: nil)
        let first = try scene.start()
        try await first.waitForErrors("streaming")
        try await stop(first)
        for statement in ["INSERT INTO guest VALUES (2, 'old name')", "ALTER TABLE guest RENAME TO visitor", "INSERT INTO visitor VALUES (3, 'new name')"] {
            _ = try await scene.source.execute(statement)
        }
        _ = try await scene.target.execute("ALTER TABLE guest RENAME TO visitor")
        _ = try await scene.target.execute("UPDATE lindero.table_copy SET table_name = 'visitor' WHERE table_name = 'guest'")
        let worker = try scene.start()
        try await worker.waitForErrors("bot has guest as visitor now, and changes under its former name wait in the stream.")
        #expect(try await scene.target.execute(Self.rows).firstValue == "(1,copied)")
        // As it says: the old name until they have passed.
        for side in [scene.source, scene.target] { _ = try await side.execute("ALTER TABLE visitor RENAME TO guest") }
        try await worker.waitForErrors("bot has visitor as guest now, and changes under its former name wait in the stream.")
        for side in [scene.source, scene.target] { _ = try await side.execute("ALTER TABLE guest RENAME TO visitor") }
        // It had another name for a time, in which it was none of the direction's: that is said, with the way on.
        #expect(try await worker.wait() == 2)
        #expect(worker.errors.contains("UPDATE lindero.table_copy SET left_at_lsn = NULL"), "\(worker.errors)")
        _ = try await scene.target.execute("UPDATE lindero.table_copy SET left_at_lsn = NULL")
        let last = try scene.start()
        try await expectSame(scene, "(1,copied) (2,\"old name\") (3,\"new name\")")
        try await stop(last)
        await PostgresCluster.dropSlots(scene.source)
    }

    /// As who renames a table without stopping its services does.
    @Test func aViewUnderTheOldNameIsNotTheTable() async throws {
        let scene = try await scene(tables: nil)
        let first = try scene.start()
        try await first.waitForErrors("streaming")
        try await stop(first)
        for statement in [
            "INSERT INTO guest VALUES (2, 'old name')", "ALTER TABLE guest RENAME TO visitor", "CREATE VIEW guest AS SELECT * FROM visitor",
        ] { _ = try await scene.source.execute(statement) }
        _ = try await scene.target.execute("ALTER TABLE guest RENAME TO visitor; UPDATE lindero.table_copy SET table_name = 'visitor'")
        let worker = try scene.start()
        try await worker.waitForErrors("bot has guest as visitor now, and changes under its former name wait in the stream.")
        let status = try await scene.run(["status"])
        #expect(status.output.contains("paused") && status.output.contains("as visitor now"), "\(status.output)\(status.errors)")
        #expect(try await scene.target.execute(Self.rows).firstValue == "(1,copied)")
        try await stop(worker)
        await PostgresCluster.dropSlots(scene.source)
    }

    /// Added, filled, and given the name of the one that it takes the place of, in one transaction.
    @Test func aColumnThatIsNoMoreKeepsItsValues() async throws {
        let scene = try await scene(tables: nil)
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute(
            """
            BEGIN; ALTER TABLE guest ADD name_new text; UPDATE guest SET name_new = upper(name);
            ALTER TABLE guest DROP name; ALTER TABLE guest RENAME name_new TO name; COMMIT
            """)
        try await worker.waitForErrors("Column guest.name_new does not exist on the target.")
        _ = try await scene.target.execute("ALTER TABLE guest ADD name_new text")
        try await waitUntil("its values are there") {
            try await scene.target.execute("SELECT name_new FROM guest").firstValue == "COPIED"
        }
        try await stop(worker)
        await PostgresCluster.dropSlots(scene.source)
    }

    /// The rules of the time know the new name alone; the target's column tells that it may be the old one.
    @Test func aColumnThatIsRenamedIsNotFollowedAsAnAddition() async throws {
        let scene = try await scene(tables: nil, ddl: "follow")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        for statement in ["ALTER TABLE guest ADD age int DEFAULT 7", "UPDATE guest SET age = 8"] { _ = try await scene.source.execute(statement) }
        try await waitUntil("the addition is followed") {
            (try? await scene.target.execute("SELECT age::text FROM guest").firstValue) == "8"
        }
        for statement in ["ALTER TABLE guest RENAME name TO called", "UPDATE guest SET age = 9"] { _ = try await scene.source.execute(statement) }
        try await worker.waitForErrors("If that is name under a new name, rename it on sync instead.")
        _ = try await scene.target.execute("ALTER TABLE guest RENAME name TO called")
        try await waitUntil("it goes on") {
            try await scene.target.execute("SELECT guest::text FROM guest").firstValue == "(1,copied,9)"
        }
        try await stop(worker)
        await PostgresCluster.dropSlots(scene.source)
    }
}
