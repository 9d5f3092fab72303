import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// The source's tables change while the stream runs.
@Suite struct SchemaDriftTests {
    private func problem(_ state: DirectionState) async throws -> String {
        try await waitUntil("the direction pauses") { state.phase == .paused }
        return state.snapshot().problem ?? ""
    }

    @Test func newColumnPausesBeforeItsFirstChangeAndGoesOnAfterTheSQLIsRun() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 'a')", state)
            for sql in [
                "INSERT INTO t VALUES (2, 'before'); INSERT INTO u VALUES (1)",
                "ALTER TABLE t ADD COLUMN extra numeric(8,2) NOT NULL DEFAULT 1.5",
                "INSERT INTO u VALUES (2); INSERT INTO t VALUES (3, 'after', 7)",
            ] { _ = try await pair.source.execute(sql) }
            let problem = try await problem(state)
            #expect(problem.contains("Column t.extra does not exist on the target."))
            let sql = #"ALTER TABLE "public"."t" ADD COLUMN "extra" numeric(8,2) DEFAULT 1.5 NOT NULL;"#
            #expect(problem.contains(sql))
            // What came before is there, of the transaction that no longer fits nothing.
            let before = try await pair.rows("SELECT (SELECT string_agg(id::text, ',' ORDER BY id) FROM t), (SELECT count(*) FROM u)", on: pair.target)
            #expect(before == [["1,2", "1"]])
            let noted = try await pair.rows("SELECT state, problem LIKE '%extra%' FROM lindero.direction", on: pair.target)
            #expect(noted == [["paused", "t"]])
            _ = try await pair.target.execute(sql)
            try await waitUntil("it goes on") { state.phase != .paused }
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 3)
            try await pair.expectSame("SELECT * FROM u ORDER BY id", atLeast: 2)
        }
    }

    @Test func additionsAreFollowedWhenAllowed() async throws {
        var replication = ReplicationSettings()
        replication.ddl = .follow
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v text)", replication: replication)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 'a')", state)
            _ = try await pair.source.execute(
                """
                ALTER TABLE t ADD COLUMN n int NOT NULL DEFAULT 5; ALTER TABLE t ADD COLUMN "camelCase" timestamptz;
                INSERT INTO t VALUES (2, 'b', 6, '2026-01-01'); CREATE TABLE fresh (id int PRIMARY KEY, w text); INSERT INTO fresh VALUES (1, 'w');
                """)
            try await waitUntil("the new table is there") {
                try await pair.rows("SELECT to_regclass('fresh') IS NOT NULL", on: pair.target) == [["t"]]
            }
            try await waitUntil("it streams again") { state.phase == .streaming }
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 2)
            try await pair.expectSame("SELECT * FROM fresh")
        }
    }

    @Test func changedTypePausesWithTheSQL() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 1)", state)
            _ = try await pair.source.execute("ALTER TABLE t ALTER v TYPE text USING v::text; INSERT INTO t VALUES (2, 'two')")
            let problem = try await problem(state)
            let sql = #"ALTER TABLE "public"."t" ALTER COLUMN "v" TYPE text USING "v"::text;"#
            #expect(problem.contains(sql))
            _ = try await pair.target.execute(sql)
            try await waitUntil("it goes on") { state.phase != .paused }
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 2)
        }
    }

    @Test func renamedTablePausesUntilTheTargetHasTheName() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 1)", state)
            _ = try await pair.source.execute("ALTER TABLE t RENAME TO renamed; INSERT INTO renamed VALUES (2, 2)")
            let problem = try await problem(state)
            #expect(problem.contains("Table renamed does not exist on the target."))
            _ = try await pair.target.execute("ALTER TABLE t RENAME TO renamed")
            try await waitUntil("it goes on") { state.phase != .paused }
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM renamed ORDER BY id", atLeast: 2)
        }
    }

    @Test func droppedColumnOnTheSourceKeepsTheTargetsValues() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int, gone text)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 1, 'kept')", state)
            try await pair.apply("ALTER TABLE t DROP COLUMN gone; UPDATE t SET v = 2; INSERT INTO t VALUES (2, 2)", state)
            let rows = try await pair.rows("SELECT * FROM t ORDER BY id", on: pair.target)
            #expect(rows == [["1", "2", "kept"], ["2", "2", nil]])
        }
    }

    @Test func columnDroppedOnTheTargetIsNoticedMidStream() async throws {
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY, v int)")
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO t VALUES (1, 1)", state)
            _ = try await pair.target.execute("ALTER TABLE t DROP COLUMN v")
            _ = try await pair.source.execute("UPDATE t SET v = 2")
            let problem = try await problem(state)
            #expect(problem.contains("Column t.v does not exist on the target."))
            _ = try await pair.target.execute("ALTER TABLE t ADD COLUMN v int")
            try await waitUntil("it goes on") { state.phase != .paused }
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT * FROM t")
        }
    }

    @Test func enumValueAddedOnTheSourceStopsWithTheCauseUntilTheTargetHasIt() async throws {
        let pair = try await ReplicaPair("CREATE TYPE mood AS ENUM ('a'); CREATE TABLE t (id int PRIMARY KEY, m mood)")
        let state = DirectionState()
        let running = pair.start(state)
        try await pair.apply("INSERT INTO t VALUES (1, 'a')", state)
        _ = try await pair.source.execute("ALTER TYPE mood ADD VALUE 'b'")
        _ = try await pair.source.execute("INSERT INTO t VALUES (2, 'b')")
        let failure = await #expect(throws: ReplicationFailure.self) { try await running.value }
        #expect(failure?.code == .changeRefused)
        // The value itself is never printed.
        #expect(failure?.message.contains("\"b\"") == false)
        _ = try await pair.target.execute("ALTER TYPE mood ADD VALUE 'b'")
        try await pair.streaming { again in
            try await waitUntil("it streams") { again.phase == .streaming }
            try await pair.catchUp(again)
            try await pair.expectSame("SELECT * FROM t ORDER BY id", atLeast: 2)
        }
    }
}
