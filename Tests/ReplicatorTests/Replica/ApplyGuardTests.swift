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
        #expect(!problem.contains("lindero.direction"), "\(problem)")
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
