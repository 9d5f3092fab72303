import Glibc
import PostgresClient
import TestSupport
import Testing

/// `tables:` grows after the first copy; `check` says what `run` does.
@Suite struct ConfigurationGrowthTests {
    private static let both = "guest: { columns: { bot: \"*\" } }\n  added: { columns: { bot: \"*\" } }"

    private func stopped() async throws -> BadInputScene {
        let scene = try await BadInputScene()
        _ = try await scene.source.execute(
            "INSERT INTO guest VALUES (1, 'a'); CREATE TABLE added (id int PRIMARY KEY, v text); INSERT INTO added VALUES (1, 'old')")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try scene.folder.write(BadInputScene.file(tables: Self.both))
        return scene
    }

    @Test func addedTableIsCreatedAndCopiedAsCheckSays() async throws {
        let scene = try await stopped()
        let check = try await scene.run(["check"])
        #expect(check.exitCode == 0, "\(check.output)")
        #expect(check.output.contains("table added does not exist and will be created"), "\(check.output)")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        #expect(worker.errors.contains("adding tables"))
        _ = try await scene.source.execute("INSERT INTO added VALUES (2, 'new')")
        try await waitUntil("both rows are there") {
            try await scene.target.query("SELECT 1 FROM added").rowCount == 2
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    @Test func addedTableWithoutAKeyBlocksWithTheFix() async throws {
        let scene = try await stopped()
        _ = try await scene.source.execute("ALTER TABLE added DROP CONSTRAINT added_pkey")
        let outcome = try await scene.run(["run", "--http", "none"])
        expectComplaint(outcome, exit: 2, says: ["added", "lindero check"])
        _ = try await scene.source.execute("UPDATE added SET v = 'still allowed'")
    }

    @Test func aTableThatComesWhileItStreamsIsToldAndCopiedByTheNextStart() async throws {
        let scene = try await BadInputScene()
        try scene.folder.write(BadInputScene.file(tables: "").replacing("tables:\n", with: ""))
        let first = try scene.start()
        try await first.waitForErrors("streaming")
        _ = try await scene.source.execute("CREATE TABLE added (id int PRIMARY KEY, v text); INSERT INTO added VALUES (1, 'early')")
        try await first.waitForErrors("tables have come that are in lindero.yaml, and do not travel yet direction=bot->sync")
        #expect(first.errors.contains("tables=added"), "\(first.errors)")
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        let worker = try scene.start()
        try await waitUntil("its row is there") { (try? await scene.target.query("SELECT 1 FROM added").rowCount) == 1 }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    /// A worker whose publication sends every table that there will be, as do its rules.
    private func streamingEverything(_ replication: String) async throws -> (BadInputScene, RunningLindero) {
        let scene = try await BadInputScene()
        try scene.folder.write(
            BadInputScene.file(tables: "\"public.*\": { columns: { bot: \"*\" } }", replication: "\(replication), publication: everything"))
        _ = try await scene.source.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        return (scene, worker)
    }

    /// The rules of the start do not know it, and its copy goes on all the same before anything streams into half of it.
    @Test func aTableThatCameInTheStreamIsWholeAfterALostConnection() async throws {
        let (scene, worker) = try await streamingEverything("copy: { jobs: 1, chunk_size: 1MB, rate_limit: 2MB }, heartbeat: 200ms, ddl: follow")
        _ = try await scene.source.execute("CREATE TABLE added (id int PRIMARY KEY, v text)")
        _ = try await scene.source.execute("INSERT INTO added SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i")
        try await waitUntil("pieces are there: \(worker.errors)", timeoutSeconds: 30) {
            (try? await scene.target.execute("SELECT count(*) >= 2 FROM lindero.table_copy_chunk").firstValue) == "t"
        }
        for side in [scene.target, scene.source] {
            _ = try await side.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        }
        _ = try await scene.source.execute("UPDATE added SET v = 'late' WHERE id > 19990; DELETE FROM added WHERE id = 1")
        try await waitUntil("both are equal: \(worker.errors)", timeoutSeconds: 60) {
            let digest = "SELECT count(*) || ' ' || sum(hashtext(a::text)::bigint) FROM added a"
            return try await scene.source.execute(digest).firstValue == scene.target.execute(digest).firstValue
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    /// A migration makes it on both sides, and the publication sends it from its first row on.
    @Test func aTableThatBothSidesGotWhileItStreamedIsTheDirectionsAtTheNextStart() async throws {
        let (scene, first) = try await streamingEverything("heartbeat: 200ms")
        for side in [scene.target, scene.source] { _ = try await side.execute("CREATE TABLE added (id int PRIMARY KEY, v text)") }
        _ = try await scene.source.execute("INSERT INTO added VALUES (1, 'first')")
        try await waitUntil("its row is there: \(first.errors)") { try await scene.target.query("SELECT 1 FROM added").rowCount == 1 }
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        let worker = try scene.start()
        _ = try await scene.source.execute("INSERT INTO added VALUES (2, 'second'); UPDATE added SET v = 'later' WHERE id = 1")
        try await waitUntil("both are equal: \(worker.errors)", timeoutSeconds: 30) {
            let rows = "SELECT string_agg(a::text, ' ' ORDER BY id) FROM added a"
            return try await scene.source.execute(rows).firstValue == scene.target.execute(rows).firstValue
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    // MARK: a later table whose copy is killed

    private static let guestAlone = "guest: { columns: { bot: \"*\" } }"
    private static let pieces = "copy: { jobs: 1, chunk_size: 1MB, rate_limit: 8MB }, heartbeat: 200ms"

    /// A worker that was killed while it copied a table of 24 MB that came later; `guest` streamed before.
    private func killedInItsCopy() async throws -> BadInputScene {
        let scene = try await BadInputScene(replication: Self.pieces)
        let first = try scene.start()
        try await first.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        _ = try await scene.source.execute(
            "CREATE TABLE added (id int PRIMARY KEY, v text); INSERT INTO added SELECT i, repeat('x', 500) FROM generate_series(1, 40000) i")
        // So slow that it is killed in the midst of it, however late.
        try scene.folder.write(BadInputScene.file(tables: Self.both, replication: Self.pieces.replacing("8MB", with: "2MB")))
        let worker = try scene.start()
        try await waitUntil("five pieces are there: \(worker.errors)", timeoutSeconds: 30) {
            try await scene.target.execute("SELECT count(*) >= 5 FROM lindero.table_copy_chunk").firstValue == "t"
        }
        worker.kill9()
        #expect(try await worker.wait() == 128 + SIGKILL)
        try scene.folder.write(BadInputScene.file(tables: Self.both, replication: Self.pieces))
        _ = try await scene.source.execute(
            """
            UPDATE added SET v = 'changed' WHERE id IN (7, 39999); DELETE FROM added WHERE id IN (8, 39998);
            INSERT INTO added VALUES (-1, 'new'); UPDATE added SET id = -id WHERE id BETWEEN 100 AND 200
            """)
        return scene
    }

    private func expectWhole(_ scene: BadInputScene, _ worker: RunningLindero) async throws {
        let digest = "SELECT count(*) || ' ' || sum(hashtext(a::text)::bigint) FROM added a"
        try await waitUntil("the table is equal: \(worker.errors)", timeoutSeconds: 30) {
            try await scene.source.execute(digest).firstValue == scene.target.execute(digest).firstValue
        }
        let indexes = "SELECT string_agg(indexdef, ' ') FROM pg_indexes WHERE tablename = 'added'"
        let built = try await scene.target.execute(indexes).firstValue
        #expect(try await scene.source.execute(indexes).firstValue == built)
    }

    @Test func addedTableWhoseCopyWasKilledGoesOnWithThePiecesItHas() async throws {
        let scene = try await killedInItsCopy()
        let check = try await scene.run(["check"])
        #expect(check.exitCode == 0, "\(check.output)")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        #expect(worker.errors.contains("keeping copied parts"), "\(worker.errors)")
        try await expectWhole(scene, worker)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    @Test func piecesThatTheStreamPassedByAreNotKept() async throws {
        let scene = try await killedInItsCopy()
        // Without the table for a while: the slot forgets what changed in it.
        try scene.folder.write(BadInputScene.file(tables: Self.guestAlone, replication: Self.pieces))
        let without = try scene.start()
        try await without.waitForErrors("streaming")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (77, 'b'); UPDATE added SET v = 'unseen' WHERE id = 9")
        try await scene.waitUntilEqual()
        without.terminate()
        #expect(try await without.wait() == 0, "\(without.errors)")
        try scene.folder.write(BadInputScene.file(tables: Self.both, replication: Self.pieces))
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        #expect(worker.errors.contains("copying a table from its beginning again"), "\(worker.errors)")
        try await expectWhole(scene, worker)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }
}
