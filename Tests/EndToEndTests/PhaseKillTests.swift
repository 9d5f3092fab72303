import Foundation
import PostgresClient
import TestSupport
import Testing

/// Operators that are killed: whoever comes after goes on where they were.
@Suite struct PhaseKillTests {
    /// Runs a command again and again: killed as soon as each step is recorded, and once more a random moment later, until
    /// it ends by itself. No step can end before it was seen here, however slow this machine looks: `Gates`.
    ///
    /// - Returns: how often it was killed: once for each step, or more.
    static func killed(_ arguments: [String], _ pair: SplitPair, _ worker: RunningLindero, _ random: inout some RandomNumberGenerator) async throws -> Int {
        var kills = 0
        let gates = try await Gates(pair)
        var seen = try await begun(pair)
        while true {
            let process = try pair.start(arguments)
            do {
                try await waitUntil("a step begins", timeoutSeconds: 120) {
                    if process.child.exitCode != nil { return true }
                    return try await begun(pair) != seen
                }
            } catch {
                Issue.record("after \(seen ?? ""): it said \(process.errors.suffix(500)); worker: \(worker.errors.suffix(1_000))")
                throw error
            }
            if kills % 2 == 1 {
                // Somewhere inside the step, or behind it.
                try await gates.open()
                let inside = ContinuousClock.now + .milliseconds(Int.random(in: 0...400, using: &random))
                try await waitUntil("the moment comes") { ContinuousClock.now >= inside || process.child.exitCode != nil }
            }
            if process.child.exitCode == nil {
                process.kill9()
                _ = try await process.wait()
                kills += 1
                // What it was doing is let be until something has come of it; it may have begun one more step meanwhile.
                try await gates.open()
                try await gates.waitUntilNobodyLeads()
                try await gates.open()
                seen = try await begun(pair)
                continue
            }
            #expect(try await process.wait() == 0, "\(process.errors)")
            try await gates.remove()
            return kills
        }
    }

    /// Holds the end of every step until the test has seen its beginning.
    struct Gates {
        private let keeper: PostgresConnection

        init(_ pair: SplitPair) async throws {
            keeper = try await PostgresConnection.connect(ConnectionOptions(pair.url("bot", as: "postgres")))
            _ = try await keeper.execute("""
                CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS
                  $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(7, NEW.move * 100 + NEW.number); RETURN NEW; END $$;
                CREATE TRIGGER gate BEFORE UPDATE ON lindero.phase FOR EACH ROW EXECUTE FUNCTION public.gate();
                SELECT pg_catalog.pg_advisory_lock(7, n) FROM pg_catalog.generate_series(100, 599) n
                WHERE n NOT IN (SELECT move * 100 + number FROM lindero.phase WHERE ended_at IS NOT NULL)
                """)
        }

        /// The steps that were begun may end.
        func open() async throws {
            _ = try await keeper.execute("""
                SELECT pg_catalog.pg_advisory_unlock(7, l.objid::int) FROM pg_catalog.pg_locks l
                WHERE l.locktype = 'advisory' AND l.classid = 7 AND l.granted AND l.pid = pg_catalog.pg_backend_pid()
                  AND l.objid::int IN (SELECT move * 100 + number FROM lindero.phase)
                """)
        }

        /// The server notices that an operator was killed when it has done what it was doing for it.
        func waitUntilNobodyLeads() async throws {
            try await waitUntil("the killed operator's session ends") {
                try await keeper.execute("""
                    SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
                    WHERE l.locktype = 'advisory' AND l.classid = x'4C696E64'::int AND l.objid = 1 AND d.datname = pg_catalog.current_database()
                    """).rows.isEmpty
            }
        }

        func remove() async throws {
            _ = try await keeper.execute("DROP TRIGGER gate ON lindero.phase; DROP FUNCTION public.gate()")
            await keeper.close()
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
