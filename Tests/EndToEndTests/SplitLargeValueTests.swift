import Foundation
import PostgresClient
import ReplicationCore
import Replicator
import TestSupport
import Testing

/// Changed keys of rows with values that TOAST keeps elsewhere: those do not come with the change.
@Suite struct SplitLargeValueTests {
    private static let schema = """
        CREATE TABLE public.stay (id int PRIMARY KEY, mine text, theirs text, status text);
        ALTER TABLE public.stay ALTER mine SET STORAGE EXTERNAL, ALTER theirs SET STORAGE EXTERNAL;
        """
    private static let tables = """
          stay:
            match: [id]
            insert: [bot, sync]
            delete: [bot, sync]
            columns:
              bot: [id, mine]
              sync: [theirs, status]

        """
    private static let rows = "SELECT string_agg(concat_ws(' ', id, left(mine, 3), length(mine), left(theirs, 3), length(theirs)), ', ' ORDER BY id) FROM public.stay"

    private func pair(full: Bool) async throws -> SplitPair {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables)
        _ = try await pair.bot.execute("INSERT INTO public.stay SELECT n, repeat('old', 2000), repeat('old', 2000) FROM generate_series(1, 3) n")
        if full { for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.stay REPLICA IDENTITY FULL") } }
        return pair
    }

    private func end(_ pair: SplitPair, _ worker: RunningLindero) async throws {
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    @Test func withoutTheOldRowNothingStarts() async throws {
        let pair = try await pair(full: false)
        let checked = try await pair.command(["check"])
        for (side, column) in [("bot", "mine"), ("sync", "status, theirs")] {
            let finding = "blocker: \(side): a changed key of stay does not carry large values of [\(column)]"
            #expect(checked.output.contains(finding), "\(checked.output)\(checked.errors)")
        }
        #expect(checked.output.contains("ALTER TABLE \"public\".\"stay\" REPLICA IDENTITY FULL;"), "\(checked.output)")
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2 && refused.errors.contains("error: bot: a changed key of stay does not carry"), "\(refused.errors)")
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.stay REPLICA IDENTITY FULL") }
        let worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        _ = try await pair.sync.execute("ALTER TABLE public.stay REPLICA IDENTITY DEFAULT")
        let again = try await pair.command(["run", "--http", "none"])
        #expect(again.exitCode == 2 && again.errors.contains("changes of stay do not carry the whole old row"), "\(again.errors)")
        #expect(again.errors.contains("Run on sync: ALTER TABLE \"public\".\"stay\" REPLICA IDENTITY FULL;"), "\(again.errors)")
        await pair.remove()
    }

    /// The table's own identity says nothing of its partitions'.
    @Test func everyPartitionCarriesTheOldRow() async throws {
        let pair = try await SplitPair(
            schema: """
                CREATE TABLE public.stay (id int PRIMARY KEY, mine text, theirs text, status text) PARTITION BY RANGE (id);
                CREATE TABLE public.stay_1 PARTITION OF public.stay FOR VALUES FROM (0) TO (1000);
                ALTER TABLE public.stay REPLICA IDENTITY FULL;
                """, tables: Self.tables)
        let checked = try await pair.command(["check"])
        #expect(checked.output.contains("a changed key of stay_1 does not carry large values of [mine]"), "\(checked.output)")
        await pair.remove()
    }

    /// A partition that has partitions holds no rows, and the stream does not name it.
    @Test func aPartitionWithPartitionsNeedsNone() async throws {
        let pair = try await SplitPair(
            schema: """
                CREATE TABLE public.stay (id int, zone int, mine text, theirs text, status text, PRIMARY KEY (id, zone)) PARTITION BY LIST (zone);
                CREATE TABLE public.stay_1 PARTITION OF public.stay FOR VALUES IN (1) PARTITION BY RANGE (id);
                CREATE TABLE public.stay_1_1 PARTITION OF public.stay_1 FOR VALUES FROM (0) TO (1000);
                ALTER TABLE public.stay REPLICA IDENTITY FULL;
                ALTER TABLE public.stay_1_1 REPLICA IDENTITY FULL;
                """,
            tables: "  stay: { match: [id, zone], insert: bot, delete: bot, columns: { bot: '*' , shared: { status: { policy: last_write } } } }\n")
        for side in [pair.bot, pair.sync] {
            let missing = try await FullIdentity(name: "side", connection: side).missing([QualifiedName(schema: "public", name: "stay")])
            #expect(missing == [])
        }
        await pair.remove()
    }

    /// Tables that the copy makes get it; those that were there are their owners'.
    @Test func aTableThatTheCopyMakesCarriesIt() async throws {
        let pair = try await pair(full: false)
        _ = try await pair.sync.execute("DROP TABLE public.stay")
        _ = try await pair.bot.execute("ALTER TABLE public.stay REPLICA IDENTITY FULL")
        let worker = try await pair.startStreaming()
        let identity = "SELECT relreplident FROM pg_class WHERE oid = 'public.stay'::regclass"
        #expect(try await pair.sync.execute(identity).firstValue == "f")
        try await end(pair, worker)
    }

    /// What its owner writes while the other side changes the key comes with the row under its new one.
    @Test func anOwnersLargeValueFollowsItsRow() async throws {
        let pair = try await pair(full: true)
        let first = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        _ = try await pair.sync.execute("UPDATE public.stay SET theirs = repeat('new', 3000) WHERE id = 1; DELETE FROM public.stay WHERE id = 2")
        _ = try await pair.bot.execute("UPDATE public.stay SET id = 100 + id")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        let rows = try #require(try await pair.bot.execute(Self.rows).firstValue)
        #expect(rows == "101 old 6000 new 9000, 102 old 6000, 103 old 6000 old 6000")
        try await end(pair, worker)
    }

    /// Somebody takes it away while the split runs: nothing is made of half a row.
    @Test(arguments: [
        "DELETE FROM public.stay WHERE id = 2", "INSERT INTO public.stay (id) VALUES (102)",
    ])
    func aChangedKeyWithoutTheOldRowStopsTheSplit(meeting: String) async throws {
        let pair = try await pair(full: true)
        let first = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.stay REPLICA IDENTITY DEFAULT") }
        _ = try await pair.sync.execute(meeting)
        _ = try await pair.bot.execute("UPDATE public.stay SET id = id + 100 WHERE id = 2")
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.stay REPLICA IDENTITY FULL") }
        let outcome = try await pair.command(["run", "--http", "none"], timeoutSeconds: 120)
        #expect(outcome.exitCode == 2 && outcome.errors.contains("A change of stay does not carry the old row"), "\(outcome.errors)")
        #expect(try await pair.bot.execute("SELECT length(mine) FROM public.stay WHERE id = 102").firstValue == "6000")
        await pair.remove()
    }

    /// Somebody has deleted the row where nobody may: it can be brought back, and the split goes on.
    @Test func aChangedKeyWhoseRowIsGoneWaitsForIt() async throws {
        let pair = try await SplitPair(
            schema: Self.schema, tables: "  stay: { match: [id], insert: bot, delete: bot, columns: { bot: [id, mine, theirs, status] } }\n")
        _ = try await pair.bot.execute("INSERT INTO public.stay SELECT n, repeat('old', 2000), 'x' FROM generate_series(1, 3) n")
        let first = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        _ = try await pair.sync.execute("DELETE FROM public.stay WHERE id = 2")
        _ = try await pair.bot.execute("UPDATE public.stay SET id = id + 100 WHERE id = 2")
        let stopped = try await pair.command(["run", "--http", "none"], timeoutSeconds: 120)
        #expect(stopped.exitCode != 0 && stopped.errors.contains("found no row on sync"), "\(stopped.errors)")
        _ = try await pair.sync.execute("INSERT INTO public.stay SELECT 2, repeat('old', 2000), 'x'")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        #expect(try await pair.sync.execute("SELECT length(mine) FROM public.stay WHERE id = 102").firstValue == "6000")
        try await end(pair, worker)
    }

    /// The same on the side to which the key comes: what is its own has to travel back.
    @Test func aChangedKeyThatComesBackWithoutTheOldRowStopsTheSplit() async throws {
        let pair = try await pair(full: true)
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        _ = try await pair.sync.execute("ALTER TABLE public.stay REPLICA IDENTITY DEFAULT")
        _ = try await pair.bot.execute("UPDATE public.stay SET id = id + 100 WHERE id = 2")
        #expect(try await worker.wait() == 2, "\(worker.errors)")
        #expect(worker.errors.contains("A change of stay does not carry the old row"), "\(worker.errors)")
        #expect(worker.errors.contains("on sync: ALTER TABLE"), "\(worker.errors)")
        await pair.remove()
    }
}
