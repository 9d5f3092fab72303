import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

@Suite struct IndexBuilderTests {
    static let schema = """
        CREATE TABLE parent (id int PRIMARY KEY, code text UNIQUE);
        CREATE TABLE t (id int PRIMARY KEY, a int, b text, r int4range, owner int REFERENCES parent, CHECK (a >= 0),
          EXCLUDE USING gist (r WITH &&), UNIQUE (a, id) DEFERRABLE INITIALLY DEFERRED);
        CREATE INDEX t_b ON t (b DESC NULLS LAST) INCLUDE (a) WHERE a > 3;
        CREATE INDEX t_hash ON t USING hash (b); CREATE INDEX t_expression ON t ((lower(b)), (a + 1));
        CREATE UNIQUE INDEX t_u ON t (id, b);
        CREATE TABLE p (id int, v text, PRIMARY KEY (id)) PARTITION BY HASH (id);
        CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE INDEX p0_v_idx ON p0 (v DESC); CREATE INDEX ON p (v DESC NULLS LAST); CREATE INDEX ON p (v, id);
        ALTER TABLE p1 ADD CONSTRAINT p1_own CHECK (v > '');
        INSERT INTO parent SELECT i, 'c' || i FROM generate_series(1, 100) i;
        INSERT INTO t SELECT i, i % 50, repeat('b', i % 200), int4range(i * 2, i * 2 + 1), i % 100 + 1
          FROM generate_series(1, 20000) i;
        INSERT INTO p SELECT i, 'v' || i FROM generate_series(1, 5000) i;
        """
    static let indexes = """
        SELECT c.relname, pg_get_indexdef(c.oid), i.indisvalid, h.inhparent::regclass FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid LEFT JOIN pg_inherits h ON h.inhrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1
        """
    static let constraints = """
        SELECT conrelid::regclass::text, conname, contype, convalidated, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
        """

    @Test func indexesAndConstraintsComeAfterTheDataAndEqualTheSources() async throws {
        var replication = ChunkedCopyTests.settings(rate: 1_500_000)
        replication.copy.indexMemoryBytes = 100 << 20
        let pair = try await FreshPair(Self.schema, replication: replication)
        let state = DirectionState()
        async let done: Void = pair.sync(state)
        var most = 0
        var seen: [CopyProgress] = []
        let count = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace"
        while state.snapshot().copy?.step != .indexes {
            let found = try await pair.rows(count, on: pair.target)
            if let copy = state.snapshot().copy, copy.step == .data, copy.tablesDone < 3 {
                most = max(most, Int(found[0][0] ?? "") ?? 0)
                seen.append(copy)
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        try await done
        #expect(most == 0)
        #expect(seen.contains { $0.sizeDone > 0 && $0.sizeDone < $0.sizeTotal && $0.etaSeconds != nil })
        try await pair.expectSame(Self.indexes)
        try await pair.expectSame(Self.constraints)
        let copy = try #require(state.snapshot().copy)
        #expect(copy.indexesDone == copy.indexesTotal && copy.indexesTotal == 19)
        let analyzed = try await pair.rows("SELECT reltuples::int FROM pg_class WHERE relname = 't'", on: pair.target)
        #expect(analyzed == [["20000"]])
    }

    @Test func killedWhileIndexesAreBuiltItGoesOn() async throws {
        let pair = try await FreshPair(Self.schema, replication: ChunkedCopyTests.settings(jobs: 2))
        for round in 1...5 {
            let state = DirectionState()
            let running = Task { try await pair.sync(state) }
            try await waitUntil("some are built") {
                let copy = state.snapshot().copy
                return copy?.step == .indexes && (copy?.indexesDone ?? 0) >= min(round * 2, copy?.indexesTotal ?? 0)
            }
            running.cancel()
            _ = await running.result
        }
        try await pair.sync()
        try await pair.expectSame(Self.indexes)
        try await pair.expectSame(Self.constraints)
        try await pair.expectSame("SELECT count(*), sum(hashtext(x::text)::bigint) FROM t x")
    }

    @Test func indexThatCannotBeMadeIsNamedAndTheDataIsKept() async throws {
        let pair = try await FreshPair("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
        _ = try await pair.source.execute("CREATE FUNCTION f(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'; CREATE INDEX t_f ON t (f(v))")
        let failure = await #expect(throws: ReplicationFailure.self) { try await pair.sync() }
        #expect(failure?.code == .schemaDiffers)
        #expect(failure?.message.contains("t_f") == true)
        try await pair.expectSame("SELECT * FROM t")
        _ = try await pair.target.execute("CREATE FUNCTION public.f(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
        try await pair.sync()
        try await pair.expectSame(Self.indexes)
    }
}
