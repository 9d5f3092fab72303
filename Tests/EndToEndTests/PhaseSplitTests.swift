import Foundation
import PostgresClient
import TestSupport
import Testing

/// A live system goes from one database to two and back, with both services writing.
@Suite struct PhaseSplitTests {
    /// Runs a command to its good end; a service moves when a person would: once the move waits for it.
    private func succeed(
        _ arguments: [String], _ pair: SplitPair, _ worker: RunningLindero, moving service: LiveService? = nil, to url: String = ""
    ) async throws {
        let process = try pair.start(arguments)
        if let service {
            try await waitUntil("the service is to move", timeoutSeconds: 120) {
                try await pair.bot.execute(
                    "SELECT 1 FROM lindero.phase WHERE work = 'move_services' AND ended_at IS NULL").rowCount > 0
                    || process.child.exitCode != nil
            }
            service.move(to: url)
        }
        #expect(try await process.wait(timeoutSeconds: 240) == 0, "\(arguments) said \(process.errors); the worker: \(worker.errors)")
    }

    @Test func aLiveSystemIsSplitAndComesBack() async throws {
        let pair = try await PhaseTests.pair(roles: true)
        let (bot, sync) = LiveService.both(of: pair)
        let worker = try pair.run()
        try await worker.waitForErrors("following changes")
        bot.start()
        sync.start()
        try await succeed(
            ["advance", "--to", "split", "--execute"], pair, worker, moving: sync, to: pair.url("sync", as: "sync_app"))
        #expect(try await pair.bot.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'sync_app' AND datname = current_database()").firstValue == "0")
        let status = try await pair.command(["status"])
        #expect(status.output.contains("phase split"), "\(status.output)")
        #expect(status.output.contains("safe to roll back: yes, because every change of sync is in the log"), "\(status.output)")
        let split = sync.acknowledged
        try await waitUntil("both write on, each on its own side") { sync.acknowledged > split + 200 }

        try await succeed(["rollback", "--execute"], pair, worker, moving: sync, to: pair.url("bot", as: "sync_app"))
        let back = sync.acknowledged
        try await waitUntil("sync writes on the origin again") { sync.acknowledged > back + 50 }
        await bot.end()
        await sync.end()
        #expect(bot.failures.isEmpty && sync.failures.isEmpty, "\(bot.failures) \(sync.failures)")

        // Everything that was acknowledged is on the origin, once, and the copy is equal.
        let made = try await pair.bot.execute("SELECT count(*), count(DISTINCT \"bookingId\"), count(DISTINCT id) FROM public.\"Reservas\" WHERE status = 'made'").rows[0]
        #expect(made[0] == "\(sync.acknowledged)" && made[1] == made[0] && made[2] == made[0])
        for (column, last) in [("status", sync.acknowledged), ("\"crmNotes\"", bot.acknowledged)] {
            let wrong = try await pair.bot.execute("""
                SELECT count(*) FROM generate_series(\(last - 99), \(last)) n
                JOIN public."Reservas" r ON r."bookingId" = 'b' || (n % 100 + 1) WHERE r.\(column) IS DISTINCT FROM n::text
                """).firstValue
            #expect(wrong == "0", "\(column)")
        }
        try await pair.waitUntilEqual("SELECT md5(string_agg(id || \"bookingId\" || coalesce(status, ''), ',' ORDER BY id)) FROM public.\"Reservas\"")
        // Numbers go on ahead of all that were given.
        _ = try await pair.bot.execute("INSERT INTO public.\"Reservas\" (\"bookingId\") SELECT 'last' || n FROM generate_series(1, 1000) n")

        // Forward again works, and back to the beginning.
        try await succeed(["advance", "--to", "split", "--execute"], pair, worker)
        try await succeed(["rollback", "--execute"], pair, worker)
        try await succeed(["rollback", "--execute"], pair, worker)
        #expect(try await pair.command(["status"]).output.contains("phase shared\n"))
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }
}
