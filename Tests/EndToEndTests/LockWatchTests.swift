import PostgresClient
import TestSupport
import Testing

/// Somebody on the target holds what the worker waits for.
@Suite struct LockWatchTests {
    @Test func aReplicaSaysWhoHoldsTheTable() async throws {
        let scene = try await BadInputScene()
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        let blocker = try await BadInputScene.connect(scene.targetURL)
        let pid = try await blocker.execute("BEGIN; LOCK TABLE guest IN SHARE MODE; SELECT pg_backend_pid()").firstValue ?? ""
        _ = try await scene.source.execute("INSERT INTO guest VALUES (1, 'a')")
        try await worker.waitForErrors("wait for a lock that pid \(pid) of postgres holds (in a transaction for")
        let shown = try await scene.run(["status"])
        #expect((shown.output + shown.errors).contains("wait for a lock that pid \(pid)"), "\(shown.output)\(shown.errors)")
        _ = try await blocker.execute("COMMIT")
        try await scene.waitUntilEqual()
        try await worker.waitForErrors("going on direction=")
        let recorded = "SELECT concat_ws(' ', state, problem) FROM lindero.direction"
        try await waitUntil("it streams again, and nothing is wrong: \(worker.errors)") {
            try await scene.target.execute(recorded).firstValue == "streaming"
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await blocker.close()
    }

    @Test func aSplitSaysWhoHoldsTheRow() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.guests (id int PRIMARY KEY, note text)",
            tables: "  guests: { match: [id], insert: bot, delete: bot, columns: { bot: [note] } }\n")
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 'n')")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual("SELECT count(*) FROM public.guests")
        let blocker = try await PostgresConnection.connect(ConnectionOptions(pair.environment["SYNC_DATABASE_URL"] ?? ""))
        _ = try await blocker.execute("BEGIN; SELECT FROM public.guests FOR UPDATE")
        _ = try await pair.bot.execute("UPDATE public.guests SET note = 'later'")
        try await worker.waitForErrors("sync has the next transaction wait for a lock that pid")
        _ = try await blocker.execute("COMMIT")
        try await pair.waitUntilEqual("SELECT note FROM public.guests")
        try await worker.waitForErrors("going on direction=bot->sync")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await blocker.close()
        await pair.remove()
    }
}
