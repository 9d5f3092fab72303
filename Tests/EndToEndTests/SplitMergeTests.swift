import PostgresClient
import TestSupport
import Testing

/// Values of both sides that meet in one column: who wins on real servers, and what the log says of it.
@Suite struct SplitMergeTests {
    private static let tables = """
          guests:
            match: [id]
            insert: bot
            delete: bot
            columns:
              bot: [remark]
              shared:
                low: { policy: min }
                high: { policy: max }
                price: { policy: max }
                least: { policy: min }
                name: { policy: max }

        """
    private static let schema = """
        CREATE TABLE public.guests (id int PRIMARY KEY, remark text, low int, high int, price numeric, least numeric, name text);
        ALTER TABLE public.guests REPLICA IDENTITY FULL;
        """
    private static let all = "SELECT string_agg(g::text, E'\\n' ORDER BY id) FROM public.guests g"

    private func last(_ pair: SplitPair) async throws {
        _ = try await pair.bot.execute("INSERT INTO public.guests (id) VALUES (100)")
        try await waitUntil("the last row is there") {
            try await pair.sync.execute("SELECT 1 FROM public.guests WHERE id = 100").rowCount == 1
        }
        try await pair.waitUntilEqual(Self.all, timeoutSeconds: 20)
    }

    /// What holds in either direction, and for equal values that do not look alike.
    @Test func theGreaterAndTheSmallerValueStandOnBothSides() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables)
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 'a', 4, 4, 4, 4, 'm'), (2, 'b', 4, 4, 4, 4, 'm')")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        worker.kill9()
        _ = try await worker.wait()
        let moment = "SELECT pg_current_wal_insert_lsn() || ' ' || extract(epoch FROM clock_timestamp())"
        let before = (try await pair.bot.execute(moment).firstValue, try await pair.sync.execute(moment).firstValue)
        _ = try await pair.bot.execute("UPDATE public.guests SET low = 3, high = 3, price = 10.0, least = 1.0, name = 'b' WHERE id = 1")
        _ = try await pair.bot.execute("UPDATE public.guests SET low = 5, high = 5, price = 10.00, least = 1.00, name = 'B' WHERE id = 2")
        let between = (try await pair.bot.execute(moment).firstValue, try await pair.sync.execute(moment).firstValue)
        _ = try await pair.sync.execute("UPDATE public.guests SET low = 5, high = 5, price = 10.00, least = 1.00, name = 'B' WHERE id = 1")
        _ = try await pair.sync.execute("UPDATE public.guests SET low = 3, high = 3, price = 10.0, least = 1.0, name = 'b' WHERE id = 2")
        let after = (try await pair.bot.execute(moment).firstValue, try await pair.sync.execute(moment).firstValue)
        worker = try await pair.startStreaming()
        try await last(pair)
        // Of equal ones the form of the greater name's database stays; texts are compared by their bytes.
        #expect(
            try await pair.values("SELECT string_agg(concat_ws(' ', low, high, price, least, name), ', ' ORDER BY id) FROM public.guests WHERE id < 3")
                == Array(repeating: "3 5 10.00 1.00 b, 3 5 10.0 1.0 b", count: 2))

        // Each loser once, where it arrived, with the commits of both.
        let logged = "SELECT string_agg(row_key ->> 'id' || ' ' || column_name || ' ' || lost_value, ', ' ORDER BY row_key ->> 'id', column_name)"
            + " FROM lindero.conflict"
        #expect(try await pair.bot.execute(logged).firstValue == "1 low 5, 1 name B, 2 high 3")
        #expect(try await pair.sync.execute(logged).firstValue == "1 high 3, 1 least 1.0, 1 price 10.0, 2 least 1.00, 2 low 5, 2 name B, 2 price 10.00")
        for (side, kept, lost) in [
            (pair.bot, (before.0, between.0), (between.1, after.1)), (pair.sync, (between.1, after.1), (before.0, between.0)),
        ] {
            func parts(_ moment: String?) -> [String] { (moment ?? "").split(separator: " ").map(String.init) }
            func holds(_ column: String, _ bounds: (String?, String?)) -> String {
                let (from, to) = (parts(bounds.0), parts(bounds.1))
                return "\(column)_lsn BETWEEN '\(from[0])' AND '\(to[0])' AND extract(epoch FROM \(column)_at) BETWEEN \(from[1]) AND \(to[1])"
            }
            let wrong = try await side.execute(
                "SELECT count(*) FILTER (WHERE (\(holds("kept", kept)) AND \(holds("lost", lost))) IS NOT TRUE) FROM lindero.conflict")
            #expect(wrong.firstValue == "0")
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    @Test func countersOfPartitionsAddUpAndAPartitionWithoutOldRowsStopsTheSplit() async throws {
        let pair = try await SplitPair(
            schema: """
                CREATE TABLE public.visits (id int PRIMARY KEY, remark text, count int NOT NULL DEFAULT 0) PARTITION BY RANGE (id);
                CREATE TABLE public.visits_low PARTITION OF public.visits FOR VALUES FROM (0) TO (100);
                ALTER TABLE public.visits REPLICA IDENTITY FULL; ALTER TABLE public.visits_low REPLICA IDENTITY FULL;
                """,
            tables: """
                  visits:
                    match: [id]
                    insert: bot
                    delete: bot
                    columns:
                      bot: [remark]
                      shared:
                        count: { policy: delta }

                """)
        let all = "SELECT string_agg(v::text, E'\\n' ORDER BY id) FROM public.visits v"
        _ = try await pair.bot.execute("INSERT INTO public.visits VALUES (1, 'a', 5)")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(all)
        for side in [pair.bot, pair.sync] { _ = try await side.execute("UPDATE public.visits SET count = count + 2 WHERE id = 1") }
        try await waitUntil("both have both") {
            try await pair.values("SELECT count FROM public.visits WHERE id = 1") == ["9", "9"]
        }
        // A new partition is not FULL because its table is.
        for side in [pair.bot, pair.sync] {
            _ = try await side.execute("CREATE TABLE public.visits_high PARTITION OF public.visits FOR VALUES FROM (100) TO (200)")
        }
        _ = try await pair.bot.execute("INSERT INTO public.visits VALUES (101, 'b', 5)")
        try await pair.waitUntilEqual(all)
        _ = try await pair.bot.execute("UPDATE public.visits SET remark = 'c' WHERE id = 101")
        #expect(try await worker.wait() == 2, "\(worker.errors)")
        #expect(worker.errors.contains("ALTER TABLE \"public\".\"visits_high\" REPLICA IDENTITY FULL"), "\(worker.errors)")
        #expect(!worker.errors.contains("\"visits_low\""))
        #expect(try await pair.values("SELECT count FROM public.visits WHERE id = 101") == ["5", "5"])
        let check = try await pair.command(["check"])
        #expect(check.exitCode == 2 && check.output.contains("ALTER TABLE \"public\".\"visits_high\" REPLICA IDENTITY FULL;"), "\(check)")
        await pair.remove()
    }

    @Test func whatASideGivesToItsOwnColumnsInTheOthersRowsComesBack() async throws {
        func schema(_ word: String) -> String {
            """
            DROP TABLE IF EXISTS public.guests; DROP DOMAIN IF EXISTS public.rank;
            CREATE DOMAIN public.rank AS int DEFAULT \(word == "bot" ? 7 : 8);
            CREATE TABLE public.guests (id int PRIMARY KEY, mine text, at timestamp DEFAULT LOCALTIMESTAMP, token text DEFAULT md5(random()::text),
              who text DEFAULT '\(word)', rank public.rank, state text);
            ALTER TABLE public.guests REPLICA IDENTITY FULL;
            """
        }
        for column in ["at", "token", "who", "rank", "state"] {
            let others = ["at", "token", "who", "rank", "state"].filter { $0 != column }
            let pair = try await SplitPair(
                schema: schema("bot"),
                tables: """
                      guests:
                        match: [id]
                        insert: bot
                        delete: bot
                        fill: \(column == "state" ? "{ state: new }" : "{}")
                        columns:
                          bot: [mine, \(others.joined(separator: ", "))]
                          sync: [\(column)]

                    """)
            _ = try await pair.sync.execute(schema("sync"))
            let worker = try await pair.startStreaming()
            _ = try await pair.bot.execute("INSERT INTO public.guests (id, mine) VALUES (1, 'a')")
            try await waitUntil("the row is there") { try await pair.sync.execute("SELECT 1 FROM public.guests").rowCount == 1 }
            let value = try await pair.sync.execute("SELECT \(column)::text FROM public.guests").firstValue
            #expect(value != nil)
            try await waitUntil("\(column) is back", timeoutSeconds: 20) {
                try await pair.bot.execute("SELECT \(column)::text FROM public.guests").firstValue == value
            }
            worker.terminate()
            #expect(try await worker.wait() == 0, "\(worker.errors)")
            await pair.remove()
        }
    }
}
