import PostgresClient
import TestSupport
import Testing

/// A table that gets another name while two databases are written: nothing of it passes by, under either name.
@Suite struct SplitRenamedTests {
    private static func tables(_ name: String) -> String {
        """
              \(name):
                match: [id]
                insert: [bot, sync]
                delete: [bot, sync]
                columns:
                  bot: [id, mine]
                  sync: [theirs]

            """
    }

    private static func all(_ table: String) -> String { "SELECT string_agg(t::text, ' ' ORDER BY id) FROM public.\(table) t" }

    private func pair() async throws -> SplitPair {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.guest (id int PRIMARY KEY, mine text, theirs text); ALTER TABLE public.guest REPLICA IDENTITY FULL", tables: Self.tables("guest"))
        _ = try await pair.bot.execute("INSERT INTO public.guest VALUES (1, 'a', 'b')")
        return pair
    }

    private func rename(_ pair: SplitPair, to name: String) async throws {
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE IF EXISTS public.guest RENAME TO \(name)") }
        try pair.write(tables: Self.tables(name))
    }

    /// Renamed on both sides while a row of sync's was on its way under the old name.
    private func pairWithAnOldName() async throws -> SplitPair {
        let pair = try await pair()
        let worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        _ = try await pair.sync.execute("INSERT INTO public.guest VALUES (2, 'old name', 'n')")
        try await rename(pair, to: "visitor")
        return pair
    }

    private func end(_ pair: SplitPair, _ worker: RunningLindero) async throws {
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    @Test(arguments: ["bot", "sync"]) func theNewNameWaitsForTheRulesAndTheOtherSide(side: String) async throws {
        let pair = try await pair()
        let writer = side == "bot" ? pair.bot : pair.sync
        let worker = try await pair.startStreaming()
        _ = try await writer.execute("ALTER TABLE public.guest RENAME TO visitor; UPDATE public.visitor SET mine = mine || '1', theirs = theirs || '2'")
        #expect(try await worker.wait() == 2)
        #expect(worker.errors.contains("\(side) sends changes of visitor, which is no table of the split"), "\(worker.errors)")
        try await rename(pair, to: "visitor")
        let next = try await pair.startStreaming()
        try await pair.waitUntilEqual("SELECT \(side == "bot" ? "mine" : "theirs") FROM public.visitor")
        _ = try await writer.execute("INSERT INTO public.visitor VALUES (2, 'c', 'd')")
        try await pair.waitUntilEqual("SELECT count(*)::text FROM public.visitor")
        try await end(pair, next)
    }

    @Test func theOldNameWaitsForAPerson() async throws {
        let pair = try await pairWithAnOldName()
        _ = try await pair.bot.execute("INSERT INTO public.visitor VALUES (3, 'new name', 'n')")
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2 && refused.errors.contains("sync has guest as visitor now"), "\(refused.errors)")
        // The old name until it has passed.
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.visitor RENAME TO guest") }
        try pair.write(tables: Self.tables("guest"))
        let second = try await pair.command(["run", "--http", "none"])
        #expect(second.exitCode == 2, "\(second.errors)")
        #expect(second.errors.contains("UPDATE lindero.split_table SET left_at = NULL"), "it was without the table for a time: \(second.errors)")
        await pair.remove()
    }

    @Test func whatNobodyWantsIsGivenUpAsTheMessageSays() async throws {
        let pair = try await pairWithAnOldName()
        _ = try await pair.bot.execute("INSERT INTO public.visitor VALUES (3, 'wanted', NULL)")
        let refused = try await pair.command(["run", "--http", "none"])
        let advice = try #require(refused.errors.components(separatedBy: "run on sync: ").last?.components(separatedBy: " Then `").first)
        _ = try await pair.sync.execute(advice)
        let worker = try await pair.startStreaming()
        try await waitUntil("what is wanted arrives") {
            try await pair.sync.execute("SELECT mine FROM public.visitor WHERE id = 3").firstValue == "wanted"
        }
        #expect(try await pair.bot.execute(Self.all("visitor")).firstValue == "(1,a,b) (3,wanted,)")
        try await end(pair, worker)
    }
}
