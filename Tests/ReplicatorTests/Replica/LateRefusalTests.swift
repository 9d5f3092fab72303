import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Changes that the target refuses at the end of their transaction, where the table lets the stream go on.
@Suite struct LateRefusalTests {
    private static let schema =
        "CREATE TABLE t (id int PRIMARY KEY, v text, par text); ALTER TABLE t ALTER par SET STORAGE EXTERNAL;"
    private static let look = """
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NEW.v = 'bad' THEN RAISE check_violation USING MESSAGE = 'at the end'; END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look();
        ALTER TABLE t ENABLE ALWAYS TRIGGER late;
        """

    /// Each row is larger than a piece, so that the last one holds the transaction's end alone.
    @Test(arguments: [1, 2, 3])
    func whatIsRefusedAtAnEndThatComesAloneIsFound(bad: Int) async throws {
        var replication = ReplicationSettings()
        replication.streaming = .on
        replication.spillDirectory = "/tmp/lindero-late-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        replication.memoryLimitBytes = 4_000_000
        let policy = FreshPair.policy(["t"])
        let pair = try await ReplicaPair(
            StreamingPair.workMemory + Self.schema, targetSchema: Self.schema + Self.look,
            policy: OwnershipPolicy(
                tables: policy.tables.mapValues { rule in
                    var rule = rule
                    rule.onError = .quarantine
                    return rule
                }),
            replication: replication, cluster: "streaming")
        try await pair.streaming { state in
            try await pair.apply(
                "INSERT INTO t SELECT i, CASE i WHEN \(bad) THEN 'bad' ELSE 'ok' END, repeat('x', 2500000) FROM generate_series(1, 3) i", state)
        }
        try await pair.expectSame("SELECT id, v, length(par) FROM t WHERE v <> 'bad' ORDER BY id", atLeast: 2)
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["2"]])
        let kept = try await pair.rows("SELECT position, operation FROM lindero.quarantine", on: pair.target)
        #expect(kept == [["\(bad - 1)", "insert"]])
    }
}
