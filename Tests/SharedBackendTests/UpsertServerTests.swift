import PostgresClient
import TestSupport
import Testing

@testable import SharedBackend

/// What the server refuses costs one record; what the server suffers is waited out; nothing committed goes untold.
@Suite struct UpsertServerTests {
    @Test func recordThatTheServerCannotStoreIsRefusedAndTheOthersGoOn() async throws {
        let scene = try await UpsertTable(
            """
            CREATE TABLE t (id text PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, k text UNIQUE, j jsonb, v varchar(3), i int,
              s smallint CHECK (s > 0), e text);
            CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$
              BEGIN IF NEW.e = 'own' THEN RAISE 'value own' USING ERRCODE = 'HT001'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER picky BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION picky();
            """)
        // Random, so that compression does not make it fit after all.
        let long = (0..<20_000).map { _ in String(UnicodeScalar(UInt8.random(in: 97...122))) }.joined()
        let deep = String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)
        let bad = [
            "\"k\":\"\(long)\"", "\"j\":\(deep)", "\"n\":7", "\"i\":\"secret\"", "\"v\":\"secret\"", "\"s\":-1", "\"s\":99999",
            "\"e\":\"own\"",
        ]
        let lines = bad.enumerated().flatMap { ["{\"id\":\"b\($0)\",\($1)}", "{\"id\":\"g\($0)\",\"i\":\($0)}"] }
        let outcome = try await scene.upsert(lines.joined(separator: "\n"))
        #expect(outcome.counts == [bad.count, 0, 0, bad.count])
        #expect(
            outcome.refusals == [
                "line 1: program_limit_exceeded", "line 3: column \"j\": statement_too_complex",
                "line 5: column \"n\" is GENERATED ALWAYS AS IDENTITY: PostgreSQL numbers it",
                "line 7: column \"i\": invalid_text_representation", "line 9: column \"v\": string_data_right_truncation",
                "line 11: check_violation, constraint \"t_s_check\"", "line 13: column \"s\": numeric_value_out_of_range",
                "line 15: error HT001",
            ])
    }

    @Test func identityThatIsTheMatchKeyMayBeGiven() async throws {
        let scene = try await UpsertTable("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)")
        #expect(try await scene.upsert("{\"id\":5,\"v\":\"x\"}\n{\"id\":6,\"v\":\"y\"}").counts == [2, 0, 0, 0])
        #expect(try await scene.upsert("{\"id\":5,\"v\":\"z\"}\n{\"id\":6,\"v\":\"y\"}").counts == [0, 1, 1, 0])
    }

    @Test func columnThatATriggerOrADomainFillsIsNotMissed() async throws {
        let scene = try await UpsertTable(
            """
            CREATE DOMAIN counted AS int DEFAULT 5;
            CREATE TABLE t (id int PRIMARY KEY, filled text NOT NULL, c counted NOT NULL, v text, needed text NOT NULL DEFAULT 'd');
            CREATE FUNCTION label() RETURNS text LANGUAGE sql AS $$ SELECT 'by trigger'::text $$;
            CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$
              BEGIN IF NEW.v IS NOT NULL THEN NEW.filled = label(); END IF; RETURN NEW; END $$;
            """)
        let before = try await scene.upsert("{\"id\":1,\"v\":\"x\"}")
        #expect(before.refusals == ["line 1: the row does not exist, and a new one needs column \"filled\", which has no default"])
        _ = try await scene.connection.execute(
            "CREATE TRIGGER fill BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fill()")
        // The trigger calls a function without its schema, as a service's own session lets it.
        let after = try await scene.upsert("{\"id\":1,\"v\":\"x\"}\n{\"id\":2}\n{\"id\":3,\"filled\":\"f\"}")
        #expect(after.counts == [2, 0, 0, 1])
        #expect(after.refusals == ["line 2: column \"filled\": not_null_violation"])
        let rows = try await scene.rows("SELECT id, filled, c FROM t ORDER BY 1")
        #expect(rows == [["1", "by trigger", "5"], ["3", "f", "5"]])
    }

    @Test func serviceRoleUpsertsWhatItsRowSecurityShows() async throws {
        var scene = try await UpsertTable(
            """
            CREATE TABLE t (id int PRIMARY KEY, tenant text NOT NULL, v text);
            INSERT INTO t VALUES (1, 'mine', 'old'), (2, 'theirs', 'old'), (3, 'mine', 'same');
            ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (tenant = 'mine');
            """)
        scene.role = "svc_\(UInt64.random(in: 0...UInt64.max))"
        _ = try await scene.connection.execute("CREATE ROLE \(scene.role) LOGIN; GRANT SELECT, INSERT, UPDATE ON t TO \(scene.role)")
        let outcome = try await scene.upsert(
            """
            {"id":1,"tenant":"mine","v":"new"}
            {"id":2,"tenant":"mine","v":"stolen"}
            {"id":3,"tenant":"mine","v":"same"}
            {"id":4,"tenant":"mine","v":"new"}
            {"id":5,"tenant":"theirs","v":"new"}
            """)
        #expect(outcome.counts == [1, 1, 1, 2], "\(outcome.refusals)")
        #expect(
            outcome.refusals == [
                "line 2: row-level security does not let this role write the row",
                "line 5: row-level security does not let this role write the row",
            ])
        let rows = try await scene.rows("SELECT id, tenant, v FROM t ORDER BY 1")
        #expect(rows == [["1", "mine", "new"], ["2", "theirs", "old"], ["3", "mine", "same"], ["4", "mine", "new"]])
        // A missing privilege is no record's fault.
        _ = try await scene.connection.execute("REVOKE UPDATE ON t FROM \(scene.role)")
        await #expect(throws: UpsertInterruption.self) { _ = try await scene.upsert("{\"id\":1,\"v\":\"x\"}\n{\"id\":3,\"v\":\"x\"}") }
    }

    @Test func fatalFailureTellsWhatWasCommitted() async throws {
        let scene = try await UpsertTable("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (7, 'locked')")
        let locker = try await scene.lock("UPDATE t SET v = 'theirs' WHERE id = 7")
        var options = UpsertOptions()
        options.batchRecords = 3
        options.statementTimeoutMilliseconds = Int(patient(.milliseconds(500)) / .milliseconds(1))
        let lines = (1...9).map { "{\"id\":\($0),\"v\":\"x\"}" }
        let interruption = await #expect(throws: UpsertInterruption.self) {
            _ = try await scene.upsert("not json\n" + lines.joined(separator: "\n"), options: options)
        }
        await locker.close()
        #expect(interruption?.summary.inserted == 6)
        #expect(interruption?.summary.refused == 1)
        #expect(interruption?.lineNumber == 8)
        #expect(try await scene.rows("SELECT count(*) FROM t") == [["7"]])
    }

    @Test func statementTimeoutIsThirtySecondsByDefault() async throws {
        #expect(UpsertOptions().statementTimeoutMilliseconds == 30_000)
    }

    @Test func deadlockIsTriedAgain() async throws {
        let scene = try await UpsertTable(
            "CREATE TABLE t (id int PRIMARY KEY, a text, b text); INSERT INTO t VALUES (1), (2);"
                + "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''3s''', current_database()); END $$")
        let other = try await scene.lock("SET deadlock_timeout = '10min'", "UPDATE t SET a = 'other' WHERE id = 2")
        // Two sets of columns are two statements: row 1 is locked, then row 2 is waited for.
        async let running = scene.upsert("{\"id\":1,\"a\":\"mine\"}\n{\"id\":2,\"b\":\"mine\"}")
        try await scene.waitUntilBlocked()
        _ = try await other.execute("UPDATE t SET b = 'other' WHERE id = 1; COMMIT")
        let outcome = try await running
        await other.close()
        #expect(outcome.counts == [0, 2, 0, 0])
        #expect(outcome.summary.retries >= 1)
        #expect(try await scene.rows("SELECT * FROM t ORDER BY 1") == [["1", "mine", "other"], ["2", "other", "mine"]])
    }

    @Test func lostConnectionIsMadeAnewAndTheBatchAppliedOnce() async throws {
        let scene = try await UpsertTable(
            "CREATE TABLE t (id int PRIMARY KEY, a text, b text, version int DEFAULT 0); INSERT INTO t VALUES (1), (2);"
                + "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.version = OLD.version + 1; RETURN NEW; END $$;"
                + "CREATE TRIGGER up BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION up()")
        let locker = try await scene.lock("SELECT 1 FROM t WHERE id = 2 FOR UPDATE")
        async let running = scene.upsert("{\"id\":1,\"a\":\"mine\"}\n{\"id\":2,\"b\":\"mine\"}\n{\"id\":3,\"b\":\"mine\"}")
        try await scene.waitUntilBlocked()
        _ = try await scene.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        try await waitUntil("the upsert waits again") { try await scene.blocked().count == 1 }
        _ = try await locker.execute("COMMIT")
        let outcome = try await running
        await locker.close()
        #expect(outcome.counts == [1, 2, 0, 0])
        #expect(outcome.summary.retries >= 1)
        let rows = try await scene.rows("SELECT * FROM t ORDER BY 1")
        #expect(rows == [["1", "mine", nil, "1"], ["2", nil, "mine", "1"], ["3", nil, "mine", "0"]])
    }
}
