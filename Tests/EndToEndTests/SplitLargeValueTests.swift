import Foundation
import PostgresClient
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

    @Test func aCheckSaysWhereTheyNeedTheOldRow() async throws {
        let pair = try await pair(full: false)
        let said = try await pair.command(["check"])
        for (side, column) in [("bot", "mine"), ("sync", "status, theirs")] {
            let finding = "warning: \(side): a changed key of stay does not carry large values of [\(column)]"
            #expect(said.output.contains(finding), "\(said.output)\(said.errors)")
        }
        #expect(said.output.contains("ALTER TABLE \"public\".\"stay\" REPLICA IDENTITY FULL;"), "\(said.output)")
        await pair.remove()
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

    /// Each side with something else that the changed key does not bring.
    @Test(arguments: [
        "DELETE FROM public.stay WHERE id = 2", "INSERT INTO public.stay (id) VALUES (102)",
        "UPDATE public.stay SET theirs = repeat('new', 3000) WHERE id = 2",
        "INSERT INTO public.stay (id, theirs) VALUES (4, repeat('new', 3000))",
    ])
    func withoutTheOldRowNothingIsMadeWithoutThem(meeting: String) async throws {
        let pair = try await pair(full: false)
        let first = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        _ = try await pair.sync.execute(meeting)
        for statement in ["INSERT INTO public.stay (id) VALUES (4)", "UPDATE public.stay SET id = id + 100 WHERE id IN (2, 4)"] {
            _ = try await pair.bot.execute(statement)
        }
        let outcome = try await pair.command(["run", "--http", "none"], timeoutSeconds: 120)
        #expect(outcome.exitCode == 2 && outcome.errors.contains("A change of stay does not carry the old row"), "\(outcome.errors)")
        await pair.remove()
    }

    /// What has been seen does not stop it, nor what is not large, nor a key that changes alone.
    @Test func withoutTheOldRowAKeyMayChange() async throws {
        let pair = try await pair(full: false)
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        _ = try await pair.sync.execute("UPDATE public.stay SET theirs = repeat('new', 3000) WHERE id = 2")
        try await waitUntil("it has been seen") {
            try await pair.bot.execute("SELECT length(theirs) FROM public.stay WHERE id = 2").firstValue == "9000"
        }
        _ = try await pair.sync.execute("BEGIN; UPDATE public.stay SET status = 'waiting for the guest to arrive' WHERE id = 3")
        _ = try await pair.bot.execute("UPDATE public.stay SET id = 100 + id")
        try await waitUntil("the changed key waits for the row") {
            try await pair.bot.execute("SELECT count(*) FROM public.stay WHERE id > 100").firstValue == "3"
        }
        _ = try await pair.sync.execute("COMMIT")
        try await pair.waitUntilEqual("SELECT string_agg(concat(id, status), ' ' ORDER BY id) FROM public.stay")
        #expect(try await pair.bot.execute("SELECT status FROM public.stay WHERE id = 103").firstValue == "waiting for the guest to arrive")
        #expect(try await pair.bot.execute(Self.rows).firstValue == "101 old 6000 old 6000, 102 old 6000 new 9000, 103 old 6000 old 6000")
        try await end(pair, worker)
    }
}
