import PostgresClient
import ReplicationCore
import Synchronization
import Testing
import TestSupport

@testable import Replicator

/// A comparison that is cut off anywhere goes on where it was, and forgets nothing that it had found.
@Suite struct VerifyResumeTests {
    private static let schema = "CREATE TABLE public.a (k int PRIMARY KEY, v int); CREATE TABLE public.b (k int PRIMARY KEY, v int)"

    @Test func interruptedComparisonGoesOnWhereItWas() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await pair.apply(
                "INSERT INTO public.a SELECT n, 1 FROM generate_series(1, 20000) n; INSERT INTO public.b SELECT n, 1 FROM generate_series(1, 500) n",
                state)
            try await pair.plant("UPDATE public.a SET v = 2 WHERE k IN (5, 19000); DELETE FROM public.b WHERE k = 7")
            let expected = ["a 19000: changed v", "a 5: changed v", "b 7: missing"]
            // Cut off after the first position is kept, which is after two seconds: an idle machine would be at the end by then.
            let cut = Task { try await pair.verify(chunkRows: 10, rateLimitBytes: 50_000) }
            try await waitUntil("a position is kept") {
                try await pair.target.query("SELECT 1 FROM lindero.verification_table WHERE position IS NOT NULL").rowCount > 0
            }
            cut.cancel()
            await #expect(throws: (any Error).self) { try await cut.value }
            let kept = try await pair.target.query("SELECT rows::text FROM lindero.verification_table WHERE table_name = 'a'").firstValue
            #expect((kept.flatMap { Int($0) } ?? 0) > 0)
            let resumed = Mutex((isResumed: false, rows: 0))
            let report = try await pair.verify(chunkRows: 1_000) { event in
                resumed.withLock { seen in
                    switch event {
                    case .resumed: seen.isResumed = true
                    case .progress(let progress): seen.rows = progress.rowsDone - progress.rowsBefore
                    }
                }
            }
            #expect(report.words == expected)
            #expect(report.tables.map(\.rows) == [20_000, 500])
            resumed.withLock { seen in
                #expect(seen.isResumed)
                #expect(seen.rows == 20_500 - (kept.flatMap { Int($0) } ?? 0))
            }
            // What is finished is not taken up again.
            #expect(try await pair.verify(chunkRows: 1_000).words == expected)
            #expect(try await pair.target.query("SELECT 1 FROM lindero.verification WHERE finished_at IS NOT NULL").rowCount == 2)
        }
    }

    @Test func secondComparisonOfADirectionIsToldOfTheFirst() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await waitUntil("it streams") { state.phase == .streaming }
            let other = try await PostgresConnection.connect(pair.settings.target)
            #expect(try await VerifyStore(connection: other, direction: "bot->sync").lock())
            await #expect(throws: VerifyError.alreadyRunning(direction: "bot->sync")) { try await pair.verify() }
            await other.close()
            try await waitUntil("it is free again") { (try? await pair.verify()) != nil }
        }
    }

    @Test func standingStreamIsToldInsteadOfADifference() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await pair.apply("INSERT INTO public.a VALUES (1, 1)", state)
        }
        // Nothing carries this any more: equal rows are still equal, others nobody can judge.
        #expect(try await pair.verify().result == .equal)
        _ = try await pair.source.execute("INSERT INTO public.a VALUES (2, 2)")
        let wait = MarkerWait(direction: "bot->sync", source: pair.source, target: pair.target, stillMilliseconds: 300)
        await #expect(throws: VerifyError.self) { try await wait.pass() }
    }
}
