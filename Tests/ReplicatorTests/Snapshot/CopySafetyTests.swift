import Logging
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

extension FreshPair {
    /// The source owns every column of these tables.
    static func policy(_ tables: [String], columns: [String] = ["id", "v", "par"]) -> OwnershipPolicy {
        let ownerships = tables.map { name in
            TableOwnership(
                table: QualifiedName(schema: "public", name: name), match: ["id"], insertOwners: ["bot"], deleteOwners: ["bot"],
                privateColumns: [],
                columns: Dictionary(columns.map { ($0, .owned(by: "bot")) }, uniquingKeysWith: { first, _ in first }))
        }
        return OwnershipPolicy(tables: Dictionary(ownerships.map { ($0.table, $0) }, uniquingKeysWith: { first, _ in first }))
    }
}

/// What stands around the copy: leftovers of earlier ones, other workers, other people's publications, odd names.
@Suite struct CopySafetyTests {
    static func origin(_ pair: FreshPair) async throws -> String {
        let target = try await PostgresConnection.connect(pair.settings.target)
        let name = try await ProgressOrigin(connection: target, direction: pair.settings.name).name()
        await target.close()
        return name
    }

    @Test func originThatOutlivedItsRecordHidesNoChange() async throws {
        let pair = try await FreshPair("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        let origin = SQLText.literal(try await Self.origin(pair))
        // As another, older cluster would have left it.
        _ = try await pair.target.execute(
            "SELECT pg_replication_origin_create(\(origin)); SELECT pg_replication_origin_advance(\(origin), 'FF/0')")
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        _ = try await pair.source.execute("INSERT INTO t VALUES (2)")
        try await pair.catchUp(state)
        try await pair.expectSame("SELECT id FROM t ORDER BY id")
        state.drain()
        try await running.value
    }

    @Test func adoptedDirectionRefusesAnOriginThatItHasNoRecordOf() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY)")
        let target = try await PostgresConnection.connect(pair.settings.target)
        let name = try await ProgressOrigin(connection: target, direction: pair.settings.name).name()
        await target.close()
        let origin = SQLText.literal(name)
        _ = try await pair.target.execute(
            "SELECT pg_replication_origin_create(\(origin)); SELECT pg_replication_origin_advance(\(origin), 'FF/0')")
        for _ in 0..<2 {
            let failure = await #expect(throws: ReplicationFailure.self) { try await pair.start(DirectionState()).value }
            #expect(failure?.code == .targetAhead)
            #expect(failure?.nextStep.contains("SELECT pg_replication_origin_drop(\(origin));") == true)
        }
        // The refused worker's session may still be about to end, and holds the origin until then.
        try await waitUntil("the origin is free") {
            (try? await pair.target.execute("SELECT pg_replication_origin_drop(\(origin))")) != nil
        }
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1)", state)
            try await pair.expectSame("SELECT id FROM t")
        }
    }

    @Test func twoWorkersThatStartAtOnceCopyOnce() async throws {
        let pair = try await FreshPair(
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT i FROM generate_series(1, 20000) i")
        async let first: Void = pair.sync()
        async let second: Void = pair.sync()
        _ = try await (first, second)
        try await pair.expectSame("SELECT count(*) FROM t")
        let noted = try await pair.rows(
            "SELECT (SELECT start_lsn FROM lindero.direction) = snapshot_lsn FROM lindero.table_copy", on: pair.target)
        #expect(noted == [["t"]])
        // Both would hold at once what only one may have.
        let begins = try await pair.rows(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '\(pair.settings.slot)'", on: pair.source)
        #expect(begins == [["1"]])
    }

    @Test func workerWaitsWhileAnotherPrepares() async throws {
        let pair = try await FreshPair("CREATE TABLE t (id int PRIMARY KEY)")
        let other = try await PostgresConnection.connect(pair.settings.target)
        try await CopyGate(settings: pair.settings).enter(other)
        let waiting = Task { try await pair.sync() }
        try await Task.sleep(for: .milliseconds(500))
        let slots = try await pair.rows(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '\(pair.settings.slot)'", on: pair.source)
        #expect(slots == [["0"]])
        await other.close()
        try await waiting.value
    }

    @Test func namesWithDotsAndQuotesKeepTheirKeysAndIndexes() async throws {
        let pair = try await FreshPair(
            """
            CREATE SCHEMA "s.x"; CREATE TABLE public."my.table" (id int PRIMARY KEY, v text UNIQUE);
            CREATE TABLE "s.x"."a""b.c" (id int PRIMARY KEY, v int CHECK (v > 0), p int REFERENCES "my.table"(id));
            CREATE INDEX ON "s.x"."a""b.c" (v); INSERT INTO "my.table" VALUES (1, 'a'); INSERT INTO "s.x"."a""b.c" VALUES (1, 1, 1);
            """)
        try await pair.sync()
        try await pair.expectSame(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace::regnamespace::text IN ('public', '\"s.x\"') ORDER BY 1, 2")
        try await pair.expectSame(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname IN ('public', 's.x') ORDER BY 1")
    }

    @Test func publicationThatTheConfigurationNamesIsNeverAltered() async throws {
        var replication = ReplicationSettings()
        replication.publication = "mine"
        let pair = try await FreshPair(
            """
            CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY);
            CREATE PUBLICATION mine FOR TABLE a, b; INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1); INSERT INTO c VALUES (1);
            """, policy: FreshPair.policy(["a", "c"]), replication: replication)
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .publicationTable && failure?.isBlocker == true)
        #expect(failure?.message.contains("lacks table c") == true)
        let sql = #"ALTER PUBLICATION "mine" ADD TABLE "public"."c";"#
        #expect(failure?.nextStep.contains(sql) == true)
        let listed = "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables WHERE pubname = 'mine'"
        let before = try await pair.rows(listed, on: pair.source)
        #expect(before == [["a,b"]])
        _ = try await pair.source.execute(sql)
        try await pair.sync()
        let after = try await pair.rows(listed, on: pair.source)
        #expect(after == [["a,b,c"]])
        try await pair.expectSame("SELECT id FROM c")
        let there = try await pair.rows("SELECT to_regclass('b') IS NULL", on: pair.target)
        #expect(there == [["t"]])
    }

    @Test func namedPublicationWithoutRulesIsCopiedExactlyAsItLists() async throws {
        var replication = ReplicationSettings()
        replication.publication = "mine"
        let pair = try await FreshPair(
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1); CREATE PUBLICATION mine FOR TABLE a",
            replication: replication)
        try await pair.sync()
        try await pair.expectSame("SELECT id FROM a")
        let there = try await pair.rows(
            "SELECT to_regclass('b') IS NULL, (SELECT count(*) FROM lindero.table_copy)", on: pair.target)
        #expect(there == [["t", "1"]])
    }

    @Test(.enabled(if: PostgresBinaries.defaultVersion >= 15), arguments: ["a WHERE (id < 10)", "a (id)"])
    func namedPublicationThatSendsPartOfATableIsRefusedForACopy(part: String) async throws {
        var replication = ReplicationSettings()
        replication.publication = "mine"
        let pair = try await FreshPair(
            "CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a VALUES (1, 1), (50, 1); CREATE PUBLICATION mine FOR TABLE \(part)",
            replication: replication)
        let definition = "SELECT attnames::text, rowfilter FROM pg_publication_tables WHERE pubname = 'mine'"
        let before = try await pair.rows(definition, on: pair.source)
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .publicationTable)
        let after = try await pair.rows(definition, on: pair.source)
        #expect(after == before)
        let made = try await pair.rows("SELECT 1 FROM pg_replication_slots WHERE slot_name = '\(pair.settings.slot)'", on: pair.source)
        #expect(made.isEmpty)
    }

    @Test(.enabled(if: PostgresBinaries.defaultVersion >= 18))
    func whatIsComputedWhenItIsReadIsCopiedToo() async throws {
        let pair = try await FreshPair("CREATE TABLE t (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a * 2)); INSERT INTO t VALUES (1), (2)")
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        _ = try await pair.source.execute("INSERT INTO t VALUES (3); UPDATE t SET a = 5 WHERE a = 1")
        try await pair.catchUp(state)
        try await pair.expectSame("SELECT * FROM t ORDER BY a")
        state.drain()
        try await running.value
    }

    /// Its publication does without it from then on, so that what is written to it meanwhile never comes.
    @Test func aTableThatLeavesBeforeTheCopyIsCompleteIsRefusedWhenItIsBack() async throws {
        var replication = ReplicationSettings()
        replication.copy.jobs = 1
        replication.copy.rateLimitBytes = 2_000_000
        let pair = try await FreshPair(
            """
            CREATE TABLE large (id int PRIMARY KEY, v text); INSERT INTO large SELECT i, repeat('x', 300) FROM generate_series(1, 20000) i;
            CREATE TABLE small (id int PRIMARY KEY, v text); INSERT INTO small SELECT i, repeat('x', 300) FROM generate_series(1, 10000) i;
            """, policy: FreshPair.policy(["large", "small"]), replication: replication)
        let state = DirectionState()
        let first = Task { try await pair.sync(state) }
        try await waitUntil("the large one is copied") { (state.snapshot().copy?.tablesDone ?? 0) >= 1 }
        first.cancel()
        _ = await first.result
        try #require(try await pair.rows("SELECT table_name FROM lindero.table_copy", on: pair.target) == [["large"]])
        var without = pair.settings
        without.policy = FreshPair.policy(["small"])
        let second = DirectionState()
        let copying = Task { [without] in try await InitialSync(settings: without, state: second, logger: Logger(label: "test")).run() }
        try await waitUntil("the small one is being copied") { (second.snapshot().copy?.sizeDone ?? 0) > 0 }
        copying.cancel()
        _ = await copying.result
        try #require(try await pair.rows("SELECT prepared_at FROM lindero.direction", on: pair.target) == [[nil]])
        _ = try await pair.source.execute("UPDATE large SET v = 'missed'")
        let again = DirectionState()
        let running = pair.start(again)
        let failure = await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(failure?.code == .tableLeft, "\(String(describing: failure))")
    }

    /// To an older snapshot a table that was rewritten looks empty, and no change in the stream tells.
    @Test func aTableThatIsRewrittenBeforeItsTurnIsNotTakenForEmpty() async throws {
        var replication = ReplicationSettings()
        replication.copy.jobs = 1
        replication.copy.rateLimitBytes = 2_000_000
        let pair = try await FreshPair(
            """
            CREATE TABLE large (id int PRIMARY KEY, v text); INSERT INTO large SELECT i, repeat('x', 300) FROM generate_series(1, 20000) i;
            CREATE TABLE prices (id int PRIMARY KEY, amount int); INSERT INTO prices SELECT i, i FROM generate_series(1, 100) i;
            """, replication: replication)
        let state = DirectionState()
        let first = Task { try await pair.sync(state) }
        try await waitUntil("the large one is being copied") { (state.snapshot().copy?.sizeDone ?? 0) > 0 }
        _ = try await pair.source.execute(
            "ALTER TABLE prices ALTER amount TYPE text; ALTER TABLE prices ALTER amount TYPE int USING amount::int")
        // By itself, with a newer snapshot.
        try await first.value
        let copies = "SELECT count(DISTINCT snapshot_lsn) FROM lindero.table_copy"
        #expect(try await pair.rows(copies, on: pair.target) == [["2"]])
        try await pair.expectSame("SELECT count(*), sum(amount) FROM prices")
    }

    @Test func missingNamedPublicationIsNotMade() async throws {
        var replication = ReplicationSettings()
        replication.publication = "mine"
        let pair = try await FreshPair(
            "CREATE TABLE a (id int PRIMARY KEY)", policy: FreshPair.policy(["a"]), replication: replication)
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .publicationMissing)
        #expect(failure?.nextStep.contains(#"CREATE PUBLICATION "mine" FOR TABLE "public"."a""#) == true)
    }

    @Test(.enabled(if: PostgresBinaries.defaultVersion >= 15))
    func foreignKeysOfAnInterruptedCopyComeOnceTheStreamHasPassedIt() async throws {
        var replication = ReplicationSettings()
        replication.copy.jobs = 1
        let pair = try await FreshPair(
            """
            CREATE TABLE par (id int PRIMARY KEY, v text); CREATE TABLE kid (id int PRIMARY KEY, par int REFERENCES par(id));
            CREATE TABLE split (id int, par int REFERENCES par(id), PRIMARY KEY (id)) PARTITION BY RANGE (id);
            CREATE TABLE split_a PARTITION OF split DEFAULT;
            INSERT INTO par SELECT i, repeat('x', 300) FROM generate_series(1, 60000) i; INSERT INTO kid SELECT i, 1 + i % 60000 FROM generate_series(1, 300000) i;
            """, replication: replication)
        let state = DirectionState()
        let first = Task { try await pair.sync(state) }
        // The largest comes first; the next takes long enough to be interrupted.
        try await waitUntil("par is copied") { (state.snapshot().copy?.tablesDone ?? 0) >= 1 }
        first.cancel()
        _ = await first.result
        let done = try await pair.rows("SELECT table_name FROM lindero.table_copy ORDER BY 1", on: pair.target)
        try #require(done.contains(["par"]) && !done.contains(["kid"]))
        _ = try await pair.source.execute(
            "INSERT INTO par VALUES (500000, 'new'); INSERT INTO kid VALUES (500000, 500000); INSERT INTO split VALUES (1, 500000)")
        let again = DirectionState()
        let running = pair.start(again)
        try await waitUntil("it streams", timeoutSeconds: 60) { again.phase == .streaming || again.phase == .stopped }
        try await pair.catchUp(again)
        try await pair.expectSame("SELECT (SELECT count(*) FROM par), (SELECT count(*) FROM kid), (SELECT count(*) FROM split)")
        let keys = "SELECT conname, conrelid::regclass::text, convalidated FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND connamespace = 'public'::regnamespace ORDER BY 1"
        let expected = try await pair.rows(keys, on: pair.source)
        try await waitUntil("the foreign keys are there") { try await pair.rows(keys, on: pair.target) == expected }
        try await waitUntil("nothing waits") {
            try await pair.rows("SELECT foreign_keys_wait FROM lindero.direction", on: pair.target) == [["f"]]
        }
        again.drain()
        try await running.value
    }
}
