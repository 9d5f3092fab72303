import Foundation
import PostgresClient
import TestSupport
import Testing

/// What the type of a column does to a split: counters near its limits, and a type that changes while both directions stream.
@Suite struct SplitTypeTests {
    private static let all = "SELECT string_agg(v::text, E'\\n' ORDER BY id) FROM public.visits v"

    private static func tables(bot: String, counters: [String]) -> String {
        """
              visits:
                match: [id]
                insert: bot
                delete: bot
                columns:
                  bot: [\(bot)]
                  shared:
            \(counters.map { "        \($0): { policy: delta }" }.joined(separator: "\n"))

            """
    }

    /// A table of these columns with one row, of which both sides know.
    private func streaming(_ columns: String, _ tables: String, row: String) async throws -> (SplitPair, RunningLindero) {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.visits (id int PRIMARY KEY, \(columns)); ALTER TABLE public.visits REPLICA IDENTITY FULL;",
            tables: tables)
        _ = try await pair.bot.execute("INSERT INTO public.visits VALUES (1, \(row))")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        return (pair, worker)
    }

    private func end(_ pair: SplitPair, _ worker: RunningLindero) async throws {
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// The sum of both values would not fit; the counter does.
    @Test func aCounterBeyondHalfOfItsTypesRangeGoesOnCounting() async throws {
        let counters = ["small", "count", "large", "price"]
        let (pair, worker) = try await streaming(
            "remark text, small smallint, count int, large bigint, price numeric(10, 2)", Self.tables(bot: "remark", counters: counters),
            row: "'a', 32000, 2000000000, 9000000000000000000, 99999999.00")
        let counted = counters.map { "\($0) = \($0) + 1" }.joined(separator: ", ").replacingOccurrences(of: "price + 1", with: "price + 0.25")
        for side in [pair.bot, pair.sync] { _ = try await side.execute("UPDATE public.visits SET \(counted)") }
        try await waitUntil("both have both") {
            try await pair.values("SELECT concat_ws(' ', small, count, large, price) FROM public.visits")
                == Array(repeating: "32002 2000000002 9000000000000000002 99999999.50", count: 2)
        }
        // From one end of the range to the other.
        _ = try await pair.bot.execute("UPDATE public.visits SET small = -32000, count = -2000000000, large = -9000000000000000000")
        try await pair.waitUntilEqual(Self.all)
        try await end(pair, worker)
    }

    /// A sum of differences is exact, or both sides end with another one.
    @Test func aCounterWhoseSumsAreRoundedIsRefused() async throws {
        for type in ["float8", "real", "money"] {
            let pair = try await SplitPair(
                schema: "CREATE TABLE public.visits (id int PRIMARY KEY, remark text, count \(type)); ALTER TABLE public.visits REPLICA IDENTITY FULL;",
                tables: Self.tables(bot: "remark", counters: ["count"]))
            let check = try await pair.command(["check"])
            #expect(check.exitCode == 2 && (check.output + check.errors).contains("policy delta adds exact numbers"), "\(type): \(check)")
            await pair.remove()
        }
    }

    /// 1.5 + 3 - 1.5 is 3.0, which is another text.
    @Test func aCounterIsWrittenAsItsSideWroteItWhereNobodyElseCounted() async throws {
        let (pair, worker) = try await streaming(
            "remark text, count numeric", Self.tables(bot: "remark", counters: ["count"]), row: "'a', 1.5")
        _ = try await pair.bot.execute("UPDATE public.visits SET count = 3")
        try await waitUntil("it is there") { try await pair.sync.execute("SELECT count::int FROM public.visits").firstValue == "3" }
        #expect(try await pair.values("SELECT count FROM public.visits") == ["3", "3"])
        let verify = try await pair.command(["verify"])
        #expect(verify.exitCode == 0, "\(verify.output)")
        try await end(pair, worker)
    }

    /// Of values that have no order none is the greater one.
    @Test func aTypeWithoutAnOrderIsRefusedForMaxAndMin() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.visits (id int PRIMARY KEY, remark text, doc json, spot point); ALTER TABLE public.visits REPLICA IDENTITY FULL;",
            tables: """
                  visits:
                    match: [id]
                    insert: bot
                    delete: bot
                    columns:
                      bot: [remark]
                      shared:
                        doc: { policy: max }
                        spot: { policy: min }

                """)
        let check = try await pair.command(["check"])
        #expect(check.exitCode == 2, "\(check.output) \(check.errors)")
        for column in ["doc", "spot"] { #expect(check.errors.contains("column \"\(column)\"") || check.output.contains("column \"\(column)\"")) }
        await pair.remove()
    }

    /// One side alone has altered the column: its bytes mean something else on the other.
    @Test func aTypeThatOneSideHasChangedStopsTheSplitBeforeTheChange() async throws {
        let (pair, worker) = try await streaming(
            "measure bigint, count int", Self.tables(bot: "measure", counters: ["count"]), row: "5, 1")
        _ = try await pair.bot.execute("UPDATE public.visits SET measure = 6, count = count + 1")
        try await pair.waitUntilEqual(Self.all)
        _ = try await pair.bot.execute("ALTER TABLE public.visits ALTER COLUMN measure TYPE double precision")
        _ = try await pair.bot.execute("UPDATE public.visits SET measure = 7.5, count = count + 1")
        let value = "SELECT measure::numeric FROM public.visits"
        try await waitUntil("it has met the change") {
            try await pair.sync.execute(value).firstValue != "6" || worker.errors.contains("error: ")
        }
        try #require(try await pair.sync.execute(value).firstValue == "6")
        #expect(try await worker.wait() != 0, "\(worker.errors)")
        _ = try await pair.sync.execute("ALTER TABLE public.visits ALTER COLUMN measure TYPE double precision")
        let again = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        try await end(pair, again)
    }

    /// Both have altered it, the target first, as one should.
    @Test func aTypeThatBothSidesHaveChangedIsWrittenAsTheNewOne() async throws {
        let (pair, worker) = try await streaming(
            "measure bigint, day timestamp, count int", Self.tables(bot: "measure, day", counters: ["count"]),
            row: "5, '2026-01-01 12:00', 1")
        _ = try await pair.bot.execute("UPDATE public.visits SET measure = 6, day = '2026-01-02 12:00', count = count + 1")
        try await pair.waitUntilEqual(Self.all)
        for side in [pair.sync, pair.bot] {
            _ = try await side.execute("ALTER TABLE public.visits ALTER COLUMN measure TYPE double precision")
        }
        _ = try await pair.bot.execute("UPDATE public.visits SET measure = 1.5, day = '2026-01-03 12:00', count = count + 1")
        try await waitUntil("it is there") { try await pair.sync.execute("SELECT count FROM public.visits").firstValue == "3" }
        #expect(try await pair.values("SELECT measure FROM public.visits") == ["1.5", "1.5"])
        try await end(pair, worker)
    }

    private static let owned = """
          visits:
            match: [id]
            insert: bot
            delete: bot
            columns:
              bot: [measure]
              sync: [state]
              shared:
                count: { policy: delta }

        """

    /// The target alone is altered, to a type that rounds.
    @Test func aTargetThatIsAlteredAloneTakesNothingRounded() async throws {
        let (pair, worker) = try await streaming("measure numeric, state text, count int", Self.owned, row: "5, '', 1")
        _ = try await pair.bot.execute("UPDATE public.visits SET measure = 6.5, count = count + 1")
        try await pair.waitUntilEqual(Self.all)
        _ = try await pair.sync.execute("ALTER TABLE public.visits ALTER COLUMN measure TYPE int USING 6")
        _ = try await pair.bot.execute("UPDATE public.visits SET measure = 8.6, count = count + 1")
        #expect(try await worker.wait() != 0, "\(worker.errors)")
        #expect(try await pair.sync.execute("SELECT measure FROM public.visits").firstValue == "6", "\(worker.errors)")
        _ = try await pair.sync.execute("ALTER TABLE public.visits ALTER COLUMN measure TYPE numeric")
        let again = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        // One that holds the values is looked at anew, and the split goes on.
        _ = try await pair.sync.execute("ALTER TABLE public.visits ALTER COLUMN state TYPE varchar(9)")
        _ = try await pair.bot.execute("UPDATE public.visits SET measure = 9.7, count = count + 1")
        try await pair.waitUntilEqual(Self.all)
        try await end(pair, again)
    }

    /// As text the server takes what it has no room for, and drops the rest.
    @Test(arguments: ["real", "double precision"]) func aTargetThatIsAlteredToATypeThatRoundsStopsTheSplit(type: String) async throws {
        let (pair, worker) = try await streaming("measure numeric, state text, count int", Self.owned, row: "5, '', 1")
        _ = try await pair.sync.execute("ALTER TABLE public.visits ALTER COLUMN measure TYPE \(type)")
        _ = try await pair.bot.execute("UPDATE public.visits SET measure = 0.12345678901234567890, count = count + 1")
        try await waitUntil("it has met the change") {
            try await pair.sync.execute("SELECT count FROM public.visits").firstValue != "1" || worker.errors.contains("error: ")
        }
        #expect(try await pair.sync.execute("SELECT measure FROM public.visits").firstValue == "5")
        #expect(worker.errors.contains("measure"), "\(worker.errors)")
        await pair.remove()
    }

    /// A table that inherits from the target's has a row with the same key.
    @Test func aRowOfAChildTableIsNobodysRow() async throws {
        let (pair, worker) = try await streaming("measure int, state text, count int", Self.owned, row: "5, '', 1")
        let own = Self.all.replacingOccurrences(of: "public.visits", with: "ONLY public.visits")
        _ = try await pair.sync.execute("CREATE TABLE public.old_visits () INHERITS (public.visits); INSERT INTO public.old_visits VALUES (1, 77, 'old', 77)")
        _ = try await pair.bot.execute("UPDATE public.visits SET measure = 6, count = count + 1")
        _ = try await pair.bot.execute("INSERT INTO public.visits (id, measure, count) VALUES (3, 5, 1)")
        try await waitUntil("the last is there") { try await pair.sync.execute("SELECT 1 FROM public.visits WHERE id = 3").rowCount == 1 }
        try await pair.waitUntilEqual(own, timeoutSeconds: 20)
        // Nor one that differs, or is to be mended.
        #expect(try await pair.command(["verify"]).exitCode == 0)
        _ = try await pair.sync.execute("UPDATE ONLY public.visits SET measure = 8 WHERE id = 1")
        let mended = try await pair.command(["verify", "--repair", "--execute"])
        #expect(mended.exitCode == 0, "\(mended.output) \(mended.errors)")
        try await pair.waitUntilEqual(own)
        #expect(try await pair.sync.execute("SELECT concat_ws(' ', measure, count) FROM public.old_visits").firstValue == "77 77")
        try await end(pair, worker)
    }

    private func lives(_ worker: RunningLindero) -> Int { worker.errors.components(separatedBy: "streaming direction=sync->bot").count - 1 }

    /// What was made for the table as it was is made anew, and the streams go on.
    @Test func aColumnThatIsAddedOnTheTargetEndsNoStream() async throws {
        let (pair, worker) = try await streaming("measure int, state text, count int", Self.owned, row: "5, '', 1")
        let known = "SELECT string_agg(concat_ws(' ', id, measure, count), ',' ORDER BY id) FROM public.visits"
        for extra in ["first", "second", "third"] {
            _ = try await pair.bot.execute("UPDATE public.visits SET measure = measure + 1, count = count + 1")
            try await pair.waitUntilEqual(known)
            _ = try await pair.sync.execute("ALTER TABLE public.visits ADD COLUMN \(extra) int DEFAULT 7")
            _ = try await pair.bot.execute("UPDATE public.visits SET measure = measure + 1, count = count + 1")
            try await pair.waitUntilEqual(known)
        }
        #expect(try await pair.values("SELECT concat_ws(' ', measure, count) FROM public.visits") == ["11 7", "11 7"])
        #expect(lives(worker) == 1 && !worker.errors.contains("lost a stream"), "\(worker.errors)")
        try await end(pair, worker)
    }

    /// A domain and an enum have other OIDs on each side, and the same bytes.
    @Test func columnsOfDomainsAndEnumsLeaveTheStreamsBinary() async throws {
        let schema = """
            CREATE DOMAIN public.code AS text; CREATE DOMAIN public.amount AS int; CREATE DOMAIN public.sum AS public.amount;
            CREATE TYPE public.mood AS ENUM ('low', 'high');
            CREATE TABLE public.visits (
              id public.code PRIMARY KEY, measure public.amount, feeling public.mood, state text, best public.mood, count public.sum);
            CREATE TABLE public.notes (id public.amount PRIMARY KEY, n public.sum, m public.mood);
            ALTER TABLE public.visits REPLICA IDENTITY FULL; ALTER TABLE public.notes REPLICA IDENTITY FULL;
            """
        let tables = Self.owned.replacingOccurrences(of: "[measure]", with: "[measure, feeling]")
            .replacingOccurrences(of: "shared:", with: "shared:\n        best: { policy: max }")
            + "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: '*' } }\n"
        let pair = try await SplitPair(schema: schema, tables: tables)
        let worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("INSERT INTO public.visits SELECT 'c' || n, n, 'low', NULL, 'low', n FROM generate_series(1, 20) n")
        _ = try await pair.bot.execute("INSERT INTO public.notes SELECT n, -n, 'high' FROM generate_series(1, 2000) n")
        try await pair.waitUntilEqual(Self.all)
        for (side, column) in [(pair.bot, "measure = -measure, feeling = 'high'"), (pair.sync, "state = 'sent', best = 'high'")] {
            _ = try await side.execute("UPDATE public.visits SET \(column), count = count + 100")
        }
        let sums = "SELECT concat_ws(' ', sum(measure::int), sum(count::int), count(state), min(best), min(feeling)) FROM public.visits"
        try await waitUntil("both have both") { try await pair.values(sums) == Array(repeating: "-210 4210 20 high high", count: 2) }
        let notes = "SELECT concat_ws(' ', count(*), sum(n::int), min(m)) FROM public.notes"
        try await waitUntil("all notes are there") { try await pair.values(notes) == Array(repeating: "2000 -2001000 high", count: 2) }
        #expect(worker.errors.contains("format=binary") && !worker.errors.contains("format=text"), "\(worker.errors)")
        #expect(lives(worker) == 1, "\(worker.errors)")
        try await end(pair, worker)
    }
}
