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

    /// Of two tables in one statement the order is nobody's: a trigger must find what the source had written before.
    @Test func triggerMadeWhileStreamingSeesWhatWasWrittenBefore() async throws {
        let pair = try await ReplicaPair("CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int)")
        try await pair.streaming { state in
            try await pair.apply("BEGIN; INSERT INTO a VALUES (1, 0); INSERT INTO b VALUES (1, 0); COMMIT", state)
            for value in 1..<4 {
                try await pair.apply("BEGIN; UPDATE a SET v = \(value); UPDATE b SET v = \(value); COMMIT", state)
            }
            _ = try await pair.target.execute(
                """
                CREATE TABLE seen (v int);
                CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
                  'BEGIN INSERT INTO public.seen SELECT v FROM public.a; RETURN NULL; END';
                CREATE TRIGGER see AFTER UPDATE ON b FOR EACH ROW EXECUTE FUNCTION see();
                ALTER TABLE b ENABLE ALWAYS TRIGGER see
                """)
            try await pair.apply("BEGIN; UPDATE a SET v = 9; UPDATE b SET v = 9; COMMIT", state)
            #expect(try await pair.rows("SELECT v FROM seen", on: pair.target) == [["9"]])
        }
    }
}
