import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

@Suite struct ChunkedCopyTests {
    static func settings(chunkBytes: Int = 256 << 10, jobs: Int = 3, rate: Int = 0) -> ReplicationSettings {
        var settings = ReplicationSettings()
        settings.copy.jobs = jobs
        settings.copy.chunkBytes = chunkBytes
        settings.copy.rateLimitBytes = rate
        return settings
    }

    /// About 6 MB in `t`, 2 MB in the partitions of `p`; values of every storage.
    static let schema = """
        CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, pad text, big text, UNIQUE (n) DEFERRABLE);
        ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
        CREATE TABLE p (id int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE p_a PARTITION OF p FOR VALUES FROM (0) TO (50);
        CREATE TABLE p_b PARTITION OF p FOR VALUES FROM (50) TO (80) PARTITION BY LIST (day);
        CREATE TABLE p_b1 PARTITION OF p_b FOR VALUES IN (51, 53, 55);
        CREATE TABLE p_b2 PARTITION OF p_b DEFAULT;
        CREATE TABLE p_c PARTITION OF p DEFAULT;
        CREATE INDEX ON t (pad, n); CREATE INDEX p_v ON p (v);
        INSERT INTO t SELECT i, i, repeat('x', 300), CASE WHEN i % 50 = 0 THEN repeat(i::text, 1500) END
          FROM generate_series(1, 16000) i;
        INSERT INTO p SELECT i, i % 100, repeat('p', 250) FROM generate_series(1, 8000) i;
        """

    static let digests = [
        "SELECT count(*), sum(hashtext(x::text)::bigint) FROM t x", "SELECT count(*), sum(hashtext(x::text)::bigint) FROM p x",
        "SELECT tableoid::regclass::text, count(*), sum(hashtext(x::text)::bigint) FROM p x GROUP BY 1 ORDER BY 1",
    ]

    /// Updates that move rows to other blocks, of values and keys, beside inserts and deletes.
    static func change(_ round: Int, _ generator: inout SeededGenerator) -> String {
        let id = Int.random(in: 1...16_000, using: &generator)
        let fresh = 100_000 + round * 100
        return [
            "UPDATE t SET pad = repeat('u', \(Int.random(in: 1...1_500, using: &generator))) WHERE id BETWEEN \(id) AND \(id + 20)",
            "DELETE FROM t WHERE id BETWEEN \(id) AND \(id + 10)",
            "INSERT INTO t SELECT i, -i, 'new', repeat('n', 3000) FROM generate_series(\(fresh), \(fresh + 60)) i",
            // Neither sends the large value, which has not changed.
            "UPDATE t SET id = -id - \(round) * 20000 WHERE id % 50 = 0 AND id BETWEEN \(id) AND \(id + 100)",
            "UPDATE t SET n = -n - 1000000 * \(round + 1) WHERE id % 50 = 0 AND id > 0 AND id < \(id)",
            "UPDATE p SET day = (day + 31) % 100, v = 'moved' WHERE id BETWEEN \(id / 2) AND \(id / 2 + 15)",
            "DELETE FROM p WHERE id BETWEEN \(id / 2) AND \(id / 2 + 5); VACUUM t; VACUUM p",
        ].randomElement(using: &generator) ?? ""
    }

    /// One transaction for each statement: VACUUM wants its own.
    static func run(_ script: String, on pair: FreshPair) async throws {
        for statement in script.split(separator: ";") { _ = try await pair.source.execute(String(statement)) }
    }

    /// Runs the copy until some parts are finished, then ends it as a kill does.
    static func copyInPart(_ pair: FreshPair, parts: Int) async throws {
        let state = DirectionState()
        let running = Task { try await pair.sync(state) }
        let count = "SELECT count(*) >= \(parts) FROM lindero.table_copy_chunk"
        try await waitUntil("\(parts) parts are copied") {
            if state.phase == .stopped { return true }
            return (try? await pair.rows(count, on: pair.target)) == [["t"]]
        }
        running.cancel()
        _ = await running.result
    }

    @Test func chunkedTablesEqualTheSourceThatIsWrittenMeanwhile() async throws {
        let pair = try await FreshPair(Self.schema, replication: Self.settings(rate: 4_000_000))
        let seed = UInt64.random(in: 0...UInt64.max)
        let writer = Task {
            var generator = SeededGenerator(seed: seed)
            var round = 0
            while !Task.isCancelled {
                round += 1
                do { try await Self.run(Self.change(round, &generator), on: pair) } catch PostgresError.cancelled { break }
                try? await Task.sleep(for: .milliseconds(5))
            }
            return round
        }
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        writer.cancel()
        #expect(try await writer.value > 10, "seed \(seed)")
        try await pair.catchUp(state)
        for digest in Self.digests { try await pair.expectSame(digest) }
        let copy = try #require(state.snapshot().copy)
        #expect(copy.tablesDone == 2 && copy.fraction == 1 && copy.indexFraction == 1)
        #expect(copy.indexesTotal > 3 && copy.sizeDone == copy.sizeTotal)
        let parts = try await pair.rows("SELECT count(*) FROM lindero.table_copy_chunk", on: pair.target)
        #expect(parts == [["0"]])
        state.drain()
        try await running.value
    }

    @Test func killedCopiesKeepTheirPartsHoweverTheRowsMovedBetween() async throws {
        let pair = try await FreshPair(Self.schema, replication: Self.settings(chunkBytes: 128 << 10, rate: 3_000_000))
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        var round = 0
        for parts in [6, 14, 22] {
            try await Self.copyInPart(pair, parts: parts)
            for _ in 0..<12 {
                round += 1
                try await Self.run(Self.change(round, &generator), on: pair)
            }
        }
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        try await pair.catchUp(state)
        let before = try #require(state.snapshot().copy?.sizeBefore)
        #expect(before >= 20 * (128 << 10), "the parts were kept; seed \(seed)")
        for digest in Self.digests { try await pair.expectSame(digest) }
        state.drain()
        try await running.value
    }

    @Test(arguments: [
        "VACUUM FULL t", "TRUNCATE t; INSERT INTO t SELECT i, i, 'after', NULL FROM generate_series(1, 9000) i",
        "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET pad = 'x' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0",
        "CLUSTER t USING t_pkey; DELETE FROM t WHERE id < 100", "DROP TABLE p_b2; ALTER TABLE p DETACH PARTITION p_b",
        "DELETE FROM t", "UPDATE t SET id = -id; UPDATE t SET id = -id WHERE id < -15000",
    ])
    func whatHappensBetweenTwoSnapshotsIsNeverLost(_ between: String) async throws {
        let pair = try await FreshPair(Self.schema, replication: Self.settings(rate: 8_000_000))
        try await Self.copyInPart(pair, parts: 8)
        try await Self.run(between, on: pair)
        let state = DirectionState()
        let running = pair.start(state)
        try await waitUntil("it streams", timeoutSeconds: 60) { state.phase == .streaming || state.phase == .stopped }
        try await pair.catchUp(state)
        for digest in Self.digests.prefix(between.contains("DETACH") ? 1 : 3) { try await pair.expectSame(digest) }
        state.drain()
        try await running.value
    }

    @Test func changedTableWithoutAKeyIsCopiedAgain() async throws {
        let pair = try await FreshPair(
            """
            CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL;
            INSERT INTO t SELECT i % 1000, repeat('x', 300) FROM generate_series(1, 12000) i;
            """, replication: Self.settings(jobs: 1, rate: 3_000_000))
        try await Self.copyInPart(pair, parts: 3)
        _ = try await pair.source.execute("DELETE FROM t WHERE a = 1; UPDATE t SET b = 'y' WHERE a = 2")
        let state = DirectionState()
        try await pair.sync(state)
        #expect(state.snapshot().copy?.sizeBefore == 0)
        try await pair.expectSame("SELECT count(*), sum(hashtext(x::text)::bigint) FROM t x")
    }

    @Test func tableThatNobodyTouchedKeepsItsPartsWithoutAKey() async throws {
        let pair = try await FreshPair(
            """
            CREATE TABLE t (a int, b text); INSERT INTO t SELECT i % 1000, repeat('x', 300) FROM generate_series(1, 12000) i;
            """, replication: Self.settings(jobs: 1, rate: 3_000_000))
        try await Self.copyInPart(pair, parts: 3)
        let state = DirectionState()
        try await pair.sync(state)
        #expect((state.snapshot().copy?.sizeBefore ?? 0) >= 3 * (256 << 10))
        try await pair.expectSame("SELECT count(*), sum(hashtext(x::text)::bigint) FROM t x")
        let noted = try await pair.rows("SELECT rows FROM lindero.table_copy", on: pair.target)
        #expect(noted == [["12000"]])
    }

    @Test func rateLimitBoundsAllJobsTogether() async throws {
        let pair = try await FreshPair(
            """
            CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
            INSERT INTO a SELECT i, repeat('x', 500) FROM generate_series(1, 3000) i; INSERT INTO b SELECT * FROM a;
            """, replication: Self.settings(rate: 1_000_000))
        let state = DirectionState()
        let start = Monotonic.milliseconds()
        try await pair.sync(state)
        let elapsedMilliseconds = Monotonic.milliseconds() - start
        let bytes = try #require(state.snapshot().copy?.bytes)
        #expect(bytes > 3_000_000)
        #expect(elapsedMilliseconds >= Int64(bytes) / 1_000)
        try await pair.expectSame("SELECT count(*), sum(hashtext(a::text)::bigint) FROM a")
    }

    /// A copy that goes on reads from the slot what was written meanwhile; that is within the same limit.
    @Test func rateLimitBoundsWhatAResumedCopyReadsOfTheSlot() async throws {
        let pair = try await FreshPair(
            """
            CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
            INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series(1, 6000) i;
            """, replication: Self.settings(jobs: 1, rate: 1_500_000))
        try await Self.copyInPart(pair, parts: 3)
        // Written and gone: the slot tells, and no table has it.
        _ = try await pair.source.execute("INSERT INTO t SELECT -i, repeat('y', 3000) FROM generate_series(1, 500) i")
        _ = try await pair.source.execute("DELETE FROM t WHERE id < 0")
        let state = DirectionState()
        let start = Monotonic.milliseconds()
        try await pair.sync(state)
        let elapsedMilliseconds = Monotonic.milliseconds() - start
        let copy = try #require(state.snapshot().copy)
        #expect(copy.sizeBefore > 0)
        #expect(elapsedMilliseconds >= Int64(copy.bytes + 1_500_000) / 1_500)
        try await pair.expectSame("SELECT count(*), sum(hashtext(x::text)::bigint) FROM t x")
    }

    @Test func secondWorkerWaitsForTheFirst() async throws {
        let pair = try await FreshPair(Self.schema, replication: Self.settings(rate: 4_000_000))
        let (one, two) = (DirectionState(), DirectionState())
        async let first: Void = pair.sync(one)
        try await waitUntil("it copies") { (one.snapshot().copy?.bytes ?? 0) > 0 }
        async let second: Void = pair.sync(two)
        _ = try await (first, second)
        #expect(two.snapshot().copy == nil)
        for digest in Self.digests { try await pair.expectSame(digest) }
    }
}

@Suite struct HeapTests {
    @Test func whatIsLeftIsCutAndNothingTwice() {
        let heap = Heap(oid: 1, name: QualifiedName(schema: "s", name: "t"), blocks: 10)
        #expect(heap.rest(without: [], chunkBlocks: 4) == [0..<4, 4..<8, 8..<10])
        #expect(heap.rest(without: [4..<8, 0..<2], chunkBlocks: 100) == [2..<4, 8..<10])
        #expect(heap.rest(without: [0..<10], chunkBlocks: 3).isEmpty)
        // The heap has shrunk since.
        #expect(heap.rest(without: [0..<8, 12..<20], chunkBlocks: 3) == [8..<10])
        #expect(heap.rest(without: [0..<10, 12..<20], chunkBlocks: 3).isEmpty)
        #expect(Heap(oid: 1, name: heap.name, blocks: 0).rest(without: [], chunkBlocks: 3).isEmpty)
    }
}
