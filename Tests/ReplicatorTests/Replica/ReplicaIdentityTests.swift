import ReplicationCore
import Testing

@testable import Replicator

@Suite struct ReplicaIdentityTests {
    @Test func updateWithUnchangedTOASTKeepsTargetValue() async throws {
        let pair = try await ReplicaPair(
            """
            CREATE TABLE "Reservas" (id text PRIMARY KEY, "apiData" text, "crmNotes" text);
            ALTER TABLE "Reservas" ALTER "apiData" SET STORAGE EXTERNAL;
            """)
        try await pair.streaming { state in
            try await pair.apply(
                """
                INSERT INTO "Reservas" SELECT 'r' || i, repeat(md5(i::text), 1000), 'old' FROM generate_series(1, 20) i;
                UPDATE "Reservas" SET "crmNotes" = 'new';
                UPDATE "Reservas" SET "apiData" = repeat('x', 20000), "crmNotes" = 'both' WHERE id = 'r3';
                UPDATE "Reservas" SET "crmNotes" = 'after' WHERE id = 'r3';
                """, state)
            try await pair.apply("UPDATE \"Reservas\" SET \"crmNotes\" = 'alone' WHERE id = 'r4'", state)
            try await pair.expectSame("SELECT * FROM \"Reservas\" ORDER BY id", atLeast: 20)
            #expect(state.snapshot().counters.fallbacks == 0)
        }
    }

    @Test func keyUpdateMovesTheRow() async throws {
        let pair = try await ReplicaPair(
            """
            CREATE TABLE t (id int PRIMARY KEY, big text, note text);
            ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
            """)
        try await pair.streaming { state in
            try await pair.apply(
                "INSERT INTO t SELECT i, repeat(md5(i::text), 500), 'n' FROM generate_series(1, 5) i", state)
            try await pair.apply(
                """
                BEGIN; UPDATE t SET note = 'before' WHERE id = 1; UPDATE t SET id = 100 WHERE id = 1;
                UPDATE t SET note = 'after' WHERE id = 100; UPDATE t SET id = 1 WHERE id = 2; COMMIT;
                UPDATE t SET id = id + 1000;
                """, state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 5)
        }
    }

    @Test func identityByIndexFindsRowsByThatIndex() async throws {
        let pair = try await ReplicaPair(
            """
            CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, v int);
            CREATE UNIQUE INDEX code_index ON t (code);
            ALTER TABLE t REPLICA IDENTITY USING INDEX code_index;
            """)
        try await pair.streaming { state in
            try await pair.apply(
                """
                INSERT INTO t SELECT i, 'c' || i, i FROM generate_series(1, 9) i;
                UPDATE t SET v = v * 10 WHERE id % 2 = 0; UPDATE t SET id = id + 100 WHERE id < 4;
                DELETE FROM t WHERE code = 'c9'; UPDATE t SET code = 'moved' WHERE code = 'c1';
                """, state)
            try await pair.expectSame("SELECT * FROM t ORDER BY code", atLeast: 8)
        }
    }

    @Test func fullIdentityChangesExactlyOneOfEqualRows() async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL;")
        try await pair.streaming { state in
            try await pair.apply(
                """
                INSERT INTO t VALUES (1, NULL), (1, NULL), (2, 'x'), (NULL, NULL), (2, 'x'), (2, 'x');
                UPDATE t SET b = 'one' WHERE ctid = (SELECT ctid FROM t WHERE a = 1 LIMIT 1);
                DELETE FROM t WHERE ctid = (SELECT ctid FROM t WHERE a = 2 LIMIT 1);
                DELETE FROM t WHERE a IS NULL;
                """, state)
            try await pair.expectSame("SELECT * FROM t ORDER BY a, b", atLeast: 4)
        }
    }

    @Test func fullIdentityWithATargetKeyUsesTheKey() async throws {
        let pair = try await ReplicaPair(
            """
            CREATE TABLE t (id int PRIMARY KEY, a int, big text);
            ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
            """)
        try await pair.streaming { state in
            try await pair.apply(
                """
                INSERT INTO t SELECT i, i, repeat(md5(i::text), 500) FROM generate_series(1, 50) i;
                UPDATE t SET a = a + 1; UPDATE t SET id = id + 1000 WHERE id > 40; DELETE FROM t WHERE id < 5;
                """, state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 46)
        }
    }

    @Test func missingRowStopsTheDirectionAndNamesTheTransaction() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int);")
        let state = DirectionState()
        let running = pair.start(state)
        try await pair.apply("INSERT INTO t VALUES (1, 1), (2, 2)", state)
        _ = try await pair.target.execute("DELETE FROM t WHERE id = 2")
        _ = try await pair.source.execute(
            "BEGIN; UPDATE t SET v = 10 WHERE id = 1; COMMIT; BEGIN; UPDATE t SET v = 11 WHERE id = 1; UPDATE t SET v = 20 WHERE id = 2; COMMIT")
        let failure = await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(failure?.code == .rowMissing)
        #expect(failure?.message.contains("update on t") == true)
        // The transaction before it is there; nothing of the one that failed.
        let rows = try await pair.rows("SELECT id, v FROM t", on: pair.target)
        #expect(rows == [["1", "10"]])
    }

    @Test func missingRowIsCountedWhenAskedTo() async throws {
        var replication = ReplicationSettings()
        replication.missingRow = .count
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int);", replication: replication)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 1), (2, 2)", state)
            _ = try await pair.target.execute("DELETE FROM t WHERE id = 2")
            try await pair.apply("UPDATE t SET v = v * 10", state)
            #expect(state.snapshot().counters.missingRows == 1)
            let rows = try await pair.rows("SELECT id, v FROM t", on: pair.target)
            #expect(rows == [["1", "10"]])
        }
    }
}
