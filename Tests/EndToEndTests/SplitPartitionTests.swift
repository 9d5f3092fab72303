import TestSupport
import Testing

@Suite struct SplitPartitionTests {
    private static let schema = """
        CREATE TABLE public.rooms (hotel text, id int, remark text, state text, PRIMARY KEY (hotel, id)) PARTITION BY LIST (hotel);
        CREATE TABLE public.rooms_a PARTITION OF public.rooms FOR VALUES IN ('a');
        CREATE TABLE public.rooms_b PARTITION OF public.rooms FOR VALUES IN ('b');
        CREATE TABLE public.lists (kind text, id int, remark text, note text, PRIMARY KEY (kind, id)) PARTITION BY LIST (kind);
        CREATE TABLE public.lists_a PARTITION OF public.lists FOR VALUES IN ('a');
        CREATE TABLE public.lists_b PARTITION OF public.lists FOR VALUES IN ('b');
        """
    private static let full = ["rooms", "rooms_a", "rooms_b", "lists", "lists_a", "lists_b"]
        .map { "ALTER TABLE public.\($0) REPLICA IDENTITY FULL;" }.joined()
    private static let tables = """
          rooms:
            match: [hotel, id]
            insert: bot
            delete: bot
            columns:
              bot: [hotel, id, remark]
              sync: [state]
          lists:
            match: [kind, id]
            insert: bot
            delete: bot
            private: [note]
            columns:
              bot: [kind, id, remark]
              sync: [note]

        """
    private static let rooms = "SELECT string_agg(r::text, E'\\n' ORDER BY hotel, id) FROM public.rooms r"

    /// In the stream each move is a delete and an insert, and the new row has nothing of what the other side alone knows.
    @Test func aRowThatMovesToAnotherPartitionKeepsWhatTheOtherSideOwns() async throws {
        let pair = try await SplitPair(schema: Self.schema + Self.full, tables: Self.tables)
        var worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("INSERT INTO public.rooms SELECT 'a', n, repeat('x', 500) FROM generate_series(1, 20000) n")
        _ = try await pair.bot.execute("INSERT INTO public.lists VALUES ('a', 1, 'r')")
        try await pair.waitUntilEqual(Self.rooms)
        try await waitUntil("both have the list") { try await pair.sync.execute("SELECT 1 FROM public.lists").rowCount == 1 }
        _ = try await pair.sync.execute("UPDATE public.rooms SET state = 'clean ' || id; UPDATE public.lists SET note = 'ours'")
        try await pair.waitUntilEqual(Self.rooms)

        _ = try await pair.bot.execute("UPDATE public.rooms SET hotel = 'b', remark = 'moved' WHERE id = 1")
        _ = try await pair.bot.execute("UPDATE public.lists SET kind = 'b'")
        try await pair.waitUntilEqual(Self.rooms)
        #expect(try await pair.values("SELECT state FROM public.rooms WHERE hotel = 'b'") == ["clean 1", "clean 1"])
        try await waitUntil("the list has moved, with its note") {
            try await pair.sync.execute("SELECT kind || note FROM public.lists").firstValue == "bours"
        }
        // More than is read at once.
        _ = try await pair.bot.execute("UPDATE public.rooms SET hotel = 'b' WHERE id > 10")
        try await pair.waitUntilEqual(Self.rooms)
        let kept = "SELECT count(*) FROM public.rooms WHERE hotel = 'b' AND state = 'clean ' || id"
        #expect(try await pair.values(kept) == ["19991", "19991"])

        // While neither knows of it: the owner's value goes along.
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        _ = try await pair.bot.execute("UPDATE public.rooms SET hotel = 'b' WHERE id = 2")
        _ = try await pair.sync.execute("UPDATE public.rooms SET state = 'dirty' WHERE id = 2")
        worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rooms)
        #expect(try await pair.values("SELECT hotel || state FROM public.rooms WHERE id = 2") == ["bdirty", "bdirty"])
        // It met a changed key, and is in the log although nothing is lost.
        #expect(try await pair.values("SELECT string_agg(column_name, ' ') FROM lindero.conflict") == ["state", nil])

        // And a row that goes goes.
        _ = try await pair.bot.execute("DELETE FROM public.rooms WHERE id = 3")
        try await pair.waitUntilEqual(Self.rooms)
        #expect(try await pair.values("SELECT count(*) FROM public.rooms") == ["19999", "19999"])
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
}
