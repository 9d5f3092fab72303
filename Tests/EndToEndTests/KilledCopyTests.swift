import Foundation
import PostgresClient
import TestSupport
import Testing

/// `kill -9` of the whole program at random moments of the copy and of the index phase, while services write.
@Suite struct KilledCopyTests {
    static let kills = ProcessInfo.processInfo.environment["LINDERO_TEST_KILLS"].flatMap { Int($0) }.map { $0 / 5 } ?? 20

    static let schema = """
        CREATE TABLE room (id int PRIMARY KEY, name text UNIQUE);
        CREATE TABLE stay (id int PRIMARY KEY, code text UNIQUE, room int REFERENCES room, pad text, big text);
        CREATE INDEX stay_pad ON stay (pad, code); CREATE INDEX stay_lower ON stay (lower(code)); CREATE INDEX stay_room ON stay (room);
        CREATE TABLE night (id int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE night_a PARTITION OF night FOR VALUES FROM (0) TO (50);
        CREATE TABLE night_b PARTITION OF night DEFAULT;
        CREATE INDEX ON night (v);
        INSERT INTO room SELECT i, 'room ' || i FROM generate_series(1, 500) i;
        INSERT INTO stay SELECT i, 'c' || i, i % 500 + 1, repeat('x', 300), CASE WHEN i % 40 = 0 THEN (
          SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 100) j) END FROM generate_series(1, 40000) i;
        INSERT INTO night SELECT i, i % 100, repeat('n', 200) FROM generate_series(1, 20000) i;
        """
    static let tables = [
        "room: { columns: { bot: \"*\" } }", "stay: { columns: { bot: \"*\" } }", "night: { columns: { bot: \"*\" } }",
    ].joined(separator: "\n  ")
    static let indexes = """
        SELECT string_agg(concat_ws(' ', c.relname, pg_get_indexdef(c.oid), i.indisvalid, h.inhparent::regclass), E'\\n' ORDER BY c.relname)
          || (SELECT string_agg(concat_ws(' ', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid)), E'\\n' ORDER BY conname, conrelid::regclass::text)
              FROM pg_constraint WHERE connamespace = 'public'::regnamespace)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_inherits h ON h.inhrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace
        """

    @Test func killedAtRandomMomentsOfTheCopyItEndsEqual() async throws {
        let scene = try await BadInputScene(
            script: "", tables: Self.tables, replication: "copy: { jobs: 2, chunk_size: 1MB, rate_limit: 10MB }")
        _ = try await scene.source.execute(Self.schema)
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        let writing = Task { try await Self.write(scene.sourceURL, seed: seed) }
        for _ in 0..<Self.kills {
            let worker = try scene.start()
            try await worker.waitUntilSignalsAreHandled()
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...1_500, using: &generator)))
            worker.kill9()
            #expect(try await worker.wait() == 128 + SIGKILL, "seed \(seed): \(worker.errors)")
        }
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        writing.cancel()
        #expect(try await writing.value > 50)
        for table in ["room", "stay", "night"] {
            let digest = "SELECT count(*) || ' ' || sum(hashtext(x::text)::bigint) FROM \(table) x"
            try await waitUntil("\(table) is equal (seed \(seed)): \(worker.errors)", timeoutSeconds: 30) {
                try await scene.source.execute(digest).firstValue == scene.target.execute(digest).firstValue
            }
        }
        let built = try await scene.target.execute(Self.indexes).firstValue
        #expect(try await scene.source.execute(Self.indexes).firstValue == built)
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    /// The server goes on making a slot whose maker is gone, until transactions that were open have ended.
    @Test func aSlotThatAKilledWorkerAskedForIsWaitedFor() async throws {
        let scene = try await BadInputScene(script: "", tables: "stay: { columns: { bot: \"*\" } }")
        _ = try await scene.source.execute("CREATE TABLE stay (id int PRIMARY KEY, v text); INSERT INTO stay VALUES (1, 'a')")
        let open = try await PostgresConnection.connect(ConnectionOptions(scene.sourceURL))
        _ = try await open.execute("BEGIN; INSERT INTO public.stay VALUES (2, 'b')")
        let pid = try #require(try await open.execute("SELECT pg_backend_pid()").firstValue)
        let first = try scene.start()
        try await first.waitForErrors("pid \(pid) of ")
        first.kill9()
        #expect(try await first.wait() == 128 + SIGKILL)
        let second = try scene.start()
        try await second.waitForErrors("pid \(pid) of ")
        #expect(!second.errors.contains("another session has"))
        let lag = try await scene.run(["lag"])
        #expect(lag.output.contains(/bot->sync: Slot \S+ is being made, which waits until transactions that are open on bot end: pid \d+ of/), "\(lag.output)\(lag.errors)")
        _ = try await open.execute("COMMIT")
        try await second.waitForErrors("streaming")
        #expect(try await scene.target.execute("SELECT count(*) FROM stay").firstValue == "2")
        second.terminate()
        #expect(try await second.wait() == 0)
    }

    @Test func slotThatIsGoneWhenTheCopyGoesOnIsNamed() async throws {
        let scene = try await BadInputScene(
            script: "", tables: "stay: { columns: { bot: \"*\" } }", replication: "copy: { jobs: 1, chunk_size: 1MB, rate_limit: 8MB }")
        _ = try await scene.source.execute(
            "CREATE TABLE stay (id int PRIMARY KEY, v text); INSERT INTO stay SELECT i, repeat('x', 500) FROM generate_series(1, 30000) i")
        let worker = try scene.start()
        try await waitUntil("pieces are there: \(worker.errors)", timeoutSeconds: 30) {
            (try? await scene.target.execute("SELECT count(*) >= 3 FROM lindero.table_copy_chunk").firstValue) == "t"
        }
        _ = try await scene.source.execute("ANALYZE stay")
        let lag = try await scene.run(["lag"])
        #expect(lag.output.contains(/bot->sync: copied [0-9,]+ of about 30,000 rows, 0 of 1 tables whole/), "\(lag.output)\(lag.errors)")
        worker.kill9()
        #expect(try await worker.wait() == 128 + SIGKILL)
        let slots = "FROM pg_replication_slots WHERE database = current_database()"
        try await waitUntil("its sessions are gone") {
            try await scene.source.execute("SELECT count(*) \(slots) AND NOT temporary AND NOT active").firstValue == "1"
        }
        let slot = try await scene.source.execute("SELECT slot_name \(slots) AND NOT temporary").firstValue ?? ""
        _ = try await scene.source.execute("SELECT pg_drop_replication_slot('\(slot)')")
        let outcome = try await scene.run(["run", "--http", "none"])
        expectComplaint(outcome, exit: 2, says: ["Replication slot \(slot) does not exist on bot", "lindero migrate --down"])
        #expect(!outcome.errors.contains("Publication"), "\(outcome.errors)")
    }

    /// - Returns: how many transactions it has written.
    private static func write(_ url: String, seed: UInt64) async throws -> Int {
        let connection = try await BadInputScene.connect(url)
        var generator = SeededGenerator(seed: seed &+ 1)
        var round = 0
        while !Task.isCancelled {
            round += 1
            let id = Int.random(in: 1...40_000, using: &generator)
            let script = generator.pick([
                "UPDATE stay SET pad = repeat('u', \(id % 900)) WHERE id BETWEEN \(id) AND \(id + 5)",
                "DELETE FROM stay WHERE id BETWEEN \(id) AND \(id + 2)",
                "INSERT INTO stay SELECT i, 'n' || i, 1, 'new', NULL FROM generate_series(\(100_000 + round * 10), \(100_004 + round * 10)) i",
                "UPDATE stay SET id = -id - 50000 * \(round) WHERE id BETWEEN \(id) AND \(id + 40) AND big IS NOT NULL",
                "UPDATE night SET day = (day + 37) % 100 WHERE id BETWEEN \(id / 2) AND \(id / 2 + 4)",
                "BEGIN; UPDATE stay SET code = code || 'x' WHERE id = \(id); DELETE FROM night WHERE id = \(id / 2); COMMIT",
                "VACUUM stay",
            ])
            do {
                _ = try await connection.execute(script)
                try await Task.sleep(for: .milliseconds(10))
            } catch {
                if Task.isCancelled { break }
                throw error
            }
        }
        await connection.close()
        return round
    }
}
