import PostgresClient
import ReplicationCore
import Synchronization
import Testing
import TestSupport

@testable import Replicator

/// Comparing while both sides are written to: never a false alarm, and what really differs is found all the same.
@Suite struct LiveVerifyTests {
    private static let schema = """
        CREATE TABLE public.live (id int PRIMARY KEY, v int NOT NULL, note text);
        CREATE TABLE public.word (k text PRIMARY KEY, v int NOT NULL);
        """

    /// Several rows by their order: in the order of a scan, two writers may each wait for the other's.
    private static func locked(_ rows: String) -> String {
        "id IN (SELECT id FROM public.live WHERE \(rows) ORDER BY id FOR UPDATE)"
    }

    /// Writes like a busy service: new rows, hot rows, rows that go and come back under their old key with old values.
    private func write(_ pair: ReplicaPair, seed: UInt64, until isOver: Flag) -> Task<Int, any Error> {
        let url = pair.sourceURL
        return Task {
            let writer = try await ReplicaPair.connect(url)
            var random = SeededGenerator(seed: seed)
            var count = 0
            while !isOver.isSet {
                let id = random.below(600)
                let statement: String =
                    switch random.below(7) {
                    case 0: "UPDATE public.live SET v = v + 1 WHERE \(Self.locked("id < 3"))"
                    case 1: "UPDATE public.live SET v = v % 2 + 1 WHERE \(Self.locked("id BETWEEN \(id) AND \(id + 20)"))"
                    case 2: "DELETE FROM public.live WHERE id = \(id)"
                    case 3: "INSERT INTO public.live VALUES (\(id), 1, 'n') ON CONFLICT (id) DO UPDATE SET note = 'n'"
                    case 4: "DELETE FROM public.live WHERE id = \(id); INSERT INTO public.live VALUES (\(id), 1, 'n') ON CONFLICT DO NOTHING"
                    case 5: "INSERT INTO public.word VALUES ('w\(id)', 1) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
                    default: "DELETE FROM public.word WHERE k = 'w\(id)'"
                    }
                _ = try await writer.execute(statement)
                count += 1
            }
            await writer.close()
            return count
        }
    }

    private final class Flag: Sendable {
        private let value = Mutex(false)
        var isSet: Bool { value.withLock { $0 } }
        func set() { value.withLock { $0 = true } }
    }

    private func fill(_ pair: ReplicaPair, _ state: DirectionState) async throws {
        try await pair.apply("""
            INSERT INTO public.live SELECT n, 1, repeat('x', n % 50) FROM generate_series(0, 3000) n;
            INSERT INTO public.word SELECT 'w' || n, 1 FROM generate_series(0, 3000) n
            """, state)
    }

    private func whileWritten(_ pair: ReplicaPair, _ body: () async throws -> Void) async throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("LiveVerifyTests seed \(seed)")
        let isOver = Flag()
        let writers = (0..<3).map { write(pair, seed: seed &+ $0, until: isOver) }
        do {
            try await body()
        } catch {
            isOver.set()
            for writer in writers { _ = await writer.result }
            throw error
        }
        isOver.set()
        for writer in writers { #expect(try await writer.value > 0) }
    }

    @Test func nothingIsCalledDifferentWhileRowsAreOnTheirWay() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await fill(pair, state)
            var rechecked = 0
            try await whileWritten(pair) {
                for round in 0..<12 {
                    let report = try await pair.verify(chunkRows: [40, 500, 5_000][round % 3], jobs: 1 + round % 3)
                    #expect(report.words == [])
                    rechecked += report.tables.reduce(0) { $0 + $1.rechecked }
                }
            }
            // Else the writers were not in the way, and the test shows nothing.
            #expect(rechecked > 0)
        }
    }

    @Test func realDifferencesAreFoundAndMendedUnderLiveWrites() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await fill(pair, state)
            try await pair.plant("""
                UPDATE public.live SET note = note || ' ' WHERE id = 1500; DELETE FROM public.live WHERE id IN (700, 3000);
                INSERT INTO public.live VALUES (-1, 0), (9999, 0); UPDATE public.word SET v = 7 WHERE k = 'w900';
                DELETE FROM public.word WHERE k = 'w2999'; INSERT INTO public.word VALUES ('x', 0)
                """)
            let expected = [
                "live -1: extra", "live 1500: changed note", "live 3000: missing", "live 700: missing", "live 9999: extra",
                "word w2999: missing", "word w900: changed v", "word x: extra",
            ]
            try await whileWritten(pair) {
                for jobs in [1, 2] { #expect(try await pair.verify(chunkRows: 100, jobs: jobs).words == expected) }
                let report = try await pair.verify(chunkRows: 100)
                try await RowRepair.with(pair.settings) { repair in
                    for table in report.tables {
                        let scope = try #require(report.compared[table.table])
                        for difference in table.differences {
                            let outcome = try await repair.mend(difference.key, of: scope)
                            #expect(outcome == .mended, "\(outcome)")
                        }
                    }
                }
                #expect(try await pair.verify(chunkRows: 100).words == [])
            }
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT l::text FROM public.live l ORDER BY id", atLeast: 2_000)
            try await pair.expectSame("SELECT w::text FROM public.word w ORDER BY k", atLeast: 2_000)
        }
    }

    /// The stream may bring the very row that is being mended: whoever is later must not undo the other.
    @Test func mendingARowThatIsWrittenAllTheTimeNeverBreaksTheStream() async throws {
        let pair = try await ReplicaPair(Self.schema)
        try await pair.streaming { state in
            try await fill(pair, state)
            try await whileWritten(pair) {
                let scope = try #require(try await pair.verify(["live"]).compared.values.first)
                try await RowRepair.with(pair.settings) { repair in
                    for id in 0..<60 {
                        // One lock at a time, and only of a row that the applier does not have: it may not be killed for us.
                        _ = try? await pair.plant("UPDATE public.live SET note = 'wrong' WHERE id = \(id % 30)")
                        _ = try await repair.mend(VerifyKey(["\(id % 30)"]), of: scope)
                    }
                }
            }
            try await pair.catchUp(state)
            #expect(try await pair.verify(["live"]).words.filter { !$0.contains("changed note") } == [])
            #expect(state.snapshot().counters.missingRows == 0)
        }
    }

    @Test(arguments: [false, true]) func commitThatTheSourceStillHidesIsNoDifference(isPrepared: Bool) async throws {
        let cluster = try await PostgresCluster.startWithoutStandby()
        defer { cluster.remove() }
        let pair = try await ReplicaPair(Self.schema, source: cluster)
        try await pair.streaming { state in
            try await fill(pair, state)
            // Commits are logged and sent, but wait for a standby that is not there before they show.
            let url = pair.sourceURL
            let hidden = Task {
                let writer = try await ReplicaPair.connect(url)
                _ = try await writer.execute("""
                    BEGIN; UPDATE public.live SET v = 99 WHERE id = 10; DELETE FROM public.live WHERE id = 11;
                    INSERT INTO public.live VALUES (-7, 1)
                    """)
                if isPrepared { _ = try await writer.execute("PREPARE TRANSACTION 'hidden'") }
                _ = try await writer.execute("SET synchronous_commit = on")
                _ = try await writer.execute(isPrepared ? "COMMIT PREPARED 'hidden'" : "COMMIT")
            }
            try await waitUntil("the target shows what the source hides") {
                try await pair.target.query("SELECT 1 FROM public.live WHERE id = -7").rowCount == 1
            }
            #expect(try await pair.source.query("SELECT 1 FROM public.live WHERE id = -7").rowCount == 0)
            async let report = pair.verify(["live"])
            try await waitUntil("the comparison waits for it", timeoutSeconds: 25) {
                try await cluster.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_xact_status%' AND pid <> pg_backend_pid()"
                ).rowCount > 0
            }
            try await cluster.doWithoutStandby()
            let words = try await report.words
            #expect(words == [])
            try await hidden.value
        }
    }

    /// Who prepared or began something and went home must not keep every difference undecided.
    @Test func transactionsThatStandOpenAreNotWaitedFor() async throws {
        let cluster = try await PostgresCluster.start()
        defer { cluster.remove() }
        let pair = try await ReplicaPair(Self.schema, source: cluster)
        try await pair.streaming { state in
            try await fill(pair, state)
            let idle = try await ReplicaPair.connect(pair.sourceURL)
            _ = try await idle.execute("BEGIN; UPDATE public.live SET v = 5 WHERE id = 20; PREPARE TRANSACTION 'forgotten'")
            _ = try await idle.execute("BEGIN; UPDATE public.live SET v = 5 WHERE id = 21")
            try await pair.plant("UPDATE public.live SET note = 'planted' WHERE id = 22; DELETE FROM public.live WHERE id = 23")
            let report = try await pair.verify(["live"])
            #expect(report.words == ["live 22: changed note", "live 23: missing"])
            #expect(report.undecided == 0)
            _ = try await idle.execute("ROLLBACK")
            _ = try await idle.execute("ROLLBACK PREPARED 'forgotten'")
            await idle.close()
        }
    }
}
