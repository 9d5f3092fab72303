import Logging
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Two databases, the second of them empty, and a direction that copies and then streams.
struct FreshPair {
    let source: PostgresConnection
    let target: PostgresConnection
    var settings: DirectionSettings

    init(
        _ schema: String, policy: OwnershipPolicy? = nil, replication: ReplicationSettings = .init(),
        sourceCluster: String = "source", targetCluster: String = "target"
    ) async throws {
        let sourceURL = try await PostgresCluster.shared(sourceCluster).createDatabase(prefix: "fs")
        let targetURL = try await PostgresCluster.shared(targetCluster).createDatabase(prefix: "ft")
        source = try await ReplicaPair.connect(sourceURL)
        target = try await ReplicaPair.connect(targetURL)
        _ = try await source.execute(schema)
        let name = "l" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        var replication = replication
        replication.heartbeatMilliseconds = 200
        settings = DirectionSettings(
            sourceName: "bot", targetName: "sync", source: ConnectionOptions(sourceURL),
            target: ConnectionOptions(targetURL), slot: name, publication: replication.publication ?? name, backend: .replica,
            replication: replication, policy: policy)
    }

    static var quiet: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }

    func sync(_ state: DirectionState = DirectionState()) async throws {
        try await InitialSync(settings: settings, state: state, logger: Self.quiet).run()
    }

    func start(_ state: DirectionState) -> Task<Void, any Error> {
        let settings = settings
        return Task {
            let sync = InitialSync(settings: settings, state: state, logger: Self.quiet)
            try await DirectionSupervisor(
                settings: settings, state: state, logger: Self.quiet, worker: "test", prepare: { _ in try await sync.run() }
            ).run()
        }
    }

    func rows(_ sql: String, on connection: PostgresConnection) async throws -> [[String?]] {
        let result = try await connection.execute(sql)
        return (0..<result.rowCount).map { row in result.columns.indices.map { result[row: row, column: $0] } }
    }

    func expectSame(_ sql: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let expected = try await rows(sql, on: source)
        let found = try await rows(sql, on: target)
        #expect(!expected.isEmpty, sourceLocation: sourceLocation)
        #expect(found == expected, sourceLocation: sourceLocation)
    }

    func catchUp(_ state: DirectionState) async throws {
        let text = try await source.execute("SELECT pg_current_wal_insert_lsn()::text").rows.first?[0] ?? ""
        let lsn = try #require(LSN(text))
        try await waitUntil("the target has \(lsn)") {
            if let problem = state.snapshot().problem, state.phase == .stopped { throw ReplicaPair.Stopped(problem: problem) }
            return state.durableLSN >= lsn
        }
    }
}

@Suite struct InitialSyncTests {
    /// The builds of 16 and 18 that the tests use come without contrib; domains stand in for its types there.
    static let contrib =
        PostgresBinaries.defaultVersion == 15
        ? "CREATE EXTENSION IF NOT EXISTS citext; CREATE EXTENSION IF NOT EXISTS hstore;"
        : "CREATE DOMAIN citext AS text; CREATE DOMAIN hstore AS text;"

    static let uglySchema = contrib + """
        CREATE SCHEMA "Strange ""Name";
        CREATE TYPE "ReservaStatus" AS ENUM ('NEW', 'it''s', 'DONE');
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TYPE pair AS (a int, b positive);
        CREATE TYPE span AS RANGE (SUBTYPE = timestamptz);
        CREATE TABLE "HotelApart" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name citext UNIQUE);
        CREATE TABLE "Reservas" (
          id text PRIMARY KEY, "bookingId" text NOT NULL UNIQUE, "roomId" uuid REFERENCES "HotelApart"(id),
          status "ReservaStatus" NOT NULL DEFAULT 'NEW', number int GENERATED ALWAYS AS IDENTITY, serial serial,
          price numeric(12, 2) CHECK (price >= 0), total numeric GENERATED ALWAYS AS (price * 2) STORED,
          tags text[], extra hstore, p pair, s span, n positive, label varchar(20) COLLATE "C", bits bit(3));
        CREATE INDEX "lower idx" ON "Reservas" (lower(label)) WHERE price > 1;
        CREATE TABLE "Strange ""Name"."Ta ble" ("select" int, "Ünï" text, PRIMARY KEY ("select", "Ünï"));
        CREATE TABLE parted (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2026-06-01');
        CREATE TABLE parted_b PARTITION OF parted DEFAULT;
        CREATE TABLE _prisma_migrations (id text PRIMARY KEY);
        INSERT INTO _prisma_migrations VALUES ('m');
        INSERT INTO "HotelApart" (name) SELECT 'Room ' || i FROM generate_series(1, 20) i;
        INSERT INTO "Reservas" (id, "bookingId", "roomId", price, tags, extra, p, s, n, label, bits)
          SELECT 'r' || i, 'beds24-' || i, (SELECT id FROM "HotelApart" LIMIT 1), i, ARRAY['a', NULL, 'c"d'], 'k=>v',
                 ('(' || i || ',3)')::pair, '[2026-01-01, 2026-02-01)', i, 'L' || i, B'101' FROM generate_series(1, 500) i;
        INSERT INTO "Strange ""Name"."Ta ble" VALUES (1, 'ü'), (2, E'tab\\tnew\\nline\\\\');
        INSERT INTO parted SELECT i, date '2026-01-01' + i, 'v' FROM generate_series(1, 300) i;
        """

    @Test func everyKindOfTableIsRecreatedAndCopied() async throws {
        let pair = try await FreshPair(Self.uglySchema)
        try await pair.sync()
        for table in ["\"HotelApart\"", "\"Reservas\"", "\"Strange \"\"Name\".\"Ta ble\"", "parted"] {
            try await pair.expectSame("SELECT t::text FROM \(table) t ORDER BY 1")
        }
        // Keys, indexes, checks, defaults, identity.
        try await pair.expectSame(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0 AND connamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'lindero') AND conrelid::regclass::text <> '_prisma_migrations' ORDER BY 1, 2")
        try await pair.expectSame(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog', 'lindero') AND tablename <> '_prisma_migrations' ORDER BY 1")
        try await pair.expectSame(
            "SELECT table_name, column_name, column_default, is_nullable, data_type, is_identity, generation_expression FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'lindero') AND table_name <> '_prisma_migrations' ORDER BY 1, 2")
        // One that is ALWAYS takes no update.
        let number = "SELECT attidentity FROM pg_attribute WHERE attrelid = '\"Reservas\"'::regclass AND attname = 'number'"
        #expect(try await pair.rows(number, on: pair.source) == [["a"]])
        #expect(try await pair.rows(number, on: pair.target) == [["d"]])
        let missing = try await pair.rows("SELECT to_regclass('_prisma_migrations')::text", on: pair.target)
        #expect(missing == [[nil]])
    }

    @Test func rowsWrittenDuringTheCopyArriveExactlyOnce() async throws {
        let pair = try await FreshPair(
            """
            CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY, v int);
            INSERT INTO t SELECT i, 0 FROM generate_series(1, 50000) i; INSERT INTO u SELECT i, 0 FROM generate_series(1, 50000) i;
            """)
        let state = DirectionState()
        let writer = Task {
            var number = 100_000
            while !Task.isCancelled {
                number += 1
                // One transaction without BEGIN: one that is cancelled leaves none open in the session, which goes on after it.
                _ = try await pair.source.execute(
                    "INSERT INTO t VALUES (\(number), 1); UPDATE u SET v = v + 1 WHERE id = \(number % 50_000 + 1)")
            }
            return number - 100_000
        }
        let running = pair.start(state)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        try await Task.sleep(for: .milliseconds(300))
        writer.cancel()
        _ = await writer.result
        try await pair.catchUp(state)
        try await pair.expectSame("SELECT count(*), sum(id), sum(v) FROM t")
        try await pair.expectSame("SELECT count(*), sum(id), sum(v), sum(v * id::bigint) FROM u")
        state.drain()
        try await running.value
    }

    @Test func killedCopyKeepsFinishedTablesAndMissesNothing() async throws {
        let schema = (0..<6).map { "CREATE TABLE t\($0) (id int PRIMARY KEY, v text); INSERT INTO t\($0) SELECT i, repeat('x', 200) FROM generate_series(1, 8000) i;" }
            .joined(separator: "\n")
        var replication = ReplicationSettings()
        replication.copy.jobs = 1
        let pair = try await FreshPair(schema, replication: replication)
        // Killed after the second table.
        let state = DirectionState()
        let first = Task { try await pair.sync(state) }
        try await waitUntil("two tables are copied") { (state.snapshot().copy?.tablesDone ?? 0) >= 2 }
        first.cancel()
        _ = await first.result
        let before = try await pair.rows("SELECT count(*) FROM lindero.table_copy", on: pair.target)
        let done = Int(before[0][0] ?? "") ?? 0
        try #require(done >= 2 && done < 6)
        // Written between the two snapshots: in some tables' copies, in others' stream.
        for number in 0..<6 { _ = try await pair.source.execute("UPDATE t\(number) SET v = 'between' WHERE id <= 10; DELETE FROM t\(number) WHERE id = 11") }
        let running = pair.start(state)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        _ = try await pair.source.execute("UPDATE t5 SET v = 'after' WHERE id = 1")
        try await pair.catchUp(state)
        for number in 0..<6 { try await pair.expectSame("SELECT count(*), sum(hashtext(t::text)) FROM t\(number) t") }
        state.drain()
        try await running.value
    }

    @Test func filledTargetTableIsRefused() async throws {
        let pair = try await FreshPair("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        _ = try await pair.target.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (7)")
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .targetNotEmpty)
        #expect(failure?.isBlocker == true)
        let rows = try await pair.rows("SELECT id FROM t", on: pair.target)
        #expect(rows == [["7"]])
    }

    @Test func targetTableThatDoesNotFitIsRefusedWithTheSQL() async throws {
        let pair = try await FreshPair("CREATE TABLE t (id int PRIMARY KEY, v date, w text)")
        _ = try await pair.target.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .schemaDiffers)
        #expect(failure?.message.contains("ADD COLUMN \"w\" text") == true)
        #expect(failure?.message.contains("ALTER COLUMN \"v\" TYPE date") == true)
    }

    @Test func slotOfAnotherTargetIsNotTakenOver() async throws {
        let pair = try await FreshPair("CREATE TABLE t (id int PRIMARY KEY)")
        _ = try await pair.source.execute("SELECT pg_create_logical_replication_slot('\(pair.settings.slot)', 'pgoutput')")
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .slotExists)
        #expect(failure?.nextStep.contains("pg_drop_replication_slot") == true)
    }
}
