import Foundation
import PostgresClient
import TestSupport
import Testing

/// Operators that are killed: whoever comes after goes on where they were.
@Suite struct PhaseKillTests {
    /// Runs a command again and again: killed as soon as each step is recorded, and once more a random moment later, until
    /// it ends by itself.
    static func killed(_ arguments: [String], _ pair: SplitPair, _ worker: RunningLindero, _ random: inout some RandomNumberGenerator) async throws -> Int {
        var kills = 0
        var seen = try await begun(pair)
        while true {
            let process = try pair.start(arguments)
            try await waitUntil("a step begins; it said \(process.errors); worker: \(worker.errors)", timeoutSeconds: 120) {
                if process.child.exitCode != nil { return true }
                return try await begun(pair) != seen
            }
            if kills % 2 == 1 {
                // Somewhere inside the step, or behind it.
                let inside = ContinuousClock.now + .milliseconds(Int.random(in: 0...400, using: &random))
                try await waitUntil("the moment comes") { ContinuousClock.now >= inside || process.child.exitCode != nil }
            }
            if process.child.exitCode == nil {
                process.kill9()
                _ = try await process.wait()
                kills += 1
                // What it was doing is let be until something has come of it.
                seen = try await begun(pair)
                continue
            }
            #expect(try await process.wait() == 0, "\(process.errors)")
            return kills
        }
    }

    /// The steps that were begun and those that ended.
    static func begun(_ pair: SplitPair) async throws -> String? {
        try await pair.bot.execute("SELECT count(*) || ' ' || count(ended_at) FROM lindero.phase").firstValue
    }

    @Test func killedAtEveryStepAReplicaComesAndGoes() async throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed \(seed)")
        var random = SeededGenerator(seed: seed)
        let pair = try await PhaseTests.pair()
        let worker = try pair.run()
        try await worker.waitForErrors("following changes")
        #expect(try await Self.killed(["advance", "--to", "replica", "--execute"], pair, worker, &random) > 0)
        #expect(try await pair.sync.execute("SELECT count(*) FROM public.\"Reservas\"").firstValue == "500")
        #expect(try await Self.killed(["rollback", "--to", "shared", "--execute"], pair, worker, &random) > 0)
        try await Self.expectEachWorkOnce(pair, moves: 2)
        worker.terminate()
        #expect(try await worker.wait() == 0, "seed \(seed)")
        await pair.remove()
    }

    /// A service writes all the time.
    @Test func killedAtEveryStepASplitComesAndGoes() async throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed \(seed)")
        var random = SeededGenerator(seed: seed)
        let pair = try await PhaseTests.pair(roles: true)
        let bot = LiveService(url: pair.url("bot", as: "bot_app")) { connection, number in
            _ = try await connection.execute("UPDATE public.\"Reservas\" SET \"crmNotes\" = '\(number)' WHERE \"bookingId\" = 'b\(number % 100 + 1)'")
        }
        bot.start()
        let worker = try pair.run()
        _ = try await Self.killed(["advance", "--to", "replica", "--execute"], pair, worker, &random)
        #expect(try await Self.killed(["advance", "--to", "split", "--execute"], pair, worker, &random) > 0)
        #expect(try await pair.command(["status"]).output.contains("phase split\n"))
        _ = try await pair.sync.execute("INSERT INTO public.\"Reservas\" (\"bookingId\", status) SELECT 's' || n, 'there' FROM generate_series(1, 50) n")
        #expect(try await Self.killed(["rollback", "--to", "replica", "--execute"], pair, worker, &random) > 0)
        await bot.end()
        #expect(bot.failures.isEmpty, "\(bot.failures)")
        #expect(try await pair.bot.execute("SELECT count(*) FROM public.\"Reservas\" WHERE status = 'there'").firstValue == "50")
        try await pair.waitUntilEqual("SELECT md5(string_agg(id || \"bookingId\" || coalesce(status, ''), ',' ORDER BY id)) FROM public.\"Reservas\"")
        try await Self.expectEachWorkOnce(pair, moves: 3)
        worker.terminate()
        #expect(try await worker.wait() == 0, "seed \(seed)")
        await pair.remove()
    }

    /// Each work stands in the record once, in order, and ended.
    private static func expectEachWorkOnce(_ pair: SplitPair, moves: Int) async throws {
        let rows = try await pair.bot.execute("""
            SELECT move, count(*), max(number), bool_and(ended_at IS NOT NULL) FROM lindero.phase GROUP BY move ORDER BY move
            """).rows
        #expect(rows.count == moves)
        for row in rows { #expect(row[1] == row[2] && row[3] == "t") }
    }
}
