import Foundation
import Glibc
import PostgresClient
import TestSupport
import Testing

/// The worker itself with `streaming: on`: killed, short of memory, with files that somebody spoils.
@Suite struct StreamingWorkerTests {
    private final class Scene: Sendable {
        let inner: BadInputScene
        let base = "/tmp/lindero-spill-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)

        init(
            memoryLimit: String = "1MB", script: String, tables: String = "\"*\": { columns: { bot: \"*\" } }"
        ) async throws {
            let memory = """
                DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET logical_decoding_work_mem = ''64kB''', current_database()); END $$;
                """
            inner = try await BadInputScene(
                source: try await PostgresCluster.shared("streaming"), script: memory + script, tables: tables,
                replication:
                    "streaming: on, spill_dir: \(base), memory_limit: \(memoryLimit), heartbeat: 200ms")
        }

        deinit { try? FileManager.default.removeItem(atPath: base) }

        var folders: [String] {
            ((try? FileManager.default.contentsOfDirectory(atPath: base)) ?? []).map { "\(base)/\($0)" }
        }
        var files: [String] {
            folders.flatMap { folder in
                ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).map {
                    "\(folder)/\($0)"
                }
            }
        }

        func session() async throws -> PostgresConnection { try await BadInputScene.connect(inner.sourceURL) }
    }

    private static let guest = "CREATE TABLE guest (id int PRIMARY KEY, name text);"
    private static func rows(_ first: Int, _ last: Int) -> String {
        "INSERT INTO guest SELECT i, repeat(i || '-', 20) FROM generate_series(\(first), \(last)) i"
    }

    /// A worker has died while a transaction of the session still ran, and has left a folder with a file.
    private func killedWhileItSpills() async throws -> (scene: Scene, session: PostgresConnection, left: String) {
        let scene = try await Scene(script: Self.guest)
        let session = try await scene.session()
        let worker = try scene.inner.start()
        try await worker.waitForErrors("streaming")
        _ = try await session.execute("BEGIN; \(Self.rows(1, 10_000))")
        try await waitUntil("it spills") { !scene.files.isEmpty }
        let left = try #require(scene.folders.first)
        worker.kill9()
        #expect(try await worker.wait() == 128 + SIGKILL)
        #expect(!scene.files.isEmpty)
        return (scene, session, left)
    }

    @Test func killedWhileItSpillsAndWhileItReplaysNothingIsLostOrDoubled() async throws {
        let (scene, session, left) = try await killedWhileItSpills()
        var worker = try scene.inner.start()
        try await waitUntil("it spills anew") { !scene.files.isEmpty && scene.folders != [left] }
        #expect(!FileManager.default.fileExists(atPath: left), "what the dead worker left is removed")
        _ = try await session.execute("\(Self.rows(10_001, 20_000))")

        let blocker = try await BadInputScene.connect(scene.inner.targetURL)
        _ = try await blocker.execute("BEGIN; LOCK TABLE guest IN SHARE MODE")
        _ = try await session.execute("COMMIT")
        try await waitUntil("it is being replayed") {
            try await blocker.execute(Self.waits).rows.first?[0] == "1"
        }
        worker.kill9()
        #expect(try await worker.wait() == 128 + SIGKILL)
        _ = try await blocker.execute("COMMIT")
        #expect(try await blocker.execute("SELECT count(*) FROM guest").rows.first?[0] == "0")
        worker = try scene.inner.start()
        try await scene.inner.waitUntilEqual()
        try await waitUntil("its file is gone") { scene.files.isEmpty }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        #expect(scene.folders.isEmpty)
        await blocker.close()
        await session.close()
    }

    @Test func filesOfAKilledWorkerGoAtTheNextStartThatNeedsNone() async throws {
        let (scene, session, _) = try await killedWhileItSpills()
        try scene.inner.folder.write(
            BadInputScene.file(tables: "\"*\": { columns: { bot: \"*\" } }", replication: "streaming: off, spill_dir: \(scene.base)"))
        let worker = try scene.inner.start()
        try await worker.waitForErrors("streaming")
        #expect(scene.folders.isEmpty)
        _ = try await session.execute("ROLLBACK")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await session.close()
    }

    private static let held = """
        SELECT count(*) FROM pg_locks WHERE relation = 'guest'::regclass AND mode = 'RowExclusiveLock' AND granted
          AND pid <> pg_backend_pid()
        """
    private static let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'guest'::regclass AND NOT granted"

    @Test func runningTransactionIsAppliedGivesWayAndIsThereOnceAfterItsCommit() async throws {
        let scene = try await Scene(script: Self.guest + "CREATE TABLE other (id int PRIMARY KEY);")
        let session = try await scene.session()
        let worker = try scene.inner.start()
        try await worker.waitForErrors("streaming")
        let target = try await BadInputScene.connect(scene.inner.targetURL)
        func value(_ sql: String) async throws -> String? { try await target.execute(sql).rows.first?[0] }

        _ = try await session.execute("BEGIN; \(Self.rows(1, 10_000))")
        try await waitUntil("it is being applied") { try await value(Self.held) == "1" }
        #expect(try await value("SELECT count(*) FROM guest") == "0", "nothing of it shows before its commit")
        // Nobody's commit waits for it.
        _ = try await scene.inner.source.execute("INSERT INTO other VALUES (1)")
        try await waitUntil("the other one is there") { try await value("SELECT count(*) FROM other") == "1" }
        #expect(try await value(Self.held) == "0")
        _ = try await session.execute("\(Self.rows(10_001, 20_000)); COMMIT")
        try await scene.inner.waitUntilEqual()

        // It is taken back after some seconds, perhaps before anybody has looked: then it comes again.
        var begun = ContinuousClock.now
        _ = try await session.execute("BEGIN; UPDATE guest SET name = 'early' WHERE id <= 6000")
        try await waitUntil("the next is being applied") {
            if begun.duration(to: .now) > .seconds(5) {
                _ = try await session.execute("ROLLBACK; BEGIN; UPDATE guest SET name = 'early' WHERE id <= 6000")
                begun = .now
            }
            return try await value(Self.held) == "1"
        }
        // It is taken back by itself when nothing more comes of it.
        try await waitUntil("its rows are free") { try await value(Self.held) == "0" }
        _ = try await session.execute("ROLLBACK; BEGIN; UPDATE guest SET name = 'late' WHERE id <= 6000; COMMIT")
        try await scene.inner.waitUntilEqual()
        #expect(try await value("SELECT count(*) FROM guest WHERE name = 'late'") == "6000")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        #expect(scene.folders.isEmpty)
        await target.close()
        await session.close()
    }

    @Test func whoHoldsRowsOfTheTargetKeepsNobodyWaitingButTheTransactionItself() async throws {
        let scene = try await Scene(script: Self.guest + "CREATE TABLE other (id int PRIMARY KEY);")
        let session = try await scene.session()
        let worker = try scene.inner.start()
        try await worker.waitForErrors("streaming")
        let blocker = try await BadInputScene.connect(scene.inner.targetURL)
        _ = try await blocker.execute("BEGIN; LOCK TABLE guest IN SHARE MODE")
        _ = try await session.execute("BEGIN; \(Self.rows(1, 10_000))")
        // Not for long: who looks late finds that it has given up.
        try await waitUntil("it waits for the table") {
            try await blocker.execute(Self.waits).rows.first?[0] == "1" || worker.errors.contains("applied at its commit")
        }
        _ = try await scene.inner.source.execute("INSERT INTO other VALUES (1)")
        try await waitUntil("the other one is there") {
            try await blocker.execute("SELECT count(*) FROM other").rows.first?[0] == "1"
        }
        try await worker.waitForErrors("applied at its commit")
        _ = try await session.execute("COMMIT")
        _ = try await blocker.execute("COMMIT")
        try await scene.inner.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await blocker.close()
        await session.close()
    }

    @Test func spoiltFileIsToldAndTheTransactionComesAgain() async throws {
        let scene = try await Scene(script: Self.guest)
        let session = try await scene.session()
        let worker = try scene.inner.start()
        try await worker.waitForErrors("streaming")
        _ = try await session.execute("BEGIN; \(Self.rows(1, 10_000))")
        try await waitUntil("it spills") {
            scene.files.contains {
                (try? FileManager.default.attributesOfItem(atPath: $0)[.size] as? Int) ?? 0 > 200_000
            }
        }
        // Else it would be applied from what comes, and nobody would look into the file.
        _ = try await scene.inner.source.execute("INSERT INTO guest VALUES (-1, 'between')")
        try await waitUntil("the one between is there") {
            try await scene.inner.target.execute("SELECT count(*) FROM guest").rows.first?[0] == "1"
        }
        let file = try #require(scene.files.first)
        let handle = try #require(FileHandle(forUpdatingAtPath: file))
        try handle.seek(toOffset: 1_000)
        try handle.write(contentsOf: Array("somebody else's bytes".utf8))
        try handle.close()
        _ = try await session.execute("COMMIT")
        try await worker.waitForErrors("its checksum does not fit")
        try await scene.inner.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await session.close()
    }

    @Test func refusedChangeOfALargeTransactionGoesIntoQuarantine() async throws {
        let scene = try await Scene(
            script: Self.guest, tables: "guest: { on_error: quarantine, columns: { bot: \"*\" } }")
        _ = try await scene.inner.target.execute(
            "ALTER TABLE guest ADD CONSTRAINT nobody_bad CHECK (name <> 'bad')")
        let worker = try scene.inner.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.inner.source.execute(
            "BEGIN; \(Self.rows(1, 6_000)); INSERT INTO guest VALUES (7000, 'bad'); SAVEPOINT s; INSERT INTO guest VALUES (7001, 'bad'); "
                + "ROLLBACK TO s; \(Self.rows(8_000, 14_000)); COMMIT")
        try await waitUntil("the rest is there", timeoutSeconds: 60) {
            try await scene.inner.target.execute("SELECT count(*) FROM guest").rows.first?[0] == "12001"
        }
        let list = try await scene.inner.run(["quarantine", "list"])
        #expect(list.exitCode == 3)
        #expect(list.output.components(separatedBy: "insert guest").count == 2, "\(list.output)")
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    @Test func folderThatCannotBeUsedIsRefusedWithWhatToDo() async throws {
        let scene = try await Scene(script: Self.guest)
        try FileManager.default.createDirectory(atPath: scene.base, withIntermediateDirectories: true)
        chmod(scene.base, 0o777)
        let outcome = try await scene.inner.run(["run", "--http", "none"])
        #expect(outcome.exitCode == 2, "\(outcome.errors)")
        #expect(
            outcome.errors.contains(scene.base) && outcome.errors.contains("spill_dir"), "\(outcome.errors)")
    }

    @Test func memoryStaysBoundedWithATransactionManyTimesTheLimit() async throws {
        let scene = try await Scene(
            memoryLimit: "16MB", script: Self.guest + "ALTER TABLE guest ALTER name SET STORAGE EXTERNAL;")
        let worker = try scene.inner.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.inner.source.execute("INSERT INTO guest VALUES (-1, 'first')")
        try await scene.inner.waitUntilEqual()
        let before = try Self.peakMemoryKilobytes(worker)
        // 240 MB, in rows of 3 kB, half of it taken back.
        _ = try await scene.inner.source.execute(
            "BEGIN; INSERT INTO guest SELECT i, repeat(md5(i::text), 94) FROM generate_series(1, 40000) i; SAVEPOINT s; "
                + "UPDATE guest SET name = 'gone'; ROLLBACK TO s; COMMIT")
        try await waitUntil("it is there", timeoutSeconds: 120) {
            try await scene.inner.target.execute("SELECT count(*) FROM guest").rows.first?[0] == "40001"
        }
        let peak = try Self.peakMemoryKilobytes(worker)
        // The limit, and a row is small; the transaction is 240 MB.
        #expect(peak - before < 16 << 10, "\(before) kB before, \(peak) kB at most")
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    private static func peakMemoryKilobytes(_ worker: RunningLindero) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(worker.child.processID)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return try #require(line.flatMap { Int($0.filter(\.isNumber)) })
    }

    // MARK: killed again and again

    private static let kills =
        ProcessInfo.processInfo.environment["LINDERO_TEST_STREAM_KILLS"].flatMap { Int($0) } ?? 20
    private static let ledger = """
        CREATE TABLE ledger (w int, n int, k int, note text, PRIMARY KEY (w, n, k));
        CREATE TABLE counter (w int PRIMARY KEY, last int NOT NULL);
        """
    /// Every transaction is there whole or not at all, in order.
    private static let check = """
        SELECT coalesce(bool_and(many = 900 * top AND last = top), true) FROM
          (SELECT w, max(n) AS top, count(*) AS many FROM ledger GROUP BY w) l FULL JOIN (SELECT * FROM counter WHERE last > 0) c USING (w)
        """

    @Test func killedAtRandomMomentsUnderLargeTransactionsTheTargetStaysAPrefix() async throws {
        let scene = try await Scene(script: Self.ledger)
        _ = try await scene.inner.source.execute(
            "INSERT INTO counter SELECT w, 0 FROM generate_series(1, 4) w")
        // The copy comes first, table by table: only the stream keeps both tables of one moment.
        let first = try scene.inner.start()
        try await first.waitForErrors("streaming")
        first.terminate()
        #expect(try await first.wait() == 0)
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        let writing = (1...3).map { writer in Task { try await Self.write(writer, scene) } }
        let checking = Task { try await Self.keepChecking(scene, seed) }
        for _ in 0..<Self.kills {
            let worker = try scene.inner.start()
            try await Task.sleep(for: .milliseconds(200 + random.below(1_500)))
            worker.kill9()
            #expect(try await worker.wait() == 128 + SIGKILL, "seed \(seed)")
        }
        for task in writing { task.cancel() }
        for task in writing { _ = try await task.value }
        let worker = try scene.inner.start()
        let sum =
            "SELECT sum(hashtext(l::text)::bigint)::text || ' ' || (SELECT sum(last) FROM counter) FROM ledger l"
        let expected = try await scene.inner.source.execute(sum).rows.first?[0]
        try await waitUntil("both sides are equal (seed \(seed))", timeoutSeconds: 120) {
            try await scene.inner.target.execute(sum).rows.first?[0] == expected
        }
        checking.cancel()
        #expect(try await checking.value > Self.kills, "seed \(seed)")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        #expect(scene.folders.isEmpty)
    }

    private static func write(_ writer: Int, _ scene: Scene) async throws {
        let connection = try await scene.session()
        var number = 0
        while !Task.isCancelled {
            number += 1
            do {
                try await writeOnce(writer, number, connection)
            } catch {
                // Its session ends, and what was not committed goes.
                if Task.isCancelled { break }
                throw error
            }
            try? await Task.sleep(for: .milliseconds(60))
        }
        await connection.close()
    }

    private static func writeOnce(_ writer: Int, _ number: Int, _ connection: PostgresConnection) async throws
    {
        _ = try await connection.execute(
            """
            BEGIN; INSERT INTO ledger SELECT \(writer), \(number), k, repeat('x', 100) FROM generate_series(1, 600) k; SAVEPOINT s;
            UPDATE ledger SET note = 'gone' WHERE w = \(writer) AND n = \(number); UPDATE counter SET last = -1 WHERE w = \(writer);
            ROLLBACK TO s; INSERT INTO ledger SELECT \(writer), \(number), k, repeat('y', 100) FROM generate_series(601, 900) k;
            UPDATE counter SET last = \(number) WHERE w = \(writer); COMMIT
            """)
        if number % 7 == 0 {
            _ = try await connection.execute(
                "BEGIN; UPDATE ledger SET note = 'never' WHERE w = \(writer); ROLLBACK")
        }
    }

    private static func keepChecking(_ scene: Scene, _ seed: UInt64) async throws -> Int {
        let connection = try await BadInputScene.connect(scene.inner.targetURL)
        var checks = 0
        while !Task.isCancelled {
            let answer = try? await connection.query(check).rows.first?[0]
            if Task.isCancelled { break }
            #expect(answer == "t", "seed \(seed)")
            if answer != "t" { break }
            checks += 1
            try? await Task.sleep(for: .milliseconds(50))
        }
        await connection.close()
        return checks
    }
}
