import PostgresClient
import TestSupport
import Testing

/// What becomes of a split whose configuration is changed later, or lacks what keeps it going.
@Suite struct SplitLaterTests {
    private static let schema = """
        CREATE TABLE public.notes (id int PRIMARY KEY, mine text, theirs text);
        CREATE TABLE public.later (id int PRIMARY KEY, mine text, theirs text);
        """
    private static func table(_ name: String, bot: String, sync: String) -> String {
        """
          \(name):
            match: [id]
            insert: bot
            delete: bot
            columns:
              bot: [\(bot)]
        \(sync.isEmpty ? "" : "      sync: [\(sync)]\n")

        """
    }

    @Test func aColumnThatGetsAnotherOwnerLaterTravelsTheOtherWay() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.table("notes", bot: "mine, theirs", sync: ""))
        _ = try await pair.bot.execute("INSERT INTO public.notes VALUES (1, 'a', 'b')")
        var worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try pair.write(tables: Self.table("notes", bot: "mine", sync: "theirs"))
        worker = try await pair.startStreaming()
        _ = try await pair.sync.execute("UPDATE public.notes SET theirs = 'c' WHERE id = 1")
        try await waitUntil("it travels", timeoutSeconds: 20) {
            try await pair.bot.execute("SELECT theirs FROM public.notes WHERE id = 1").firstValue == "c"
        }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    @Test func aTableThatIsNamedLaterIsNotPassedOverInSilence() async throws {
        let notes = Self.table("notes", bot: "mine", sync: "theirs")
        let pair = try await SplitPair(schema: Self.schema, tables: notes)
        var worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try pair.write(tables: notes + Self.table("later", bot: "mine", sync: "theirs"))
        worker = try pair.run()
        #expect(try await worker.wait() == 2, "\(worker.errors)")
        #expect(worker.errors.contains("later"), "\(worker.errors)")
        await pair.remove()
    }

    /// Runs the worker while `script` is written on a side, and until a row of each side's own that follows it is on both.
    private func stream(_ pair: SplitPair, bot: String = "", sync: String = "") async throws {
        let worker = try await pair.startStreaming()
        let id = try await pair.bot.execute("SELECT coalesce(max(id), 0) + 1 FROM public.notes").firstValue ?? ""
        _ = try await pair.sync.execute(sync)
        _ = try await pair.bot.execute("\(bot); INSERT INTO public.notes (id, mine) VALUES (\(id), 'last')")
        try await waitUntil("bot's row is there", timeoutSeconds: 20) {
            try await pair.sync.execute("SELECT 1 FROM public.notes WHERE id = \(id)").rowCount == 1
        }
        _ = try await pair.sync.execute("UPDATE public.notes SET theirs = 'last' WHERE id = \(id)")
        try await pair.waitUntilEqual("SELECT string_agg(theirs, ',' ORDER BY id) FROM public.notes", timeoutSeconds: 20)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    /// Refused with the commands that mend it, which are carried out.
    private func mend(_ pair: SplitPair, _ code: String, says words: [String]) async throws {
        let check = try await pair.command(["check", "--json"])
        #expect(check.exitCode == 2 && check.output.contains(code), "\(check.output)")
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2, "\(refused.errors)")
        for word in words { #expect(refused.errors.contains(word), "\(refused.errors)") }
        let again = try await pair.command(["run", "--http", "none"])
        #expect(again.exitCode == 2, "asking mends nothing")
        let advice = try #require(refused.errors.components(separatedBy: "Run on sync: ").last?.components(separatedBy: " Then `").first)
        _ = try await pair.sync.execute(advice)
    }

    private func repair(_ pair: SplitPair, _ table: String) async throws {
        let worker = try await pair.startStreaming()
        let repair = try await pair.command(["verify", table, "--repair", "--execute"])
        #expect(repair.exitCode == 0, "\(repair.output)\(repair.errors)")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        #expect(try await pair.command(["verify"]).exitCode == 0)
    }

    @Test func aTableThatWasOutOfTheFileIsRefusedUntilBothSidesAreMadeAlike() async throws {
        let notes = Self.table("notes", bot: "mine", sync: "theirs")
        let both = notes + Self.table("later", bot: "mine", sync: "theirs")
        let pair = try await SplitPair(schema: Self.schema, tables: both)
        _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b'), (2, 'a', 'b')")
        try await stream(pair)
        try pair.write(tables: notes)
        try await stream(
            pair, bot: "UPDATE public.later SET mine = 'c' WHERE id = 1; INSERT INTO public.later (id, mine) VALUES (3, 'new')",
            sync: "UPDATE public.later SET theirs = 'd' WHERE id = 2")
        #expect(try await pair.command(["check"]).exitCode == 0)
        try pair.write(tables: both)
        try await mend(pair, "table_left", says: ["later", "tables:", "lindero verify later --repair"])
        try await repair(pair, "later")
        #expect(
            try await pair.values("SELECT string_agg(l::text, ' ' ORDER BY id) FROM public.later l")
                == Array(repeating: "(1,c,b) (2,a,d) (3,new,)", count: 2))
        await pair.remove()
    }

    @Test func aColumnThatWasPrivateIsRefusedUntilItsOlderValuesAreBrought() async throws {
        let open = Self.table("notes", bot: "mine", sync: "theirs") + Self.table("later", bot: "mine", sync: "theirs")
        func closed(_ column: String) -> String { open.replacing("later:\n", with: "later:\n    private: [\(column)]\n") }
        // The origin's never came, the other side's came with the copy and is written there alone since.
        for (column, owner) in [("mine", "bot"), ("theirs", "sync")] {
            let pair = try await SplitPair(schema: Self.schema, tables: closed(column))
            _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b')")
            let write = "UPDATE public.later SET \(column) = 'c' WHERE id = 1"
            try await stream(pair, bot: owner == "bot" ? write : "", sync: owner == "bot" ? "" : write)
            try pair.write(tables: open)
            try await mend(pair, "column_left", says: ["column \"\(column)\" of later", "lindero verify later --repair"])
            try await repair(pair, "later")
            #expect(try await pair.values("SELECT \(column) FROM public.later") == ["c", "c"])
            await pair.remove()
        }
    }

    @Test func withoutHeartbeatsSlotsMoveOnAllTheSame() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.table("notes", bot: "mine", sync: "theirs"))
        try pair.write(tables: Self.table("notes", bot: "mine", sync: "theirs"), replication: "heartbeat: off")
        let worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("INSERT INTO public.notes VALUES (1, 'a', 'b')")
        let lsn = try await pair.bot.execute("SELECT pg_current_wal_lsn()::text").firstValue ?? ""
        try await waitUntil("the slot is past it", timeoutSeconds: 20) {
            try await pair.bot.execute(
                "SELECT 1 FROM pg_replication_slots WHERE database = current_database() AND confirmed_flush_lsn > '\(lsn)'").rowCount == 1
        }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }
}
