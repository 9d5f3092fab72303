import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// What the order of statements, children of tables and triggers on the target must not change.
@Suite struct ApplyOrderTests {
    @Test func childrenOfTheTargetsTableAreNotReached() async throws {
        let schema = "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE loner (a int); ALTER TABLE loner REPLICA IDENTITY FULL;"
        let pair = try await ReplicaPair(
            schema,
            targetSchema: schema
                + """
                CREATE TABLE child () INHERITS (parent); INSERT INTO child VALUES (1, 'child'), (2, 'child');
                CREATE TABLE loner_child () INHERITS (loner); INSERT INTO loner_child VALUES (7);
                """)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO parent VALUES (1, 'a'), (2, 'b'); INSERT INTO loner VALUES (7), (8)", state)
            try await pair.apply("UPDATE parent SET v = 'new' WHERE id = 1; DELETE FROM parent WHERE id = 2; DELETE FROM loner WHERE a = 7", state)
            #expect(try await pair.rows("SELECT id, v FROM ONLY parent", on: pair.target) == [["1", "new"]])
            try await pair.apply("TRUNCATE ONLY parent", state)
            #expect(try await pair.rows("SELECT count(*) FROM ONLY parent", on: pair.target) == [["0"]])
            #expect(try await pair.rows("SELECT id, v FROM child ORDER BY id", on: pair.target) == [["1", "child"], ["2", "child"]])
            #expect(try await pair.rows("SELECT (SELECT count(*) FROM ONLY loner), (SELECT count(*) FROM loner_child)", on: pair.target) == [["1", "1"]])
        }
    }

    /// Two rows have one key until the commit: the one that goes is not the one that came.
    @Test func underADeferredKeyARowThatWentIsNotTakenForTheOneThatCame() async throws {
        let pair = try await ReplicaPair(
            """
            CREATE TABLE t (id int, v text, PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED); ALTER TABLE t REPLICA IDENTITY FULL;
            INSERT INTO t VALUES (5, 'old')
            """)
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams") { state.phase == .streaming }
        _ = try await pair.source.execute("BEGIN; INSERT INTO t VALUES (5, 'new'); DELETE FROM t WHERE v = 'old'; COMMIT")
        await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(try await pair.rows("SELECT id, v FROM t", on: pair.target) == [["5", "old"]])
    }

    @Test func triggersThatFireForReplicatedRowsSeeOtherTablesAsTheSourceHadThem() async throws {
        let schema = "CREATE TABLE parent (id int PRIMARY KEY, name text); CREATE TABLE child (id int PRIMARY KEY, parent int);"
        let pair = try await ReplicaPair(
            schema,
            targetSchema: schema
                + """
                CREATE TABLE seen (child int, name text);
                CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                  INSERT INTO public.seen SELECT NEW.id, (SELECT name FROM public.parent WHERE id = NEW.parent); RETURN NEW; END $$;
                CREATE TRIGGER note AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION note();
                ALTER TABLE child ENABLE ALWAYS TRIGGER note;
                """)
        try await pair.streaming { state in
            try await pair.apply("BEGIN; INSERT INTO parent VALUES (1, 'Ana'); INSERT INTO child VALUES (1, 1); COMMIT", state)
            #expect(try await pair.rows("SELECT child, name FROM seen", on: pair.target) == [["1", "Ana"]])
        }
    }

    @Test func equalRowsAreFoundByTheirBytesWhateverTheirTypeThinksOfEquality() async throws {
        let pair = try await ReplicaPair(
            """
            CREATE DOMAIN label AS varchar(9);
            CREATE TABLE shapes (b box, j json, p point, n numeric, l label, c char(4), e text[]);
            ALTER TABLE shapes REPLICA IDENTITY FULL;
            """)
        try await pair.streaming { state in
            // Both boxes have the area 6, and both numbers are equal.
            try await pair.apply(
                """
                INSERT INTO shapes VALUES ('(2,3),(0,0)', '{"a": 1}', '(1,2)', 1.0, 'x', 'ab', '{x,NULL}'),
                  ('(6,1),(0,0)', '{"a":1}', NULL, 1.00, 'y', 'ab', NULL), (NULL, NULL, NULL, 'NaN', NULL, NULL, '{}');
                """, state)
            try await pair.apply("DELETE FROM shapes WHERE l = 'y'; UPDATE shapes SET p = '(9,9)' WHERE n = 'NaN'", state)
            try await pair.expectSame("SELECT t::text FROM shapes t ORDER BY t::text", atLeast: 2)
        }
    }

    @Test func errorThatWaitsForTheCommitStopsAtItsOwnTransaction() async throws {
        let schema = "CREATE TABLE t (id int PRIMARY KEY, v text);"
        let pair = try await ReplicaPair(
            schema,
            targetSchema: schema
                + """
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                  IF NEW.v = 'secret 5' THEN RAISE EXCEPTION 'bad value %', NEW.v USING ERRCODE = '45000', HINT = NEW.v; END IF;
                  RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
                ALTER TABLE t ENABLE ALWAYS TRIGGER refuse;
                """)
        for number in 1...9 { _ = try await pair.source.execute("INSERT INTO t VALUES (\(number), 'secret \(number)')") }
        let state = DirectionState()
        let result = await pair.start(state).result
        #expect(throws: ReplicationFailure.self) { try result.get() }
        let problem = state.snapshot().problem ?? ""
        #expect(problem.contains("SQLSTATE 45000"))
        #expect(!problem.contains("secret"))
        #expect(try await pair.rows("SELECT string_agg(id::text, ',' ORDER BY id) FROM t", on: pair.target) == [["1,2,3,4"]])
        // Mended, it goes on at that transaction, and nothing is left out.
        _ = try await pair.target.execute("DROP TRIGGER refuse ON t")
        try await pair.streaming { state in
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 9)
        }
    }

    /// What makes a row of the target's vanish without an error, once it has some.
    static let swallowing = [
        """
        CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 50 THEN RETURN NULL; END IF; RETURN NEW; END $$;
        CREATE TRIGGER skip BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION skip(); ALTER TABLE t ENABLE REPLICA TRIGGER skip;
        """,
        "CREATE RULE skip AS ON INSERT TO t WHERE NEW.id = 50 DO INSTEAD NOTHING; ALTER TABLE t ENABLE ALWAYS RULE skip;",
    ]

    @Test(arguments: swallowing, [1, 100]) func anInsertThatIsSwallowedStopsTheStream(_ maker: String, rows: Int) async throws {
        let schema = "CREATE TABLE t (id int PRIMARY KEY, v text);"
        let pair = try await ReplicaPair(schema, targetSchema: schema + maker)
        _ = try await pair.source.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 9) i")
        _ = try await pair.source.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(\(rows == 1 ? 50 : 10), \(rows == 1 ? 50 : 109)) i")
        let state = DirectionState()
        let result = await pair.start(state).result
        #expect(throws: ReplicationFailure.self) { try result.get() }
        let problem = state.snapshot().problem ?? ""
        #expect(problem.contains("swallowed it") && problem.contains("insert on t"), "\(problem)")
        #expect(try await pair.rows("SELECT count(*) FROM t", on: pair.target) == [["9"]])
        _ = try await pair.target.execute(maker.contains("RULE") ? "ALTER TABLE t DISABLE RULE skip" : "ALTER TABLE t DISABLE TRIGGER skip")
        try await pair.streaming { state in
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 9 + rows)
        }
    }
}
