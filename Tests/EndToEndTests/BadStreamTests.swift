import Foundation
import Glibc
import PostgresClient
import TestSupport
import Testing

/// What goes wrong while it streams, or between two runs: the worker says so, and nothing is lost.
@Suite struct BadStreamTests {
    /// A replica that was copied and has streamed, and is stopped.
    private func stoppedReplica(_ source: PostgresCluster? = nil) async throws -> BadInputScene {
        let scene = try await BadInputScene(source: source)
        _ = try await scene.source.execute("INSERT INTO guest SELECT n, 'x' FROM generate_series(1, 100) n")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (101, 'streamed')")
        try await scene.waitUntilEqual()
        try await stop(worker)
        return scene
    }

    private func stop(_ worker: RunningLindero) async throws {
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    private func ended(_ worker: RunningLindero, exit: Int32, says words: [String]) async throws {
        let code = try await worker.wait()
        expectComplaint(.init(exitCode: code, output: worker.output, errors: worker.errors), exit: exit, says: words)
    }

    /// Does what `next:` says about a new copy, word for word.
    private func copyAnew(_ scene: BadInputScene, slot: String) async throws {
        let down = try await scene.run(["migrate", "--down"])
        #expect(down.exitCode == 0, "\(down.errors)")
        _ = try await scene.target.execute("TRUNCATE guest")
        _ = try await scene.source.query(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '\(slot)'")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await scene.waitUntilEqual()
        try await stop(worker)
    }

    private func slot(_ scene: BadInputScene) async throws -> String {
        let rows = try await scene.source.query(
            "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
        return try #require(rows.rows.first?[0])
    }

    @Test func droppedSlotIsRefusedAndTheAdviceWorks() async throws {
        let scene = try await stoppedReplica()
        let slot = try await slot(scene)
        _ = try await scene.source.query("SELECT pg_drop_replication_slot('\(slot)')")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (200, 'missed')")
        try await ended(
            try scene.start(), exit: 2,
            says: ["Replication slot \(slot) does not exist on bot", "where: bot->sync", "lindero migrate --down"])
        let check = try await scene.run(["check"])
        #expect(check.exitCode == 2)
        #expect(check.output.contains("blocker: bot: bot->sync: Replication slot \(slot) does not exist"), "\(check.output)")
        #expect(try await scene.target.query("SELECT 1 FROM guest").rowCount == 101)
        try await copyAnew(scene, slot: slot)
    }

    @Test func recreatedSlotIsRefusedAndTheAdviceWorks() async throws {
        let scene = try await stoppedReplica()
        let slot = try await slot(scene)
        _ = try await scene.source.query("SELECT pg_drop_replication_slot('\(slot)')")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (200, 'missed')")
        _ = try await scene.source.query("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
        try await ended(
            try scene.start(), exit: 2,
            says: ["Replication slot \(slot) on bot starts at", "recreated", "where: bot->sync", "lindero migrate --down"])
        let json = try await scene.run(["run", "--json", "--http", "none"])
        #expect(json.exitCode == 2)
        #expect(try failure(json).code == "slot_recreated")
        let check = try await scene.run(["check", "--json"])
        #expect(check.exitCode == 2)
        #expect(check.output.contains("\"slot_recreated\""), "\(check.output)")
        #expect(try await scene.target.query("SELECT 1 FROM guest").rowCount == 101)
        try await copyAnew(scene, slot: slot)
    }

    @Test func otherClusterBehindTheSameNameIsRefused() async throws {
        let scene = try await stoppedReplica()
        let slot = try await slot(scene)
        let other = try await PostgresCluster.start()
        defer { other.remove() }
        let url = try await other.createDatabase(prefix: "other")
        let there = try await BadInputScene.connect(url)
        _ = try await there.execute("CREATE TABLE guest (id int PRIMARY KEY, name text)")
        _ = try await there.execute("CREATE PUBLICATION \(slot) FOR TABLE guest")
        _ = try await there.query("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
        // The slot's name comes from the database's: adopt it by name to find the same one there.
        try scene.folder.write(
            BadInputScene.file(
                tables: "guest: { columns: { bot: \"*\" } }",
                replication: "snapshot: never, slot: \(slot), publication: \(slot)"))
        let outcome = try await scene.run(["run", "--http", "none"], ["BOT_URL": url])
        expectComplaint(
            outcome, exit: 2,
            says: ["bot is another PostgreSQL cluster", "where: bot->sync", "Correct the address of bot"])
    }

    /// An older copy of the source's files, as a snapshot of its disk is: once it has written as much as was lost, no position tells it.
    @Test func sourceThatWentBackIsRefusedHoweverMuchItHasWrittenSince() async throws {
        let cluster = try await PostgresCluster.start()
        defer { cluster.remove() }
        let scene = try await stoppedReplica(cluster)
        let copy = cluster.folder + "/../copy-\(UInt64.random(in: 0...UInt64.max))"
        defer { try? FileManager.default.removeItem(atPath: copy) }
        func source(_ sql: String) async throws {
            let connection = try await BadInputScene.connect(scene.sourceURL)
            _ = try await connection.execute(sql)
            await connection.close()
        }
        try await cluster.stop()
        try #require(Self.shell("cp -a '\(cluster.folder)' '\(copy)'"))
        try await cluster.restart()
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        try await source("INSERT INTO guest SELECT n, 'only on the target' FROM generate_series(1000, 1200) n")
        try await waitUntil("it has arrived") { try await scene.target.execute("SELECT FROM guest WHERE id = 1200").rowCount == 1 }
        try await stop(worker)
        try await cluster.stop()
        try #require(Self.shell("rm -rf '\(cluster.folder)/data' && cp -a '\(copy)/data' '\(cluster.folder)/data'"))
        try await cluster.restart()
        try await ended(try scene.start(), exit: 2, says: ["but bot has only reached", "ahead_at"])

        try await source("INSERT INTO guest SELECT n, repeat('only on the source', 50) FROM generate_series(2000, 2999) n")
        try await ended(try scene.start(), exit: 2, says: ["changes that bot lacked at", "lindero migrate --down"])
        let checked = try await scene.run(["check", "--json"])
        #expect(checked.exitCode == 2 && checked.output.contains("target_ahead"), "\(checked.output)")
        #expect(try await scene.target.execute("SELECT FROM guest WHERE id >= 2000").rows.isEmpty)
    }

    private static func shell(_ line: String) -> Bool { system(line) == 0 }

    /// PostgreSQL 18 no longer fails without the publication: it warns, and leaves the changes out.
    static let versions = Set([PostgresBinaries.defaultVersion, 18]).filter { (try? PostgresBinaries(version: $0)) != nil }

    @Test(arguments: versions.sorted())
    func publicationDroppedMidStreamStopsAndTheAdviceWorks(_ version: Int) async throws {
        let source = try await PostgresCluster.shared("source", version: version)
        // Warnings that the role does not want to hear are heard all the same.
        let scene = try await stoppedReplica(source)
        let name = scene.sourceURL.components(separatedBy: "/").last ?? ""
        _ = try await scene.source.execute("ALTER DATABASE \"\(name)\" SET client_min_messages = 'error'")
        let slot = try await slot(scene)
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute("DROP PUBLICATION \"\(slot)\"")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (200, 'undecodable')")
        try await ended(worker, exit: 2, says: ["Publication \(slot) does not exist on bot", "where: bot->sync"])
        // Recreated, it is still missing from the past that the slot has to decode.
        _ = try await scene.source.execute("CREATE PUBLICATION \"\(slot)\" FOR TABLE guest")
        try await ended(try scene.start(), exit: 2, says: ["\(slot)", "where: bot->sync", "lindero migrate --down"])
        #expect(try await scene.target.query("SELECT 1 FROM guest").rowCount == 101)
        try await copyAnew(scene, slot: slot)
    }

    @Test func tableThatGoesMissingOnTheTargetPausesUntilItIsBack() async throws {
        let scene = try await stoppedReplica()
        _ = try await scene.target.execute("ALTER TABLE guest RENAME TO away")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (200, 'waits')")
        let worker = try scene.start()
        try await worker.waitForErrors("Table guest does not exist on the target.")
        #expect(worker.errors.contains("Run on sync: CREATE TABLE"))
        #expect(worker.errors.contains("direction=bot->sync"))
        _ = try await scene.target.execute("ALTER TABLE away RENAME TO guest")
        try await scene.waitUntilEqual()
        try await stop(worker)
    }

    @Test func secondCtrlCLosesNothing() async throws {
        let scene = try await stoppedReplica()
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.target.execute("BEGIN; LOCK TABLE guest IN ACCESS EXCLUSIVE MODE")
        _ = try await scene.source.execute("INSERT INTO guest SELECT n, 'held up' FROM generate_series(200, 300) n")
        let looking = try await BadInputScene.connect(scene.targetURL)
        try await waitUntil("the applier waits for the lock") {
            try await looking.query(
                "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT granted "
                    + "AND datname = current_database()"
            ).rowCount > 0
        }
        worker.interrupt()
        try await worker.waitForErrors("once more ends at once")
        worker.interrupt()
        #expect(try await worker.wait() == 130)
        #expect(worker.errors.contains("Ended at once. Progress is safe"))
        #expect(worker.errors.contains("Next: lindero run"))
        _ = try await scene.target.execute("ROLLBACK")
        let again = try scene.start()
        try await scene.waitUntilEqual()
        try await again.waitForErrors("streaming")
        try await stop(again)
    }

    @Test func signalThatComesTwiceInOneMomentIsOne() async throws {
        let scene = try await stoppedReplica()
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        // Both wait for it when it goes on; two of one kind would be one by then.
        worker.pause()
        worker.terminate()
        worker.interrupt()
        worker.resume()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }
}
