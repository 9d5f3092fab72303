import PostgresClient
import TestSupport
import Testing

/// Somebody on the target holds what the worker waits for.
@Suite struct LockWatchTests {
    @Test(arguments: ["1s", "off"])
    func aReplicaSaysWhoHoldsTheTable(heartbeat: String) async throws {
        let scene = try await BadInputScene(replication: "heartbeat: \(heartbeat)")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        let recorded = "SELECT concat_ws(' ', state, problem) FROM lindero.direction"
        try await waitUntil("it has caught up") { try await scene.target.execute(recorded).firstValue == "streaming" }
        let blocker = try await BadInputScene.connect(scene.targetURL)
        let next = try await BadInputScene.connect(scene.targetURL)
        let lock = "BEGIN; LOCK TABLE guest IN SHARE MODE; SELECT pg_backend_pid()"
        let pid = try await blocker.execute(lock).firstValue ?? ""
        let nextPID = try await next.execute(lock).firstValue ?? ""
        _ = try await scene.source.execute("INSERT INTO guest VALUES (1, 'a')")
        try await worker.waitForErrors("wait for a lock that pid")
        for held in [pid, nextPID] { #expect(worker.errors.contains("pid \(held) of postgres holds (in a transaction since"), "\(worker.errors)") }
        let shown = try await scene.run(["status"])
        #expect((shown.output + shown.errors).contains("wait for a lock that pid"), "\(shown.output)\(shown.errors)")
        // Who is left is named alone.
        _ = try await blocker.execute("COMMIT")
        try await waitUntil("only one has it") {
            let said = try await scene.target.execute(recorded).firstValue ?? ""
            return said.contains("pid \(nextPID) of") && !said.contains("pid \(pid) of")
        }
        _ = try await next.execute("COMMIT")
        try await scene.waitUntilEqual()
        try await waitUntil("nothing is wrong") { try await scene.target.execute(recorded).firstValue == "streaming" }

        // Stopped meanwhile it leaves nothing of it behind.
        _ = try await blocker.execute("BEGIN; LOCK TABLE guest IN SHARE MODE")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (2, 'b')")
        try await waitUntil("it is told") { try await scene.target.execute(recorded).firstValue?.contains("pid \(pid)") == true }
        worker.terminate()
        _ = try await blocker.execute("COMMIT")
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        #expect(try await scene.target.execute("SELECT problem FROM lindero.direction").firstValue == nil)
        try await scene.waitUntilEqual()
        await blocker.close()
        await next.close()
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
