import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Small groups commit in the round trip that brings them, so the target itself must refuse what is not as expected.
@Suite struct ApplyGuardTests {
    /// Starts the direction, runs `sql` on the source, and answers why the direction stopped.
    private func problem(_ pair: ReplicaPair, after sql: String) async throws -> String {
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams") { state.phase == .streaming || state.phase == .catchingUp }
        _ = try await pair.source.execute(sql)
        try await waitUntil("it stops") { state.phase == .stopped }
        _ = await running.result
        return state.snapshot().problem ?? ""
    }

    @Test func anErrorOfTheTargetsOwnIsNotTakenForTheGuard() async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE t (id int PRIMARY KEY, v int)",
            targetSchema: "CREATE TABLE t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (10 / v) STORED)")
        try await pair.streaming { try await pair.apply("INSERT INTO t VALUES (1, 1)", $0) }
        let problem = try await problem(pair, after: "UPDATE t SET v = 0")
        #expect(problem.contains("update on t "), "\(problem)")
        #expect(problem.contains("22012"), "\(problem)")
    }

    @Test func anErrorOfADeferredTriggerIsNotTakenForLostProgress() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)")
        _ = try await pair.target.execute(
            """
            CREATE FUNCTION divide() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / NEW.v; RETURN NULL; END';
            CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
              FOR EACH ROW EXECUTE FUNCTION divide();
            ALTER TABLE t ENABLE ALWAYS TRIGGER late
            """)
        let problem = try await problem(pair, after: "INSERT INTO t VALUES (1, 0)")
        #expect(problem.contains("22012"), "\(problem)")
        #expect(problem.contains("insert on t "), "\(problem)")
        #expect(!problem.contains("lindero.direction"), "\(problem)")
    }

    /// The server checks it by triggers of its own; they are no less able to refuse at the commit.
    @Test func aForeignKeyThatIsAlwaysCheckedRefusesByName() async throws {
        let pair = try await ReplicaPair("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, parent int)")
        _ = try await pair.target.execute(
            """
            ALTER TABLE t ADD CONSTRAINT known FOREIGN KEY (parent) REFERENCES parent DEFERRABLE INITIALLY DEFERRED;
            DO $$ DECLARE own name; BEGIN
              FOR own IN SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgisinternal LOOP
                EXECUTE format('ALTER TABLE t ENABLE ALWAYS TRIGGER %I', own);
              END LOOP;
            END $$
            """)
        let problem = try await problem(pair, after: "INSERT INTO t VALUES (1, 5)")
        #expect(problem.contains("insert on t "), "\(problem)")
        #expect(problem.contains("23503"), "\(problem)")
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["0"]])
    }

    /// Made while changes come, a trigger is in no plan: the commit of a small group meets it unasked.
    @Test func aDeferredTriggerMadeWhileStreamingIsNotTakenForALostConnection() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)")
        let state = DirectionState()
        let running = pair.start(state)
        try await pair.apply("INSERT INTO t VALUES (1, 1)", state)
        _ = try await pair.target.execute(
            """
            CREATE FUNCTION divide() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / NEW.v; RETURN NULL; END';
            CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
              FOR EACH ROW EXECUTE FUNCTION divide();
            ALTER TABLE t ENABLE ALWAYS TRIGGER late
            """)
        try await pair.apply("INSERT INTO t VALUES (2, 2)", state)
        _ = try await pair.source.execute("INSERT INTO t VALUES (3, 0)")
        try await waitUntil("it stops") { state.phase == .stopped }
        _ = await running.result
        #expect(state.snapshot().problem?.contains("22012") == true, "\(state.snapshot().problem ?? "")")
        #expect(try await pair.rows("SELECT id FROM t ORDER BY id", on: pair.target) == [["1"], ["2"]])
    }

    @Test(arguments: ["UPDATE t SET v = 2 WHERE id = 1", "DELETE FROM t WHERE id = 1"])
    func aChangeThatReachesTwoRowsStops(change: String) async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)",
            targetSchema: "CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 1), (1, 1)")
        let problem = try await problem(pair, after: change)
        #expect(!problem.isEmpty)
        #expect(try await pair.rows("SELECT id, v FROM t", on: pair.target) == [["1", "1"], ["1", "1"]])
    }

    /// One row each of several tables goes as one statement, from the second time on; what misses its row is still named.
    @Test(arguments: ["UPDATE b SET v = 9 WHERE id = 1", "DELETE FROM b WHERE id = 1"])
    func aRowThatIsMissingHoldsUpAllThatGoesWithIt(change: String) async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (LIKE a INCLUDING ALL); CREATE TABLE c (LIKE a INCLUDING ALL)")
        func script(_ number: Int, _ change: String) -> String {
            "BEGIN; UPDATE a SET v = \(number) WHERE id = 1; \(change); INSERT INTO c VALUES (\(number), 0); COMMIT"
        }
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO a VALUES (1, 0)", state)
            try await pair.apply("INSERT INTO b SELECT i, 0 FROM generate_series(1, 9) i", state)
            for number in 2...4 { try await pair.apply(script(number, usual(of: change, number)), state) }
            #expect(state.snapshot().counters.fused >= 2)
            try await pair.expectSame("SELECT * FROM a", atLeast: 1)
            try await pair.expectSame("SELECT * FROM b ORDER BY id", atLeast: 6)
            try await pair.expectSame("SELECT * FROM c ORDER BY id", atLeast: 3)
        }
        _ = try await pair.target.execute("DELETE FROM b WHERE id = 1")
        let before = try await pair.rows("SELECT applied_lsn FROM lindero.direction", on: pair.target)
        let problem = try await problem(pair, after: "\(script(5, usual(of: change, 5))); \(script(6, usual(of: change, 6))); \(script(7, change))")
        #expect(problem.contains(change.hasPrefix("UPDATE") ? "update on b " : "delete on b "), "\(problem)")
        #expect(try await pair.rows("SELECT v FROM a", on: pair.target) == [["6"]])
        #expect(try await pair.rows("SELECT max(id) FROM c", on: pair.target) == [["6"]])
        #expect(try await pair.rows("SELECT applied_lsn FROM lindero.direction", on: pair.target) != before)
    }

    private func usual(of change: String, _ id: Int) -> String {
        change.replacing("id = 1", with: "id = \(id)")
    }

    /// A check of the target's own sees one statement's tables as they were: what it refuses goes as it went before, and stays there.
    @Test func whatIsRefusedAsOneStatementIsNotTriedSoAgain() async throws {
        let pair = try await ReplicaPair("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
        _ = try await pair.target.execute(
            """
            CREATE FUNCTION known(int) RETURNS bool LANGUAGE plpgsql VOLATILE AS
              'BEGIN RETURN EXISTS (SELECT FROM public.a WHERE a.id = $1); END';
            ALTER TABLE b ADD CHECK (known(id))
            """)
        try await pair.streaming { state in
            for number in 1...6 {
                try await pair.apply("BEGIN; INSERT INTO a VALUES (\(number)); INSERT INTO b VALUES (\(number)); COMMIT", state)
            }
            try await pair.expectSame("SELECT * FROM b ORDER BY id", atLeast: 6)
            #expect(state.snapshot().counters.fallbacks == 1)
        }
    }

    /// Its progress is part of the statement: without a row to write it to, nothing commits.
    @Test func aSmallGroupWithoutItsProgressCommitsNothing() async throws {
        let pair = try await ReplicaPair("CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (LIKE a INCLUDING ALL)")
        let state = DirectionState()
        let running = pair.start(state)
        for number in 1...3 {
            try await pair.apply("BEGIN; INSERT INTO a VALUES (\(number), 0); INSERT INTO b VALUES (\(number), 0); COMMIT", state)
        }
        #expect(state.snapshot().counters.fused > 0)
        _ = try await pair.target.execute("DELETE FROM lindero.direction")
        _ = try await pair.source.execute("BEGIN; INSERT INTO a VALUES (4, 0); INSERT INTO b VALUES (4, 0); COMMIT")
        try await waitUntil("it stops") { state.phase == .stopped }
        _ = await running.result
        #expect(state.snapshot().problem?.contains("lindero.direction") == true, "\(state.snapshot().problem ?? "")")
        #expect(try await pair.rows("SELECT (SELECT max(id) FROM a), (SELECT max(id) FROM b)", on: pair.target) == [["3", "3"]])
    }

    @Test func aCopyThatIsRefusedIsTriedInExactOrderAndNamesTheChange() async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE t (id int PRIMARY KEY, v int)",
            targetSchema: "CREATE TABLE t (id int PRIMARY KEY, v int CONSTRAINT once UNIQUE)")
        let problem = try await problem(pair, after: "INSERT INTO t SELECT i, i % 400 FROM generate_series(1, 500) i")
        #expect(problem.contains("insert on t "), "\(problem)")
        #expect(problem.contains("23505"), "\(problem)")
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["0"]])
        _ = try await pair.target.execute("ALTER TABLE t DROP CONSTRAINT once")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t SELECT i, i FROM generate_series(501, 1000) i", state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 1_000)
        }
    }
}
