import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Tables that are altered while a worker has plans for them.
@Suite struct AlteredTargetTests {
    /// A COPY tells the server no types: a bigint's bytes read as a numeric are zero.
    @Test func columnThatTheTargetHasChangedIsNotCopiedInTheOldForm() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, n bigint)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (0, 1)", state)
            _ = try await pair.target.execute("ALTER TABLE t ALTER n TYPE numeric")
            try await pair.apply("INSERT INTO t SELECT i, i FROM generate_series(1, 500) i", state)
            try await pair.expectSame("SELECT count(*), sum(n)::bigint, max(n)::bigint FROM t")
        }
    }

    /// A type that does not take all of the source's values is waited for, as it is from the beginning.
    @Test func columnThatTheTargetHasChangedToWhatDoesNotFitStopsTheDirection() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, n bigint)")
        let state = DirectionState()
        let running = pair.start(state)
        try await pair.apply("INSERT INTO t VALUES (0, 1)", state)
        _ = try await pair.target.execute("ALTER TABLE t ALTER n TYPE float8")
        _ = try await pair.source.execute("INSERT INTO t SELECT i, i FROM generate_series(1, 500) i")
        try await waitUntil("it waits") { state.phase == .paused }
        #expect(state.snapshot().problem?.contains("double precision") == true)
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["1"]])
        _ = try await pair.target.execute("ALTER TABLE t ALTER n TYPE bigint")
        try await waitUntil("it goes on") {
            try await pair.rows("SELECT count(*), sum(n) FROM t", on: pair.target) == [["501", "125251"]]
        }
        state.drain()
        running.cancel()
        _ = await running.result
    }

    /// The first piece is what asks; the rest must not go the old way either.
    @Test func columnThatTheTargetHasChangedIsNotCopiedByALargeTransaction() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, n bigint, filler text)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (0, 1, '')", state)
            _ = try await pair.target.execute("ALTER TABLE t ALTER n TYPE numeric")
            try await pair.apply("INSERT INTO t SELECT i, i, repeat('x', 100) FROM generate_series(1, 30000) i", state)
            try await pair.expectSame("SELECT count(*), sum(n)::bigint, max(n)::bigint FROM t")
        }
    }

    /// Of a user's type the stream tells a number; the label's bytes are no integer.
    @Test func columnThatBecameAnEnumAtTheSourceIsNotReadAsANumber() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, n int)")
        let state = DirectionState()
        let running = pair.start(state)
        try await pair.apply("INSERT INTO t VALUES (0, 1)", state)
        _ = try await pair.source.execute(
            """
            CREATE TYPE word AS ENUM ('open', 'done');
            ALTER TABLE t ALTER n TYPE word USING CASE n WHEN 1 THEN 'open' ELSE 'done' END::word;
            INSERT INTO t VALUES (1, 'open')
            """)
        try await waitUntil("it stops, or has written something") {
            if state.phase == .paused || state.phase == .stopped { return true }
            return try await pair.rows("SELECT 1 FROM t WHERE id = 1", on: pair.target).count == 1
        }
        #expect(try await pair.rows("SELECT n FROM t WHERE id = 1", on: pair.target) == [])
        state.drain()
        running.cancel()
        _ = await running.result
    }

    /// What fires for what is replicated sees each change, whichever way it would have gone before.
    @Test(arguments: [
        ("netted", "BEGIN; INSERT INTO t VALUES (1, 1); UPDATE t SET v = 2 WHERE id = 1; DELETE FROM t WHERE id = 1; COMMIT", 3),
        ("alone", "UPDATE t SET v = 2 WHERE id = 0", 1),
        ("in many rows", "INSERT INTO t SELECT i, i FROM generate_series(1, 300) i", 300),
    ])
    func triggerMadeWhileStreamingSeesEveryChange(way: String, sql: String, count: Int) async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (0, 0)", state)
            // Each a statement that is there when the trigger comes.
            for value in 0..<3 { try await pair.apply("UPDATE t SET v = \(value) WHERE id = 0", state) }
            _ = try await pair.target.execute(
                """
                CREATE TABLE seen (what text);
                CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (TG_OP); RETURN NULL; END';
                CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION see();
                ALTER TABLE t ENABLE ALWAYS TRIGGER see
                """)
            try await pair.apply(sql, state)
            #expect(try await pair.rows("SELECT count(*) FROM seen", on: pair.target) == [["\(count)"]])
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 1)
        }
    }

    /// Of two tables in one statement both are written when a trigger fires, and the source had written one: a trigger must find
    /// what the source had when it wrote that row.
    private static let tables = "CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int);"
    private static let function = """
        CREATE TABLE seen (v int);
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN INSERT INTO public.seen SELECT max(v) FROM public.b; RETURN NULL; END';
        """
    private static func trigger(on table: String) -> String {
        """
        CREATE TRIGGER see AFTER INSERT OR UPDATE ON \(table) FOR EACH ROW EXECUTE FUNCTION see();
        ALTER TABLE \(table) ENABLE ALWAYS TRIGGER see
        """
    }
    /// Both tables in one transaction, `a` first.
    private static func both(_ value: Int) -> String { "BEGIN; UPDATE a SET v = \(value); UPDATE b SET v = \(value); COMMIT" }
    private static func newInBoth(_ id: Int) -> String { "BEGIN; INSERT INTO a VALUES (\(id), 0); INSERT INTO b VALUES (\(id), \(id)); COMMIT" }

    @Test func triggerMadeWhileStreamingSeesWhatWasWrittenBefore() async throws {
        let pair = try await ReplicaPair(Self.tables)
        try await pair.streaming { state in
            try await pair.apply("BEGIN; INSERT INTO a VALUES (1, 0); INSERT INTO b VALUES (1, 0); COMMIT", state)
            for value in 1..<4 { try await pair.apply(Self.both(value), state) }
            _ = try await pair.target.execute(Self.function + Self.trigger(on: "a"))
            try await pair.apply(Self.both(9), state)
            #expect(try await pair.rows("SELECT v FROM seen", on: pair.target) == [["3"]])
        }
    }

    /// A statement that has waited for it is older than the trigger, by its snapshot, and its plan is made anew.
    @Test func triggerThatAStatementHasWaitedForSeesWhatWasWrittenBefore() async throws {
        let pair = try await ReplicaPair(Self.tables)
        try await pair.streaming { state in
            try await pair.apply("BEGIN; INSERT INTO a VALUES (1, 0); INSERT INTO b VALUES (1, 0); COMMIT", state)
            for value in 1..<4 { try await pair.apply(Self.both(value), state) }
            _ = try await pair.target.execute(Self.function)
            let owner = try await ReplicaPair.connect(pair.targetURL)
            _ = try await owner.execute("BEGIN; " + Self.trigger(on: "a"))
            _ = try await pair.source.execute(Self.both(9))
            try await waitUntil("the applier waits for the table") {
                try await pair.rows(
                    "SELECT count(*) FROM pg_catalog.pg_locks WHERE NOT granted AND relation = 'public.a'::regclass", on: pair.target)
                    == [["1"]]
            }
            _ = try await owner.execute("COMMIT")
            await owner.close()
            try await pair.catchUp(state)
            // And the next one, whose plan is kept.
            try await pair.apply(Self.both(10), state)
            #expect(try await pair.rows("SELECT v FROM seen ORDER BY v", on: pair.target) == [["3"], ["9"]])
        }
    }

    /// An insert finds the partition as it goes: no plan of it names one.
    @Test func triggerMadeOnAPartitionSeesWhatWasWrittenBefore() async throws {
        let pair = try await ReplicaPair(
            """
            CREATE TABLE a (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
            CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (0) TO (100);
            CREATE TABLE b (id int PRIMARY KEY, v int);
            """)
        try await pair.streaming { state in
            for value in 1..<5 { try await pair.apply(Self.newInBoth(value), state) }
            _ = try await pair.target.execute(Self.function + Self.trigger(on: "a_1"))
            try await pair.apply(Self.newInBoth(9), state)
            #expect(try await pair.rows("SELECT v FROM seen", on: pair.target) == [["4"]])
        }
    }

    /// Another table of that name is another table, of whatever kind it was and is.
    @Test(arguments: [
        (
            "partitioned", "CREATE TABLE a (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE a_1 PARTITION OF a DEFAULT;",
            "ALTER TABLE a RENAME TO a_old; CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT * FROM a_old;", "a"
        ),
        (
            "ordinary", "CREATE TABLE a (id int PRIMARY KEY, v int);",
            """
            ALTER TABLE a RENAME TO a_old; CREATE TABLE a (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
            CREATE TABLE a_new PARTITION OF a DEFAULT; INSERT INTO a SELECT * FROM a_old;
            """, "a_new"
        ),
    ])
    func triggerOfATableInAnothersPlaceSeesWhatWasWrittenBefore(
        kind: String, first: String, replacement: String, triggered: String
    ) async throws {
        let other = "CREATE TABLE b (id int PRIMARY KEY, v int);"
        let pair = try await ReplicaPair("CREATE TABLE a (id int PRIMARY KEY, v int);" + other, targetSchema: first + other)
        try await pair.streaming { state in
            for value in 1..<5 { try await pair.apply(Self.newInBoth(value), state) }
            _ = try await pair.target.execute("BEGIN; \(replacement) \(Self.function) \(Self.trigger(on: triggered)); COMMIT")
            try await pair.apply(Self.newInBoth(9), state)
            #expect(try await pair.rows("SELECT v FROM seen", on: pair.target) == [["4"]])
        }
    }
}
