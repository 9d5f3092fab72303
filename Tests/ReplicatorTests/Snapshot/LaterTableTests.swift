import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// Tables that a direction gets after its first copy.
@Suite struct LaterTableTests {
    /// A direction of table `a` that was copied and has streamed, and a further table with rows on the source.
    private func stopped() async throws -> FreshPair {
        var pair = try await FreshPair(
            """
            CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a VALUES (1, 1);
            CREATE TABLE added (id int PRIMARY KEY, v int NOT NULL DEFAULT 7, par int REFERENCES a(id));
            CREATE INDEX added_v ON added (v); INSERT INTO added VALUES (1, 1, 1), (2, 2, 1);
            """, policy: FreshPair.policy(["a"]))
        try await streaming(pair) { _ in }
        _ = try await pair.source.execute("INSERT INTO a VALUES (2, 2); INSERT INTO added VALUES (3, 3, 2)")
        pair.settings.policy = FreshPair.policy(["a", "added"])
        return pair
    }

    private func streaming(_ pair: FreshPair, _ body: (DirectionState) async throws -> Void) async throws {
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        if state.phase == .stopped { try await running.value }
        try await pair.catchUp(state)
        try await body(state)
        state.drain()
        try await running.value
    }

    @Test func tableAddedToTheConfigurationIsPublishedCopiedAndStreamed() async throws {
        let pair = try await stopped()
        try await streaming(pair) { state in
            _ = try await pair.source.execute("UPDATE added SET v = 20 WHERE id = 2; INSERT INTO added (id, par) VALUES (4, 1)")
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM added ORDER BY id")
            try await pair.expectSame("SELECT * FROM a ORDER BY id")
            let keys = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'added'::regclass AND contype <> 'n' ORDER BY 1"
            let expected = try await pair.rows(keys, on: pair.source)
            try await waitUntil("keys are the source's, validated") { try await pair.rows(keys, on: pair.target) == expected }
            try await pair.expectSame("SELECT indexdef FROM pg_indexes WHERE tablename = 'added' ORDER BY 1")
        }
    }

    @Test func additionThatWasKilledBeforeItsKeysIsFinished() async throws {
        let pair = try await stopped()
        try await streaming(pair) { _ in }
        _ = try await pair.target.execute(
            #"ALTER TABLE added DROP CONSTRAINT added_pkey; UPDATE lindero.direction SET unfinished_tables = '{"\"public\".\"added\""}'"#)
        try await streaming(pair) { _ in }
        try await pair.expectSame("SELECT indexdef FROM pg_indexes WHERE tablename = 'added' ORDER BY 1")
        let noted = try await pair.rows("SELECT unfinished_tables FROM lindero.direction", on: pair.target)
        #expect(noted == [["{}"]])
    }

    @Test func addedTableWithRowsOnTheTargetIsRefused() async throws {
        let pair = try await stopped()
        _ = try await pair.target.execute("CREATE TABLE added (id int PRIMARY KEY, v int, par int); INSERT INTO added VALUES (9, 9, 9)")
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .targetNotEmpty)
        let published = try await pair.rows("SELECT tablename FROM pg_publication_tables WHERE pubname = '\(pair.settings.publication)'", on: pair.source)
        #expect(published == [["a"]])
    }

    @Test func addedTableWithoutAKeyIsNotPublished() async throws {
        let pair = try await stopped()
        _ = try await pair.source.execute("ALTER TABLE added DROP CONSTRAINT added_pkey")
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.nextStep.contains("REPLICA IDENTITY FULL") == true)
        _ = try await pair.source.execute("UPDATE added SET v = 5")
    }

    @Test func tableThatLeftThePublicationIsRefusedAndTheAdviceWorks() async throws {
        let pair = try await stopped()
        try await streaming(pair) { _ in }
        _ = try await pair.source.execute("ALTER PUBLICATION \(pair.settings.publication) DROP TABLE added; INSERT INTO added VALUES (50, 1, 1)")
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .publicationTable)
        let advice = try #require(failure?.nextStep)
        let forget = try #require(advice.split(separator: "On sync: ").last?.split(separator: " Then `").first)
        _ = try await pair.target.execute(String(forget))
        // The publication is Lindero's own, so it lists the table again by itself.
        try await streaming(pair) { _ in try await pair.expectSame("SELECT * FROM added ORDER BY id") }
    }

    private static let left = "SELECT table_name FROM lindero.table_copy WHERE left_at_lsn IS NOT NULL"

    /// Taken out by mistake and put back before anything streamed, it has missed nothing.
    @Test func tableThatLeavesIsNotedAndWholeUntilSomethingStreams() async throws {
        let pair = try await stopped()
        try await streaming(pair) { _ in }
        var without = pair
        without.settings.policy = FreshPair.policy(["a"])
        try await LeftTables(settings: without.settings, target: pair.target).follow()
        #expect(try await pair.rows(Self.left, on: pair.target) == [["added"]])
        try await LeftTables(settings: pair.settings, target: pair.target).follow()
        #expect(try await pair.rows(Self.left, on: pair.target) == [])

        try await streaming(without) { state in
            _ = try await pair.source.execute("UPDATE added SET v = 30 WHERE id = 3")
            try await pair.catchUp(state)
        }
        let failure = await #expect(throws: ReplicationFailure.self) { try await streaming(pair) { _ in } }
        #expect(failure?.code == .tableLeft)
        // Who knows better may say so.
        let advice = try #require(failure?.nextStep.split(separator: "run there instead: ").last?.split(separator: " Or leave").first)
        _ = try await pair.target.execute("UPDATE added SET v = 30 WHERE id = 3; " + advice)
        try await streaming(pair) { _ in try await pair.expectSame("SELECT * FROM added ORDER BY id") }
    }

    @Test func tableThatOthersReferToIsCopiedAnewByTheAdvice() async throws {
        var pair = try await stopped()
        let both = pair
        try await streaming(both) { _ in
            try await waitUntil("its foreign key is there") {
                try await both.rows("SELECT 1 FROM pg_constraint WHERE conrelid = 'added'::regclass AND contype = 'f'", on: both.target)
                    == [["1"]]
            }
        }
        pair.settings.policy = FreshPair.policy(["added"])
        let without = pair
        try await streaming(without) { state in
            _ = try await pair.source.execute("UPDATE a SET v = 77 WHERE id = 1; INSERT INTO a VALUES (3, 3)")
            try await pair.catchUp(state)
        }
        pair.settings.policy = FreshPair.policy(["a", "added"])
        let back = pair
        let failure = await #expect(throws: ReplicationFailure.self) { try await streaming(back) { _ in } }
        let advice = try #require(failure?.nextStep.split(separator: "run on sync: ").last?.split(separator: " Then `").first)
        _ = try await pair.target.execute(String(advice))
        try await streaming(pair) { _ in
            try await back.expectSame("SELECT * FROM a ORDER BY id")
            try await back.expectSame("SELECT * FROM added ORDER BY id")
        }
    }

    @Test func tableCreatedEmptyOnAnAdoptedTargetGetsItsRowsAtTheNextStart() async throws {
        let pair = try await ReplicaPair(
            "CREATE TABLE t (id int PRIMARY KEY)", publication: "CREATE PUBLICATION p FOR TABLE t")
        let sync = InitialSync(settings: pair.settings, state: DirectionState(), logger: FreshPair.quiet)
        try await sync.run()
        try await pair.streaming { state in try await pair.apply("INSERT INTO t VALUES (1)", state) }
        _ = try await pair.source.execute(
            "CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1), (2); ALTER PUBLICATION p ADD TABLE later; INSERT INTO later VALUES (3)")
        _ = try await pair.target.execute("CREATE TABLE later (id int PRIMARY KEY)")
        try await sync.run()
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO later VALUES (4)", state)
            try await pair.expectSame("SELECT id FROM later ORDER BY id", atLeast: 4)
        }
    }
}

/// A change comes of a table that the target lacks.
@Suite struct TableArrivalTests {
    private func pair(_ ddl: ReplicationSettings.DDL) async throws -> ReplicaPair {
        var replication = ReplicationSettings()
        replication.ddl = ddl
        return try await ReplicaPair(
            "CREATE TABLE t (id int PRIMARY KEY)", publication: "CREATE PUBLICATION p FOR TABLE t", replication: replication)
    }

    private static let older = """
        CREATE TABLE old (id int PRIMARY KEY, v text UNIQUE); INSERT INTO old VALUES (1, 'a'), (2, 'b');
        ALTER PUBLICATION p ADD TABLE old; INSERT INTO old VALUES (3, 'c');
        """

    private func settle(_ pair: ReplicaPair, _ state: DirectionState, rows: Int) async throws {
        try await waitUntil("it streams again") { [.streaming, .catchingUp, .stopped].contains(state.phase) }
        try await pair.apply("UPDATE old SET v = v || 'x'; INSERT INTO t VALUES (2)", state)
        try await pair.expectSame("SELECT * FROM old ORDER BY id", atLeast: rows)
    }

    @Test func followedTableComesWithTheRowsItHad() async throws {
        let pair = try await pair(.follow)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1)", state)
            _ = try await pair.source.execute(Self.older)
            try await waitUntil("the table is there") {
                try await pair.rows("SELECT to_regclass('old') IS NOT NULL", on: pair.target) == [["t"]]
            }
            try await settle(pair, state, rows: 3)
            try await pair.expectSame("SELECT indexdef FROM pg_indexes WHERE tablename = 'old' ORDER BY 1")
        }
    }

    @Test func tableMadeByTheAdvisedSQLGetsTheRowsItHad() async throws {
        let pair = try await pair(.pause)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1)", state)
            _ = try await pair.source.execute(Self.older)
            try await waitUntil("the direction pauses") { state.phase == .paused }
            let problem = state.snapshot().problem ?? ""
            #expect(problem.contains("The rows that it has already are copied then."))
            let sql = #"CREATE TABLE "public"."old" ("id" int"#
            #expect(problem.contains(sql))
            // Half of it first: it waits on, and says what is missing.
            _ = try await pair.target.execute("CREATE TABLE old (id int PRIMARY KEY)")
            try await waitUntil("it says what is missing") { state.snapshot().problem?.contains("Column old.v does not exist") == true }
            _ = try await pair.target.execute("ALTER TABLE old ADD COLUMN v text")
            try await waitUntil("it goes on") { state.phase != .paused }
            try await settle(pair, state, rows: 3)
        }
    }

    @Test func tableDroppedOnTheTargetIsFollowedWhole() async throws {
        let pair = try await pair(.follow)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1)", state)
            try await pair.apply("INSERT INTO t VALUES (3)", state)
            _ = try await pair.target.execute("DROP TABLE t")
            _ = try await pair.source.execute("INSERT INTO t VALUES (4)")
            try await waitUntil("it is whole again") {
                let rows = try? await pair.rows("SELECT id FROM t ORDER BY id", on: pair.target)
                return rows == [["1"], ["3"], ["4"]]
            }
        }
    }

    @Test(.enabled(if: PostgresBinaries.defaultVersion >= 15))
    func tableThatIsPublishedInPartIsNotFollowed() async throws {
        let pair = try await pair(.follow)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1)", state)
            _ = try await pair.source.execute(
                "CREATE TABLE old (id int PRIMARY KEY, v text); INSERT INTO old VALUES (1, 'a'); ALTER PUBLICATION p ADD TABLE old WHERE (id > 0); INSERT INTO old VALUES (3, 'c')")
            try await waitUntil("the direction pauses") { state.phase == .paused }
            #expect(state.snapshot().problem?.contains("do not come by themselves") == true)
            _ = try await pair.target.execute("CREATE TABLE old (id int PRIMARY KEY, v text); INSERT INTO old VALUES (1, 'a')")
            try await waitUntil("it goes on") { state.phase != .paused }
            try await settle(pair, state, rows: 2)
        }
    }
}
