import Foundation
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

/// `lindero verify --repair` between two databases that are both written to.
@Suite struct SplitRepairTests {
    static let schema = """
        CREATE TABLE public."Reservas" (
          "bookingId" text PRIMARY KEY, status text DEFAULT 'new', "crmNotes" text, "apiData" text, phone text, "guestName" text,
          "arrivalDate" date, "updatedAt" timestamptz, price numeric, visits int DEFAULT 0, token text DEFAULT 'fresh', secret text);
        ALTER TABLE public."Reservas" REPLICA IDENTITY FULL;
        CREATE TABLE public."Leads" (phone text PRIMARY KEY, note text);
        ALTER TABLE public."Leads" REPLICA IDENTITY FULL;
        CREATE TABLE public.stays (id int PRIMARY KEY, "bookingId" text REFERENCES public."Reservas");
        ALTER TABLE public."Reservas" ADD channel text NOT NULL;
        """
    static let tables = """
          Reservas:
            match: [bookingId]
            insert: sync
            delete: sync
            fill: { channel: "" }
            private: [secret]
            columns:
              bot: [crmNotes, token, secret, channel]
              sync: [bookingId, status, apiData]
              shared:
                phone: { policy: last_write }
                guestName: { policy: queue }
                arrivalDate: { policy: prefer, side: sync }
                updatedAt: { policy: max }
                price: { policy: min }
                visits: { policy: delta }
          Leads: { match: [phone], insert: [bot, sync], delete: bot, columns: { bot: "*" } }
          stays: { match: [id], insert: bot, delete: bot, columns: { bot: "*" } }

        """
    static let all = """
        SELECT coalesce((SELECT string_agg((to_jsonb(r) - 'secret')::text, E'\\n' ORDER BY "bookingId") FROM public."Reservas" r), '')
          || coalesce((SELECT string_agg(l::text, E'\\n' ORDER BY phone) FROM public."Leads" l), '')
        """

    /// Rows that differ, as no service's write: each side's stream leaves such a transaction out.
    static func plant(_ side: PostgresConnection, _ sql: String) async throws {
        let note = SplitNote.encode([.mended]).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        _ = try await side.execute(
            "BEGIN; SELECT pg_logical_emit_message(true, '\(SplitNote.messagePrefix)', '\\x\(note)'::bytea); \(sql); COMMIT")
    }

    private static let rows = """
        INSERT INTO public."Reservas" SELECT 'b-' || i, 'new', CASE WHEN i = 12 THEN 'precious' END, repeat('a', 9000), '+34' || i,
          'guest ' || i, date '2026-01-01', timestamptz '2026-01-01', 100, i, 'token', 'secret', 'web' FROM generate_series(1, 40) i;
        UPDATE public."Reservas" SET channel = '' WHERE "bookingId" = 'b-11';
        UPDATE public."Reservas" SET token = NULL WHERE "bookingId" = 'b-11';
        INSERT INTO public."Leads" SELECT '+' || i, 'note' FROM generate_series(1, 5) i
        """

    private static let plantedOnBot = [
        (2, "status = 'planted'"), (3, "\"apiData\" = 'planted'"), (4, "\"arrivalDate\" = '2030-01-01'"),
        (5, "\"updatedAt\" = '2026-02-02'"), (8, "phone = 'planted'"), (9, "visits = 1000"),
    ].map { "UPDATE public.\"Reservas\" SET \($1) WHERE \"bookingId\" = 'b-\($0)'" }
        + [
            "DELETE FROM public.\"Reservas\" WHERE \"bookingId\" IN ('b-11', 'b-12')",
            "INSERT INTO public.\"Reservas\" (\"bookingId\", channel, secret) VALUES ('x-bot', 'web', 'known here')", "DELETE FROM public.\"Leads\" WHERE phone = '+2'",
        ]

    private static let plantedOnSync = [
        (1, "\"crmNotes\" = 'planted'"), (3, "\"crmNotes\" = 'planted'"), (6, "\"updatedAt\" = NULL"), (7, "price = 99.50"),
        (8, "\"crmNotes\" = 'planted'"), (10, "\"guestName\" = 'planted'"),
    ].map { "UPDATE public.\"Reservas\" SET \($1) WHERE \"bookingId\" = 'b-\($0)'" }
        + [
            "DELETE FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-13'",
            "INSERT INTO public.\"Reservas\" (\"bookingId\", status, channel) VALUES ('x-sync', 'planted', '')",
            "DELETE FROM public.\"Leads\" WHERE phone = '+1'",
        ]

    private static let words = [
        "(bookingId = b-1): differs in crmNotes; would be mended in crmNotes on sync by bot's value (owner)",
        "(bookingId = b-2): differs in status; would be mended in status on bot by sync's value (owner)",
        "(bookingId = b-4): differs in arrivalDate; would be mended in arrivalDate on bot by sync's value (prefer)",
        "(bookingId = b-5): differs in updatedAt; would be mended in updatedAt by the greater value (max)",
        "(bookingId = b-7): differs in price; would be mended in price by the smaller value (min)",
        "would be mended in crmNotes on sync by bot's value (owner); left to a person: phone (policy last_write)",
        "(bookingId = b-9): differs in visits; left to a person: visits (policy delta)",
        "(bookingId = b-10): differs in guestName; left to a person: guestName (policy queue)",
        "(bookingId = b-11): is on sync alone; would be inserted on bot by sync's row",
        "(bookingId = b-13): is on bot alone; would be deleted on bot: sync may delete it, and bot does not make it",
        "(bookingId = x-bot): is on bot alone; would be deleted on bot", "(bookingId = x-sync): is on sync alone; would be inserted on bot",
        "Leads (phone = +1): is on bot alone; would be inserted on sync by bot's row",
        "Leads (phone = +2): is on sync alone; left to a person: the row: sync may have made it, or bot deleted it",
    ]

    /// What is left once the rules have decided: values are the sides' own still.
    private static let left = """
        SELECT concat_ws(' ', (SELECT phone FROM public."Reservas" WHERE "bookingId" = 'b-8'),
          (SELECT visits FROM public."Reservas" WHERE "bookingId" = 'b-9'),
          (SELECT "guestName" FROM public."Reservas" WHERE "bookingId" = 'b-10'),
          (SELECT count(*) FROM public."Reservas" WHERE "bookingId" = 'b-12'), (SELECT count(*) FROM public."Leads" WHERE phone = '+2'))
        """
    private static let decided = """
        SELECT concat_ws(' ', (SELECT string_agg("crmNotes", ',') FROM public."Reservas" WHERE "crmNotes" = 'planted'),
          (SELECT string_agg("bookingId", ',' ORDER BY "bookingId") FROM public."Reservas" WHERE "bookingId" IN ('b-11', 'b-13', 'x-bot', 'x-sync')),
          (SELECT string_agg(concat_ws('/', status, length("apiData"), "arrivalDate", "updatedAt"::date, price), ' ' ORDER BY "bookingId")
           FROM public."Reservas" WHERE "bookingId" IN ('b-2', 'b-3', 'b-4', 'b-5', 'b-6', 'b-7')),
          (SELECT count(*) FROM public."Leads" WHERE phone = '+1'))
        """

    @Test func eachDifferenceIsMendedAsItsOwnerOrPolicySaysAndTheRestIsLeftToAPerson() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables)
        _ = try await pair.bot.execute(Self.rows)
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        for sql in Self.plantedOnBot { try await Self.plant(pair.bot, sql) }
        for sql in Self.plantedOnSync { try await Self.plant(pair.sync, sql) }

        let before = try await pair.values(Self.all)
        let dry = try await pair.command(["verify", "--repair"])
        #expect(dry.exitCode == 3, "\(dry.errors)")
        for words in Self.words { #expect(dry.output.contains(words), "\(words)\nin\n\(dry.output)") }
        #expect(!dry.output.contains("planted") && !dry.output.contains("precious"))
        #expect(try await pair.values(Self.all) == before)

        let mended = try await pair.command(["verify", "--repair", "--execute"])
        #expect(mended.exitCode == 3, "\(mended.output) \(mended.errors)")
        #expect(mended.output.contains("mended in crmNotes; left to a person: phone (policy last_write)"))
        #expect(mended.output.contains("crmNotes, token, channel of bot would be lost, sync alone still has values"))
        #expect(mended.output.contains("--take bot or --take sync"))
        let decided = "b-11,x-sync new/9000/2026-01-01/2026-01-01/100 new/9000/2026-01-01/2026-01-01/100 "
            + "new/9000/2026-01-01/2026-01-01/100 new/9000/2026-01-01/2026-02-02/100 new/9000/2026-01-01/2026-01-01/100 "
            + "new/9000/2026-01-01/2026-01-01/99.50 1"
        let now = try await pair.values(Self.decided)
        #expect(now == [decided, decided], "\(now)")
        #expect(try await pair.values(Self.left) == ["planted 1000 guest 10 0 0", "+348 9 planted 1 1"])

        let taken = try await pair.command(["verify", "--repair", "--take", "sync", "--execute"])
        #expect(taken.exitCode == 0, "\(taken.output) \(taken.errors)")
        #expect(try await pair.values(Self.left) == Array(repeating: "+348 9 planted 1 1", count: 2))
        #expect(try await pair.values("SELECT \"crmNotes\" FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-12'") == ["precious", "precious"])
        // Its own side's default was given, and taken along.
        let tokens = "SELECT string_agg(token, ' ' ORDER BY \"bookingId\") FROM public.\"Reservas\" WHERE \"bookingId\" IN ('b-11', 'b-12')"
        #expect(try await pair.values(tokens) == ["fresh token", "fresh token"])
        let versions = "SELECT string_agg(ctid || '/' || xmin, ' ' ORDER BY \"bookingId\") FROM public.\"Reservas\" WHERE \"bookingId\" <> 'b-40'"
        let still = try await pair.values(versions)
        #expect(try await pair.command(["verify"]).exitCode == 0)
        try await expectWritesToMeet(pair)
        // Nothing that was mended came back, nor met anything.
        #expect(try await pair.values(versions) == still)
        #expect(try await pair.values("SELECT count(*) FROM lindero.conflict WHERE kind <> 'repair'") == ["0", "0"])
        // What was written over is on record where it stood.
        let record = "SELECT string_agg(concat_ws(' ', row_key ->> 'bookingId', column_name, policy, winner, lost_value), ', ') FROM lindero.conflict WHERE row_key ->> 'bookingId' = "
        #expect(try await pair.bot.execute(record + "'b-4'").firstValue == "b-4 arrivalDate prefer sync 2030-01-01")
        #expect(try await pair.bot.execute(record + "'b-9'").firstValue == "b-9 visits take sync 1000")
        #expect(try await pair.sync.execute(record + "'b-1'").firstValue == "b-1 crmNotes owner bot planted")
        let deleted = "SELECT concat_ws(' ', lost_value::jsonb ->> 'status', lost_value::jsonb ->> 'secret') FROM lindero.conflict WHERE row_key ->> 'bookingId' = 'x-bot'"
        #expect(try await pair.bot.execute(deleted).firstValue == "new known here")
        let number = try await pair.bot.execute("SELECT id FROM lindero.conflict WHERE row_key ->> 'bookingId' = 'b-4'").firstValue ?? ""
        let shown = try await pair.command(["conflicts", "show", "bot:\(number)", "--show-values"])
        #expect(shown.output.contains("was on bot, written over by verify --repair: 2030-01-01"), "\(shown.output)")
        try await expectReferredRowsToStay(pair)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// No foreign key would act on a repair's delete, and leave its row referring to nothing.
    private func expectReferredRowsToStay(_ pair: SplitPair) async throws {
        _ = try await pair.bot.execute("INSERT INTO public.stays VALUES (1, 'b-20')")
        try await pair.waitUntilEqual("SELECT count(*) FROM public.stays")
        try await Self.plant(
            pair.sync, "SET LOCAL session_replication_role = replica; DELETE FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-20'")
        let kept = try await pair.command(["verify", "Reservas", "--repair", "--take", "sync", "--execute"])
        #expect(kept.exitCode == 3, "\(kept.output) \(kept.errors)")
        #expect(kept.output.contains("not mended; left to a person: the row: a row of public.stays on bot refers to it"))
        #expect(try await pair.values("SELECT count(*) FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-20'") == ["1", "0"])
        // A program that is newer than its tables has nowhere to keep what it writes over.
        _ = try await pair.sync.execute("DELETE FROM lindero.migration WHERE version = 16")
        let old = try await pair.command(["verify", "--repair", "--execute"])
        #expect(old.exitCode == 2 && old.errors.contains("The schema lindero of sync is not up to date"), "\(old.errors)")
    }

    /// Services go on over mended rows as over any other.
    private func expectWritesToMeet(_ pair: SplitPair) async throws {
        let row = "WHERE \"bookingId\" = 'b-40'"
        for side in [pair.bot, pair.sync] {
            _ = try await side.execute("UPDATE public.\"Reservas\" SET visits = visits + 1, phone = phone || '.' \(row)")
        }
        _ = try await pair.bot.execute("UPDATE public.\"Reservas\" SET \"crmNotes\" = 'last' \(row)")
        _ = try await pair.sync.execute("UPDATE public.\"Reservas\" SET status = 'last' \(row)")
        try await waitUntil("both have both") {
            try await pair.values("SELECT concat_ws(' ', visits, \"crmNotes\", status) FROM public.\"Reservas\" \(row)") == ["42 last last", "42 last last"]
        }
        try await pair.waitUntilEqual(Self.all)
        _ = try await pair.bot.execute("DELETE FROM lindero.conflict WHERE kind = 'column'")
        _ = try await pair.sync.execute("DELETE FROM lindero.conflict WHERE kind = 'column'")
    }
}
