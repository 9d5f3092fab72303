import PostgresClient
import Replicator
import TestSupport
import Testing

/// A column gets another owner, or a policy, while services move and writes of both sides are on their way.
@Suite struct TransitionPolicyTests {
    private static func tables(_ columns: String) -> String {
        "  guests: { match: [id], insert: bot, delete: bot, columns: { \(columns) } }\n"
    }

    /// While services move it meets the other side's writes, and its owner is preferred: by one side, which has decided, and so by
    /// the other one.
    @Test(arguments: ["bot: [spare, phone]", "bot: [spare], shared: { phone: { policy: last_write } }"])
    func whatMetWhileServicesMoveIsJudgedAsThen(columns: String) async throws {
        let scene = try await MovingServices(
            schema: "CREATE TABLE public.guests (id int PRIMARY KEY, phone int, spare int)", tables: Self.tables("bot: [spare], sync: [phone]"))
        let pair = scene.pair
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 1, 1), (2, 1, 1)")
        var (worker, _) = try await scene.begin()
        let all = "SELECT string_agg(concat_ws(' ', id, phone, spare), ', ' ORDER BY id) FROM public.guests"
        try await pair.waitUntilEqual(all)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.sync.execute("UPDATE public.guests SET phone = 30 WHERE id = 1")
        _ = try await pair.bot.execute("BEGIN; UPDATE public.guests SET phone = 20 WHERE id = 1; UPDATE public.guests SET spare = 5 WHERE id = 2; COMMIT")
        let holder = try await PostgresConnection.connect(ConnectionOptions(pair.environment["SYNC_DATABASE_URL"] ?? ""))
        _ = try await holder.execute("BEGIN; SELECT FROM public.guests WHERE id = 2 FOR UPDATE")
        worker = try await pair.startStreaming()
        try await waitUntil("sync's write has been judged: its owner's stands") {
            try await pair.bot.execute("SELECT phone FROM public.guests WHERE id = 1").firstValue == "30"
        }
        try await waitUntil("bot's waits for the row") { try await !pair.sync.execute("SELECT \(SplitPair.waiting)").rows.isEmpty }
        try await pair.cutOff(worker, waitingOn: pair.sync)

        try pair.write(tables: Self.tables(columns), backend: "replica")
        worker = try await pair.startStreaming()
        await holder.close()
        try await waitUntil("bot's has arrived") {
            try await pair.sync.execute("SELECT spare FROM public.guests WHERE id = 2").firstValue == "5"
        }
        #expect(try await pair.values(all) == Array(repeating: "1 30 1, 2 1 5", count: 2), "as it was owned then")
        // What its former owner's side writes travels still.
        _ = try await pair.sync.execute("UPDATE public.guests SET phone = 40 WHERE id = 2")
        try await waitUntil("it travels") { try await pair.values(all) == Array(repeating: "1 30 1, 2 40 5", count: 2) }
        // And back again: nothing of it has stayed anywhere.
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try pair.write(tables: Self.tables("bot: [spare], sync: [phone]"), backend: "replica")
        worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// Begun from a replica, in which it never travelled: the second database has none of its values, and would bring that home.
    @Test func aPrivateColumnOfTheOriginKeepsItsOwnerWhileServicesMove() async throws {
        let scene = try await MovingServices(
            schema: "CREATE TABLE public.guests (id int PRIMARY KEY, phone int, spare int)",
            tables: "  guests: { match: [id], insert: bot, delete: bot, private: [spare], columns: { bot: [spare], sync: [phone] } }\n")
        let pair = scene.pair
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 1, 1)")
        let (worker, _) = try await scene.begin()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try pair.write(
            tables: "  guests: { match: [id], insert: bot, delete: bot, private: [spare], columns: { sync: [phone, spare] } }\n", backend: "replica")
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2 && refused.errors.contains("\"spare\" of guests has its values on bot"), "\(refused.errors)")
        await pair.remove()
    }

    /// What travelled until now is on both sides: it may become private, and another side's, at once.
    @Test func aColumnThatTravelledMayBecomePrivateAndAnotherSidesWhileServicesMove() async throws {
        let scene = try await MovingServices(
            schema: "CREATE TABLE public.guests (id int PRIMARY KEY, phone int, spare int)", tables: Self.tables("bot: [spare], sync: [phone]"))
        let pair = scene.pair
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 1, 1)")
        var (worker, _) = try await scene.begin()
        try await pair.waitUntilEqual("SELECT string_agg(g::text, ',') FROM public.guests g")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try pair.write(
            tables: "  guests: { match: [id], insert: bot, delete: bot, private: [phone], columns: { bot: [spare, phone] } }\n", backend: "replica")
        for _ in 0..<2 {
            worker = try await pair.startStreaming()
            worker.terminate()
            #expect(try await worker.wait() == 0, "\(worker.errors)")
        }
        await pair.remove()
    }
}
