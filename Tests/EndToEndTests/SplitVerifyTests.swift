import Foundation
import PostgresClient
import TestSupport
import Testing

/// `lindero verify` between two databases that are both written to.
@Suite struct SplitVerifyTests {
    /// `random()` is asked for each row, so a statement writes none, one or several.
    private static let writes = """
        UPDATE public."Reservas" SET phone = phone || '1', visits = visits + 1 WHERE "bookingId" = 'b-' || (1 + (random() * 99)::int);
        """

    @Test func writesOnBothSidesAreNoDifferencesAndRealOnesAreFound() async throws {
        let pair = try await SplitPair(schema: SplitWorkerTests.schema, tables: SplitWorkerTests.tables)
        _ = try await pair.bot.execute(
            "INSERT INTO public.\"Reservas\" (\"bookingId\", phone) SELECT 'b-' || i, '+34' || i FROM generate_series(1, 100) i")
        let first = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitWorkerTests.all)
        for round in 0..<5 {
            async let bot: Void = write(pair.bot)
            async let sync: Void = write(pair.sync)
            let outcome = try await pair.command(["verify", "--json"])
            #expect(outcome.exitCode == 0, "round \(round): \(outcome.output) \(outcome.errors)")
            _ = try await (bot, sync)
        }
        first.terminate()
        _ = try await first.wait()
        // What is written under the worker's own origin does not travel back; the origin is the commit's.
        try await waitUntil("the worker's session is gone") {
            (try? await pair.sync.execute("""
                SELECT pg_replication_origin_session_setup('lindero_' || oid || '_bot->sync') FROM pg_database
                WHERE datname = current_database()
                """)) != nil
        }
        _ = try await pair.sync.execute("""
            UPDATE public."Reservas" SET "crmNotes" = 'planted' WHERE "bookingId" = 'b-7';
            DELETE FROM public."Reservas" WHERE "bookingId" = 'b-8'
            """)
        _ = try await pair.sync.execute("SELECT pg_replication_origin_session_reset()")
        let second = try await pair.startStreaming()
        let found = try await pair.command(["verify", "Reservas"])
        #expect(found.exitCode == 3, "\(found.errors)")
        #expect(found.output.contains("Reservas (bookingId = b-7): differs in crmNotes"))
        #expect(found.output.contains("Reservas (bookingId = b-8): is on bot alone"))
        #expect(found.output.contains("100 rows compared, 2 differ"))
        let repair = try await pair.command(["verify", "--repair"])
        #expect(repair.exitCode == 3)
        #expect(repair.output.contains("mended in crmNotes on sync by bot's value (owner)"))
        #expect(repair.output.contains("bot may have made it, or sync deleted it"))
        second.terminate()
        _ = try await second.wait()
        await pair.remove()
    }

    private func write(_ side: PostgresConnection) async throws {
        for _ in 0..<100 { try await side.executeDespiteDeadlocks(Self.writes) }
    }
}
