import Foundation
import PostgresClient
import TestSupport
import Testing

/// The worker as a plain role on each side, which may write what arrives there and nothing else.
@Suite struct SplitPrivilegeTests {
    private static let all = """
        SELECT string_agg(r::text, E'\\n' ORDER BY "bookingId") FROM public."Reservas" r
        """
    private static let key = ["bookingId"]
    private static let shared = ["phone", "guestName", "arrivalDate", "updatedAt", "visits"]

    private func grant(_ role: String, on side: PostgresConnection, owned: [String]) async throws {
        try await Self.grant(role, on: side, Self.key + Self.shared + owned)
    }

    static func grant(_ role: String, on side: PostgresConnection, _ columns: [String]) async throws {
        let columns = columns.map { "\"\($0)\"" }.joined(separator: ", ")
        let sql = """
            DO $$ BEGIN
              CREATE ROLE \(role) LOGIN REPLICATION;
            EXCEPTION WHEN duplicate_object THEN NULL; END $$;
            GRANT SET ON PARAMETER session_replication_role TO \(role);
            GRANT EXECUTE ON FUNCTION pg_replication_origin_create(text), pg_replication_origin_oid(text),
              pg_replication_origin_session_setup(text), pg_replication_origin_session_progress(boolean),
              pg_replication_origin_xact_setup(pg_lsn, timestamptz) TO \(role);
            GRANT USAGE ON SCHEMA public, lindero TO \(role);
            GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA lindero TO \(role);
            GRANT SELECT, DELETE, INSERT (\(columns)), UPDATE (\(columns)) ON public."Reservas" TO \(role);
            """
        try await side.executeOnSharedServer(sql)
    }

    @Test func plainRolesCarryTheSplitAndCannotWriteWhatTheOtherSideOwns() async throws {
        let pair = try await SplitPair(schema: SplitWorkerTests.schema, tables: SplitWorkerTests.tables)
        let first = try await pair.startStreaming()
        first.terminate()
        #expect(try await first.wait() == 0)
        let role = "lindero_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        // What arrives at bot is sync's, and the other way round.
        try await grant(role, on: pair.bot, owned: ["status", "beds24Status", "apiData"])
        try await grant(role, on: pair.sync, owned: ["crmNotes"])

        let worker = try await pair.startStreaming(as: role)
        let table = "public.\"Reservas\""
        _ = try await pair.bot.execute("INSERT INTO \(table) (\"bookingId\", \"crmNotes\", visits) VALUES ('one', 'note', 1), ('two', NULL, 1)")
        _ = try await pair.sync.execute("INSERT INTO \(table) (\"bookingId\", \"apiData\", status) VALUES ('three', '{}', 'paid')")
        try await waitUntil("rows have crossed") {
            try await pair.values("SELECT count(*) FROM \(table)") == ["3", "3"]
        }
        _ = try await pair.sync.execute("UPDATE \(table) SET \"apiData\" = 'a', visits = visits + 1, phone = '+34'; DELETE FROM \(table) WHERE \"bookingId\" = 'two'")
        _ = try await pair.bot.execute("UPDATE \(table) SET \"crmNotes\" = 'b', visits = visits + 1, \"bookingId\" = 'ONE' WHERE \"bookingId\" = 'one'")
        try await pair.waitUntilEqual(Self.all)
        try await expectRepairByItsRightsAlone(pair, role)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        for (side, column) in [(pair.bot, "crmNotes"), (pair.sync, "apiData")] {
            let refused = await #expect(throws: PostgresError.self) {
                _ = try await side.execute("SET ROLE \(role); UPDATE \(table) SET \"\(column)\" = 'x'")
            }
            #expect(refused?.sqlState?.rawValue == "42501")
            _ = try await side.execute("RESET ROLE")
        }
        await pair.remove()
    }

    /// What the appliers may write is all that a repair writes; a column of its own side only where the role may.
    private func expectRepairByItsRightsAlone(_ pair: SplitPair, _ role: String) async throws {
        for side in [pair.bot, pair.sync] { _ = try await side.execute("GRANT DELETE ON lindero.verification TO \(role)") }
        try await SplitRepairTests.plant(pair.bot, """
            UPDATE public."Reservas" SET status = 'planted', "arrivalDate" = '2030-01-01' WHERE "bookingId" = 'three';
            DELETE FROM public."Reservas" WHERE "bookingId" = 'ONE'
            """)
        try await SplitRepairTests.plant(pair.sync, "UPDATE public.\"Reservas\" SET \"crmNotes\" = 'planted' WHERE \"bookingId\" = 'three'")
        var plain = pair
        plain.leader = role
        let mended = try await plain.command(["verify", "--repair", "--execute"])
        #expect(mended.exitCode == 3 && mended.output.contains("(bookingId = three): differs in"), "\(mended.output) \(mended.errors)")
        #expect(mended.output.contains("; mended\n"))
        let values = "SELECT concat_ws(' ', status, \"crmNotes\", \"arrivalDate\") FROM public.\"Reservas\" WHERE \"bookingId\" = 'three'"
        let now = try await pair.values(values)
        #expect(now == ["paid", "paid"], "\(now) \(mended.output)")
        // The row has a value of bot's, which nobody but bot may write there.
        let refused = try await plain.command(["verify", "--repair", "--take", "sync", "--execute"])
        #expect(refused.exitCode == 3 && refused.output.contains("not mended: "), "\(refused.output) \(refused.errors)")
        #expect(refused.output.contains("permission denied"), "\(refused.output)")
        let taken = try await pair.command(["verify", "--repair", "--take", "sync", "--execute"])
        #expect(taken.exitCode == 0, "\(taken.output) \(taken.errors)")
        try await pair.waitUntilEqual(Self.all)
        try await expectNothingIsMadeOfARowThatCannotBeHeld(plain, role)
    }

    /// A row that its own side might change meanwhile is not made on the other.
    private func expectNothingIsMadeOfARowThatCannotBeHeld(_ pair: SplitPair, _ role: String) async throws {
        let columns = (Self.key + Self.shared + ["status", "beds24Status", "apiData"]).map { "\"\($0)\"" }.joined(separator: ", ")
        _ = try await pair.bot.execute("REVOKE UPDATE (\(columns)) ON public.\"Reservas\" FROM \(role)")
        _ = try await pair.sync.execute("GRANT INSERT ON public.\"Reservas\" TO \(role)")
        try await SplitRepairTests.plant(pair.bot, "INSERT INTO public.\"Reservas\" (\"bookingId\") VALUES ('four')")
        let refused = try await pair.command(["verify", "--repair", "--take", "bot", "--execute"])
        #expect(refused.exitCode == 3, "\(refused.output) \(refused.errors)")
        #expect(refused.output.contains("on bot, where it has to be held, Lindero's role may UPDATE no column"), "\(refused.output)")
        #expect(try await pair.values("SELECT count(*) FROM public.\"Reservas\" WHERE \"bookingId\" = 'four'") == ["1", "0"])
        // For the lock's sake any column will do.
        _ = try await pair.bot.execute("GRANT UPDATE (\"bookingId\") ON public.\"Reservas\" TO \(role)")
        let mended = try await pair.command(["verify", "--repair", "--take", "bot", "--execute"])
        #expect(mended.exitCode == 0, "\(mended.output) \(mended.errors)")
        try await pair.waitUntilEqual(Self.all)
    }

    @Test func anOwnerThatIsGivenWronglyIsRefusedByTheServer() async throws {
        let pair = try await SplitPair(schema: SplitWorkerTests.schema, tables: SplitWorkerTests.tables)
        let first = try await pair.startStreaming()
        first.terminate()
        _ = try await first.wait()
        let role = "lindero_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try await grant(role, on: pair.bot, owned: ["status", "beds24Status", "apiData"])
        try await grant(role, on: pair.sync, owned: ["crmNotes"])
        // As if somebody had given crmNotes to sync, too.
        try pair.write(
            tables: SplitWorkerTests.tables.replacingOccurrences(of: "bot: [crmNotes]\n", with: "\n")
                .replacingOccurrences(of: "sync: [status,", with: "sync: [crmNotes, status,"))
        let worker = try await pair.startStreaming(as: role)
        _ = try await pair.sync.execute("INSERT INTO public.\"Reservas\" (\"bookingId\", \"crmNotes\") VALUES ('one', 'SECRET-7')")
        #expect(try await worker.wait() == 1)
        #expect(worker.errors.contains("permission denied") && !worker.errors.contains("SECRET-7"), "\(worker.errors)")
        #expect(try await pair.bot.execute("SELECT count(*) FROM public.\"Reservas\"").firstValue == "0")
        await pair.remove()
    }
}
