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
