import PostgresClient
import ReplicationCore
import Testing
import TestSupport

@testable import Replicator

/// What a comparison may ask of both servers is bounded by `verify.jobs`, `verify.chunk_rows` and `verify.rate_limit`.
@Suite struct VerifyLoadTests {
    private static let schema = "CREATE TABLE public.a (k int PRIMARY KEY, v text)"

    private func verify(_ pair: ReplicaPair, jobs: Int = 1, chunkRows: Int = 100, rateLimitBytes: Int = 0) async throws -> VerifyReport {
        var settings = VerifySettings()
        (settings.jobs, settings.chunkRows, settings.rateLimitBytes) = (jobs, chunkRows, rateLimitBytes)
        return try await Verification(settings: pair.settings, verify: settings, longestSeconds: 3_600).run(restart: true)
    }

    /// Everything that a comparison can do at once waits at a lock; nothing more comes, however long.
    @Test(arguments: [1, 3])
    func noMoreStretchesAreReadAtATimeThanThereAreJobs(jobs: Int) async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.a SELECT n, 'x' FROM generate_series(1, 2000) n", state)
            _ = try await pair.target.execute("BEGIN; LOCK public.a IN ACCESS EXCLUSIVE MODE")
            let run = Task { try await verify(pair, jobs: jobs, chunkRows: 10) }
            // The source has answered all that was asked, and the target nothing.
            let asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%lindero_row%' AND pid <> pg_backend_pid()"
            let watch = try await ReplicaPair.connect(pair.targetURL)
            try await waitUntil("the jobs wait") {
                guard try await pair.source.query(asked + " AND state = 'idle'").firstValue == "\(jobs + 1)" else { return false }
                return try await watch.query(asked + " AND wait_event_type = 'Lock'").firstValue == "\(jobs)"
            }
            for _ in 0..<20 {
                #expect(try await watch.query(asked + " AND state <> 'idle'").firstValue == "\(jobs)")
                #expect(try await pair.source.query(asked).firstValue == "\(jobs + 1)")
            }
            // And no connection beyond those: each job's, for borders, for rechecks, and the comparison's own.
            let others = (try await sessions(pair.source), try await sessions(watch))
            _ = try await pair.target.execute("ROLLBACK")
            #expect(try await run.value.result == .equal)
            try await waitUntil("it is gone") {
                let now = (try await sessions(pair.source), try await sessions(watch))
                return now == (others.0 - jobs - 3, others.1 - jobs - 3)
            }
            await watch.close()
        }
    }

    /// An autovacuum may come and go meanwhile.
    private static let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"

    private func sessions(_ connection: PostgresConnection) async throws -> Int {
        let text = try await connection.query(Self.sessions).firstValue
        return text.flatMap { Int($0) } ?? 0
    }

    /// Between two keys of the source lie twenty thousand rows of the target: no statement may read them all.
    @Test func noStatementReadsMoreThanTwoStretchesWhateverTheOtherSideHas() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.a VALUES (1, 'x'), (30000, 'x')", state)
            try await pair.plant("INSERT INTO public.a SELECT n, 'extra' FROM generate_series(5000, 24999) n")
            _ = try await pair.target.execute("ANALYZE public.a")
            let table = try #require(try await verify(pair, chunkRows: 50_000).compared.values.first)
            let sql = VerifySQL(table: table, seed: 1, differsInEncoding: false)
            let connection = try await PostgresConnection.connect(VerifyPair.options(pair.settings.target))
            let whole = KeyRange(after: nil, through: nil)
            let digest = try await connection.digest(sql, whole, .target, limitRows: 200)
            #expect(digest.rows == 201)
            let plan = try await connection.query("EXPLAIN (ANALYZE, TIMING OFF) " + sql.digest(whole, .target, limitRows: 200)).rows
            let read = plan.compactMap { $0[0] }.filter { $0.contains(" on a ") }
            #expect(read.count == 1 && read.allSatisfy { $0.contains("rows=201 ") || $0.contains("rows=201.00 ") }, "\(read)")
            await connection.close()

            let before = try await readRows(pair)
            let report = try await verify(pair, chunkRows: 100)
            #expect(report.differenceCount == 20_000)
            // Two looks at a stretch, its border and its list, and the rechecks: a few times the table, and not its square.
            var total = 0
            try await waitUntil("the server has counted") {
                total = try await readRows(pair) - before
                return total >= 40_000
            }
            #expect(total < 400_000)
        }
    }

    private func readRows(_ pair: ReplicaPair) async throws -> Int {
        let text = try await pair.target.query(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relid = 'public.a'::regclass"
        ).firstValue
        return text.flatMap { Int($0) } ?? 0
    }

    /// Never faster than the limit, whether rows are equal, listed one by one, or looked at again.
    @Test(arguments: [false, true])
    func bothServersTogetherReadNoMoreThanTheLimitASecond(differs: Bool) async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.a SELECT n, repeat('x', 1000) FROM generate_series(1, 300) n", state)
            if differs { try await pair.plant("UPDATE public.a SET v = repeat('y', 1000)") }
            // Each side's rows once; where they differ, as a list and in three readings, too.
            let bytes = differs ? 600_000 * 2 + 300_000 * 3 : 600_000
            let start = ContinuousClock.now
            let report = try await verify(pair, chunkRows: 30, rateLimitBytes: differs ? 2_100_000 : 600_000)
            #expect(report.differenceCount == (differs ? 300 : 0))
            let least = Double(bytes) / Double(differs ? 2_100_000 : 600_000)
            #expect(start.duration(to: .now) >= .seconds(least))
        }
    }
}
