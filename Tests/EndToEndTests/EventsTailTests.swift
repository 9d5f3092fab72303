import Foundation
import PostgresClient
import TestSupport
import Testing

@Suite struct EventsTailTests {
    @Test func everyOperationIsAnEvent() async throws {
        let scene = try await TailScene()
        let tail = try await scene.start()
        _ = try await scene.database.execute(
            """
            INSERT INTO "Reservas" VALUES ('beds24-1', 2, 99.50, true, '{"a":
            [1, 2]}', 'O''Neill "x"', NULL);
            UPDATE "Reservas" SET guests = 3, rate = 'NaN' WHERE "bookingId" = 'beds24-1';
            UPDATE "Reservas" SET "bookingId" = 'beds24-2';
            DELETE FROM "Reservas";
            TRUNCATE "Reservas"
            """)
        let events = try await scene.events(of: tail, count: 5)
        #expect(events.map(\.operation) == ["insert", "update", "update", "delete", "truncate"])
        #expect(events.allSatisfy { $0.json["table"] as? String == "Reservas" && $0.json["schema"] as? String == "public" })
        let inserted = try #require(events[0].json["new"] as? [String: Any])
        #expect(inserted["guests"] as? Int == 2)
        #expect(inserted["rate"] as? Double == 99.5)
        #expect(inserted["isPaid"] as? Bool == true)
        #expect((inserted["apiData"] as? [String: Any])?["a"] as? [Int] == [1, 2])
        #expect(inserted["guestName"] as? String == "O'Neill \"x\"")
        #expect(inserted["document"] is NSNull)
        #expect((events[1].json["new"] as? [String: Any])?["rate"] as? String == "NaN")
        #expect(events[2].json["key"] as? [String: String] == ["bookingId": "beds24-2"])
        #expect(events[2].json["oldKey"] as? [String: String] == ["bookingId": "beds24-1"])
        #expect(events[3].json["key"] as? [String: String] == ["bookingId": "beds24-2"])
        let commit = try #require(events[0].json["commitTime"] as? String)
        let seconds = try Date(commit.replacing(/\.\d+/, with: ""), strategy: .iso8601).timeIntervalSinceNow
        #expect(abs(seconds) < 600)
        tail.terminate()
        #expect(try await tail.wait() == 0)
        #expect(!tail.errors.contains("Neill"))
    }

    @Test func unchangedTOASTIsNamedAndFullIdentityHasTheOldRow() async throws {
        let scene = try await TailScene()
        _ = try await scene.database.execute(
            """
            ALTER TABLE "Reservas" ALTER document SET STORAGE EXTERNAL;
            INSERT INTO "Reservas" VALUES ('b', 1, 1, true, '{}', 'x', repeat('d', 20000))
            """)
        let tail = try await scene.start()
        _ = try await scene.database.execute("UPDATE \"Reservas\" SET guests = 2")
        _ = try await scene.database.execute(
            "ALTER TABLE \"Reservas\" REPLICA IDENTITY FULL; UPDATE \"Reservas\" SET guests = 3; DELETE FROM \"Reservas\"")
        let events = try await scene.events(of: tail, count: 3)
        #expect(events[0].json["unchanged"] as? [String] == ["document"])
        #expect((events[0].json["new"] as? [String: Any])?["document"] == nil)
        #expect(events[1].json["unchanged"] as? [String] == [])
        #expect(((events[1].json["new"] as? [String: Any])?["document"] as? String)?.count == 20_000)
        #expect((events[1].json["old"] as? [String: Any])?["guests"] as? Int == 2)
        #expect(events[1].json["key"] as? [String: String] == ["bookingId": "b"])
        #expect(events[1].json["oldKey"] == nil)
        #expect((events[2].json["old"] as? [String: Any])?["guests"] as? Int == 3)
    }

    @Test func killedTailLeavesNoSlotAndTheWorkersSlotStays() async throws {
        let scene = try await TailScene()
        let before = try await scene.workerSlot()
        let tail = try await scene.start()
        #expect(try await scene.slotCount() == 2)
        _ = try await scene.database.execute("INSERT INTO \"Leads\" VALUES (1)")
        _ = try await scene.events(of: tail, count: 1)
        tail.kill9()
        _ = try await tail.wait()
        try await waitUntil("the temporary slot is gone") { try await scene.slotCount() == 1 }
        #expect(try await scene.workerSlot() == before)
    }

    @Test func limitEndsItAndOnlyTheNamedTableIsPrinted() async throws {
        let scene = try await TailScene()
        let tail = try await scene.start(["--table", "Leads", "--limit", "3"])
        _ = try await scene.database.execute(
            "INSERT INTO \"Reservas\" VALUES ('b'); INSERT INTO \"Leads\" SELECT generate_series(1, 9)")
        #expect(try await tail.wait() == 0)
        let events = try await scene.events(of: tail, count: 3)
        #expect(events.allSatisfy { $0.json["table"] as? String == "Leads" })
        #expect(tail.output.hasSuffix("}\n"))
        try await waitUntil("the temporary slot is gone") { try await scene.slotCount() == 1 }
    }

    @Test func caughtUpOnAnIdleDatabaseItEnds() async throws {
        let scene = try await TailScene()
        let tail = try await scene.start(["--until-caught-up"])
        #expect(try await tail.wait() == 0)
        #expect(tail.output.isEmpty)
    }

    @Test func caughtUpUnderLoadItEndsWithTheWholeOfWhatItPrints() async throws {
        let scene = try await TailScene()
        let writer = Task {
            var number = 0
            while !Task.isCancelled {
                number += 1
                _ = try await scene.database.execute("INSERT INTO \"Leads\" VALUES (\(number))")
            }
        }
        for _ in 0..<3 {
            let outcome = try await LinderoProcess.run(
                ["events", "tail", "--until-caught-up"], environment: ["DATABASE_URL": scene.url])
            #expect(outcome.exitCode == 0)
            let ids = try outcome.output.split(separator: "\n").map { line in
                let event = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                return try #require((event?["key"] as? [String: Int])?["id"])
            }
            #expect(ids == ids.first.map { Array($0..<$0 + ids.count) } ?? [])
        }
        writer.cancel()
        _ = await writer.result
    }

    @Test func configurationFileChoosesTheTables() async throws {
        let scene = try await TailScene()
        let path = NSTemporaryDirectory() + "lindero-tail-" + UUID().uuidString + ".yaml"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try """
        version: 1
        backend: shared
        databases: { bot: { url: env:BOT_URL } }
        origin: bot
        tables:
          Leads: { match: [id], insert: bot, delete: bot, columns: { bot: "*" } }
        """.write(toFile: path, atomically: true, encoding: .utf8)
        let tail = try LinderoProcess.start(
            ["events", "tail", "--config", path, "--limit", "1"], environment: ["BOT_URL": scene.url])
        try await tail.waitForErrors("following events")
        _ = try await scene.database.execute(
            "INSERT INTO \"Reservas\" VALUES ('b'); INSERT INTO \"Leads\" VALUES (1)")
        #expect(try await tail.wait() == 0)
        #expect(try await scene.events(of: tail, count: 1).first?.json["table"] as? String == "Leads")
    }

    @Test func lostServerIsAFailureThatSaysFromWhere() async throws {
        let scene = try await TailScene()
        let tail = try await scene.start()
        _ = try await scene.database.execute(
            """
            SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
            WHERE temporary AND database = current_database()
            """)
        #expect(try await tail.wait() == 1)
        #expect(tail.errors.contains("events after this position may be missing"))
        #expect(tail.errors.contains("next:"), "\(tail.errors)")
    }

    @Test func closedPipeEndsItCleanly() async throws {
        let scene = try await TailScene()
        let shell = try ChildProcess(
            "/bin/bash", ["-c", "\"$0\" events tail | head -1; echo \"codes ${PIPESTATUS[*]}\"", try LinderoProcess.program()],
            environment: ["PATH": "/usr/bin:/bin", "DATABASE_URL": scene.url, "HOME": "/tmp"], folder: nil)
        try await waitUntil("the tail follows") { shell.errors.contains("following events") }
        // Nothing is written after the first line: the tail must see by itself that nobody reads any more.
        _ = try await scene.database.execute("INSERT INTO \"Leads\" VALUES (1)")
        #expect(try await shell.wait(timeoutSeconds: 60) == 0)
        #expect(shell.output.contains("codes 0 0"), "\(shell.output) \(shell.errors)")
        #expect(shell.output.split(separator: "\n").count == 2)
    }

    @Test func readerThatHasGoneInALargeTransactionEndsItCleanly() async throws {
        let scene = try await TailScene()
        let shell = try ChildProcess(
            "/bin/bash", ["-c", "\"$0\" events tail | head -1; echo \"codes ${PIPESTATUS[*]}\"", try LinderoProcess.program()],
            environment: ["PATH": "/usr/bin:/bin", "DATABASE_URL": scene.url, "HOME": "/tmp"], folder: nil)
        try await waitUntil("the tail follows") { shell.errors.contains("following events") }
        _ = try await scene.database.execute("INSERT INTO \"Leads\" SELECT generate_series(1, 50000)")
        #expect(try await shell.wait(timeoutSeconds: 60) == 0)
        #expect(shell.output.contains("codes 0 0"), "\(shell.output) \(shell.errors)")
    }

    @Test func readerThatStandsStillCostsNeitherMemoryNorTheStream() async throws {
        let scene = try await TailScene()
        let shell = try ChildProcess(
            "/bin/bash",
            ["-c", "\"$0\" events tail --limit 60000 | (read -r first; read -r go < \"$1\"; wc -l)", try LinderoProcess.program(), scene.fifo],
            environment: ["PATH": "/usr/bin:/bin", "DATABASE_URL": scene.url, "HOME": "/tmp"], folder: nil)
        try await waitUntil("the tail follows") { shell.errors.contains("following events") }
        _ = try await scene.database.execute(
            "INSERT INTO \"Reservas\" SELECT n, 1, 1, true, '{}', repeat('g', 1000), '' FROM generate_series(1, 60000) n")
        // Longer than the cluster's wal_sender_timeout of 10 s: the server must not give the tail up.
        try await Task.sleep(for: .seconds(14))
        #expect(try scene.tailMemoryKilobytes() < 150_000)
        try scene.letReaderGo()
        #expect(try await shell.wait(timeoutSeconds: 120) == 0)
        #expect(shell.output.trimmingCharacters(in: .whitespacesAndNewlines) == "59999", "\(shell.errors)")
    }

    @Test func interruptedWhileItWaitsItEnds() async throws {
        let scene = try await TailScene()
        let tail = try await scene.start()
        tail.interrupt()
        #expect(try await tail.wait() == 0)
    }

    @Test func interruptedWhileItsReaderStandsStillItEnds() async throws {
        let scene = try await TailScene()
        let shell = try ChildProcess(
            "/bin/bash",
            [
                "-c", "\"$0\" events tail | (read -r go < \"$1\"); echo \"codes ${PIPESTATUS[*]}\"",
                try LinderoProcess.program(), scene.fifo,
            ],
            environment: ["PATH": "/usr/bin:/bin", "DATABASE_URL": scene.url, "HOME": "/tmp"], folder: nil)
        try await waitUntil("the tail follows") { shell.errors.contains("following events") }
        _ = try await scene.database.execute("INSERT INTO \"Leads\" SELECT generate_series(1, 20000)")
        let tail = try #require(try scene.tailProcess())
        try await waitUntil("the tail has filled the pipe and waits for its reader") {
            Self.hasFilledAPipe(tail)
        }
        kill(tail, SIGINT)
        try await waitUntil("the tail has ended") { try scene.tailProcess() == nil }
        try scene.letReaderGo()
        #expect(try await shell.wait(timeoutSeconds: 60) == 0)
        #expect(shell.output.contains("codes 0"), "\(shell.output) \(shell.errors)")
    }

    /// Whether the pipe that a process writes to takes nothing more. How many bytes that are depends on its pieces.
    private static func hasFilledAPipe(_ process: Int32) -> Bool {
        let descriptor = open("/proc/\(process)/fd/1", O_WRONLY | O_NONBLOCK)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var place = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        return poll(&place, 1, 0) == 0
    }

    // MARK: what stands in the way

    @Test func withoutPublicationItSaysWhichCommandMakesIt() async throws {
        let url = try await PostgresCluster.shared("source").createDatabase(prefix: "tail")
        let database = try await PostgresConnection.connect(ConnectionOptions(url))
        _ = try await database.execute("CREATE TABLE public.guest (id int PRIMARY KEY)")
        let outcome = try await LinderoProcess.run(["events", "tail", "--json"], environment: ["DATABASE_URL": url])
        #expect(outcome.exitCode == 2)
        #expect(try failure(outcome).code == "publication_missing")
        #expect(try failure(outcome).next?.contains("lindero run") == true)
    }

    @Test func tableThatIsNotPublishedIsToldWithItsSQL() async throws {
        let scene = try await TailScene()
        _ = try await scene.database.execute("CREATE TABLE later (id int PRIMARY KEY)")
        let named = try await LinderoProcess.run(
            ["events", "tail", "--json", "--table", "later"], environment: ["DATABASE_URL": scene.url])
        #expect(named.exitCode == 2)
        #expect(try failure(named).next?.contains("ADD TABLE \"public\".\"later\"") == true)
        let all = try await scene.start()
        #expect(all.errors.contains("some tables are not published"))
    }

    @Test func withoutLogicalWALItSaysWhatToSet() async throws {
        let cluster = try await PostgresCluster.start(settings: ["wal_level": "replica"])
        defer { cluster.remove() }
        let outcome = try await LinderoProcess.run(
            ["events", "tail"], environment: ["DATABASE_URL": cluster.conninfo()])
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("ALTER SYSTEM SET wal_level = logical"))
    }
}

/// A database with the worker's slot and publication, as `lindero run` leaves them.
private final class TailScene: Sendable {
    let url: String
    let database: PostgresConnection
    /// Where a reader waits until it may go on.
    let fifo = NSTemporaryDirectory() + "lindero-fifo-" + UUID().uuidString

    init() async throws {
        url = try await PostgresCluster.shared("source").createDatabase(prefix: "tail")
        var options = ConnectionOptions(url)
        options.usesPinnedSettings = false
        database = try await PostgresConnection.connect(options)
        _ = try await database.execute(
            """
            CREATE DOMAIN party AS int;
            CREATE TABLE "Reservas" ("bookingId" text PRIMARY KEY, guests party, rate numeric, "isPaid" bool,
                "apiData" json, "guestName" text, document text);
            CREATE TABLE "Leads" (id int PRIMARY KEY);
            """)
        let worker = try LinderoProcess.start(["run", "--http", "none"], environment: ["DATABASE_URL": url])
        try await worker.waitForErrors("following changes")
        worker.terminate()
        _ = try await worker.wait()
        mkfifo(fifo, 0o600)
    }

    deinit { unlink(fifo) }

    func letReaderGo() throws {
        let end = try #require(FileHandle(forWritingAtPath: fifo))
        try end.write(contentsOf: Data("go\n".utf8))
    }

    /// A tail that follows.
    func start(_ arguments: [String] = []) async throws -> RunningLindero {
        let tail = try LinderoProcess.start(["events", "tail"] + arguments, environment: ["DATABASE_URL": url])
        try await tail.waitForErrors("following events")
        return tail
    }

    struct Event {
        var json: [String: Any]
        var operation: String { json["operation"] as? String ?? "" }
    }

    /// The first events, once there are so many; each line must be a JSON object.
    func events(of tail: RunningLindero, count: Int) async throws -> [Event] {
        try await waitUntil("\(count) events are printed; stderr: \(tail.errors)") {
            tail.output.split(separator: "\n").count >= count
        }
        return try tail.output.split(separator: "\n").map { line in
            Event(json: try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]))
        }
    }

    func slotCount() async throws -> Int {
        try await database.query("SELECT 1 FROM pg_replication_slots WHERE database = current_database()").rowCount
    }

    /// The worker's slot: its name and where it stands.
    func workerSlot() async throws -> String? {
        try await database.query(
            """
            SELECT slot_name || ' ' || confirmed_flush_lsn FROM pg_replication_slots
            WHERE database = current_database() AND NOT temporary
            """
        ).firstValue
    }

    /// The process that is this scene's tail, while it runs.
    func tailProcess() throws -> Int32? {
        for entry in try FileManager.default.contentsOfDirectory(atPath: "/proc") {
            guard let process = Int32(entry),
                let environment = FileManager.default.contents(atPath: "/proc/\(entry)/environ"),
                String(decoding: environment, as: UTF8.self).contains(url),
                let command = FileManager.default.contents(atPath: "/proc/\(entry)/cmdline"),
                String(decoding: command, as: UTF8.self).hasPrefix(try LinderoProcess.program())
            else { continue }
            return process
        }
        return nil
    }

    func tailMemoryKilobytes() throws -> Int {
        let process = try #require(try tailProcess())
        let status = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
        return line.flatMap { Int($0.filter(\.isNumber)) } ?? .max
    }
}
