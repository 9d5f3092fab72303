import PostgresClient
import TestSupport
import Testing

/// What stops a split says which direction it was, and on which side something is to be done.
@Suite struct SplitFailureTests {
    @Test(arguments: ["bot", "sync"]) func aRefusedChangeNamesItsDirection(source: String) async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.notes (id int PRIMARY KEY, mine int, theirs int)",
            tables: "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id, mine], sync: [theirs] } }\n")
        _ = try await pair.bot.execute("INSERT INTO public.notes VALUES (1, 1, 1)")
        let worker = try await pair.startStreaming()
        let target = source == "bot" ? "sync" : "bot"
        let (writer, reader) = source == "bot" ? (pair.bot, pair.sync) : (pair.sync, pair.bot)
        let column = source == "bot" ? "mine" : "theirs"
        _ = try await reader.execute("ALTER TABLE public.notes ADD CHECK (\(column) < 10)")
        _ = try await writer.execute("UPDATE public.notes SET \(column) = 20")
        #expect(try await worker.wait() == 1, "\(worker.errors)")
        #expect(worker.errors.contains("error: \(source)->\(target) stopped: \(target) refused"), "\(worker.errors)")
        #expect(worker.errors.contains("Remove what stands in its way on \(target)"), "\(worker.errors)")
        await pair.remove()
    }
}
