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
