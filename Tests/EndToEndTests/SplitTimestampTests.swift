import PostgresClient
import TestSupport
import Testing

/// `last_write` goes by commits. What an application says about when it wrote is a value like any other.
@Suite struct SplitTimestampTests {
    private static let schema = """
        CREATE TABLE public.guests (id text PRIMARY KEY, phone text, "updatedAt" timestamptz);
        ALTER TABLE public.guests REPLICA IDENTITY FULL;
        """
    private static let future = "2999-12-31 00:00:00+00"
    private static let past = "1999-01-01 00:00:00+00"

    private func tables(_ updatedAt: String) -> String {
        """
          guests:
            match: [id]
            insert: [bot, sync]
            delete: [bot, sync]
            columns: { shared: { phone: { policy: last_write }, updatedAt: { policy: \(updatedAt) } } }

        """
    }

    /// On the losing side it is in the far future, on the winning one in the past; whichever side that is, and for new rows, too.
    @Test(arguments: ["max", "last_write", "prefer, side: bot"])
    func aMisleadingUpdatedAtSwaysNoLastWrite(policy: String) async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: tables(policy))
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES ('by bot', 'first', '2020-01-01'), ('by sync', 'first', '2020-01-01')")
        var worker = try await pair.startStreaming()
        let all = "SELECT string_agg(concat_ws(' ', id, phone, \"updatedAt\" AT TIME ZONE 'UTC'), ', ' ORDER BY id) FROM public.guests"
        try await pair.waitUntilEqual(all)
        worker.kill9()
        _ = try await worker.wait()
        let clock = "SELECT clock_timestamp()"
        let before = try await pair.bot.execute(clock).firstValue ?? ""
        // The first one loses.
        for (name, row) in [("bot", "by sync"), ("sync", "by sync"), ("sync", "by bot"), ("bot", "by bot")] {
            let side = name == "bot" ? pair.bot : pair.sync
            let isLast = row == "by \(name)"
            let (phone, moment) = isLast ? ("later", Self.past) : ("earlier", Self.future)
            _ = try await side.execute("UPDATE public.guests SET phone = '\(phone)', \"updatedAt\" = '\(moment)' WHERE id = '\(row)'")
            _ = try await side.execute("INSERT INTO public.guests VALUES ('new \(row)', '\(phone)', '\(moment)')")
        }
        let after = try await pair.bot.execute(clock).firstValue ?? ""
        worker = try await pair.startStreaming()
        let phones = "SELECT string_agg(phone, ' ' ORDER BY id) FROM public.guests"
        try await waitUntil("what was written later stands") {
            try await pair.values(phones) == Array(repeating: "later later later later", count: 2)
        }
        try await pair.waitUntilEqual(all)
        // Each loser in the log of the side where it arrived, with the moments of the commits.
        let log = """
            SELECT coalesce(string_agg(concat_ws(' ', row_key ->> 'id', lost_value, kept_value,
              lost_at >= '\(before)' AND lost_at < kept_at AND kept_at <= '\(after)'), ', ' ORDER BY row_key ->> 'id'), '')
            FROM lindero.conflict WHERE column_name = 'phone'
            """
        // Rows may be alike before the losers have arrived everywhere.
        try await waitUntil("each loser has arrived") {
            try await pair.values("SELECT count(*) FROM lindero.conflict WHERE column_name = 'phone'") == ["2", "2"]
        }
        #expect(
            try await pair.values(log) == [
                "by bot earlier later t, new by bot earlier later t", "by sync earlier later t, new by sync earlier later t",
            ])
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }
}
