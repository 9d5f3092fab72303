import PostgresClient
import TestSupport
import Testing

/// Rows that are awkward to carry across: other unique keys, rows that come and go, values that stay behind.
@Suite struct SplitRowTests {
    private static func all(_ table: String) -> String {
        "SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY id), '') FROM public.\(table) t"
    }

    private func end(_ pair: SplitPair, _ worker: RunningLindero) async throws {
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    @Test func aRowKeepsItsOtherUniqueValuesWhenItsKeyChangesOrANewRowTakesThem() async throws {
        let pair = try await SplitPair(
            schema: """
                CREATE TABLE public.guests (id int PRIMARY KEY, email text NOT NULL UNIQUE, visits int NOT NULL DEFAULT 0, remark text);
                ALTER TABLE public.guests REPLICA IDENTITY FULL;
                """,
            tables: """
                  guests:
                    match: [id]
                    insert: bot
                    delete: bot
                    columns:
                      bot: [email]
                      sync: [remark]
                      shared:
                        visits: { policy: delta }

                """)
        _ = try await pair.bot.execute("INSERT INTO public.guests SELECT i, 'guest-' || i, 0 FROM generate_series(1, 9) i")
        let worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("UPDATE public.guests SET id = 101 WHERE id = 1")
        // Counters call for decisions one by one.
        _ = try await pair.bot.execute(
            "BEGIN; UPDATE public.guests SET visits = 5 WHERE id = 2; DELETE FROM public.guests WHERE id = 2;"
                + "INSERT INTO public.guests VALUES (102, 'guest-2', 7); UPDATE public.guests SET visits = 8 WHERE id = 102; COMMIT")
        try await pair.waitUntilEqual(Self.all("guests"), timeoutSeconds: 20)
        #expect(try await pair.values("SELECT string_agg(email, ',' ORDER BY id) FROM public.guests WHERE id > 100") == Array(repeating: "guest-1,guest-2", count: 2))
        try await end(pair, worker)
    }

    /// Unique where its owner writes it, as `check` asks for; a unique index on the other side would refuse what arrives.
    @Test func aUniqueValueIsPassedOnWhileTheOtherSideChangesItsRowsKey() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.guests (id int PRIMARY KEY, email text UNIQUE); ALTER TABLE public.guests REPLICA IDENTITY FULL;",
            tables: """
                  guests:
                    match: [id]
                    insert: [bot, sync]
                    delete: [bot, sync]
                    columns:
                      bot: [id]
                      sync: [email]

                """)
        let blocked = try await pair.command(["check"])
        #expect(blocked.exitCode == 2 && blocked.output.contains("gives its unique [email] to another row"), "\(blocked.output)")
        _ = try await pair.bot.execute("ALTER TABLE public.guests DROP CONSTRAINT guests_email_key")
        _ = try await pair.bot.execute("INSERT INTO public.guests SELECT i, 'guest-' || i FROM generate_series(1, 9) i")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all("guests"))
        worker.kill9()
        _ = try await worker.wait()
        // Passed on by an update, by a delete, and by a row that merges with the one whose key changes onto it.
        _ = try await pair.bot.execute("UPDATE public.guests SET id = id + 100 WHERE id IN (1, 3, 5)")
        _ = try await pair.sync.execute("UPDATE public.guests SET email = 'new-1' WHERE id = 1")
        _ = try await pair.sync.execute("UPDATE public.guests SET email = 'guest-1' WHERE id = 2")
        _ = try await pair.sync.execute("DELETE FROM public.guests WHERE id = 3")
        _ = try await pair.sync.execute("UPDATE public.guests SET email = 'guest-3' WHERE id = 4")
        _ = try await pair.sync.execute("INSERT INTO public.guests VALUES (105, 'new-105')")
        _ = try await pair.sync.execute("UPDATE public.guests SET email = NULL WHERE id = 5")
        _ = try await pair.sync.execute("UPDATE public.guests SET email = 'guest-5' WHERE id = 6")
        worker = try await pair.startStreaming()
        let found = """
            SELECT string_agg(id || ':' || coalesce(email, '-'), ',' ORDER BY id) FROM public.guests WHERE id IN (101, 103, 105, 2, 4, 6, 7)
            """
        let expected = "2:guest-1,4:guest-3,6:guest-5,7:guest-7,101:new-1,103:-,105:new-105"
        try await waitUntil("both sides end alike") { try await pair.values(found) == [expected, expected] }
        try await pair.waitUntilEqual(Self.all("guests"))
        #expect(try await pair.values("SELECT count(*) FROM public.guests") == ["9", "9"])
        try await end(pair, worker)
    }

    @Test func aChangedKeyTakesLargeValuesAlongThatAreNotInTheStream() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.papers (id int PRIMARY KEY, body text NOT NULL, remark text);",
            tables: """
                  papers:
                    match: [id]
                    insert: bot
                    delete: bot
                    columns:
                      bot: [body]
                      sync: [remark]

                """)
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.papers ALTER body SET STORAGE EXTERNAL") }
        _ = try await pair.sync.execute("ALTER TABLE public.papers REPLICA IDENTITY FULL")
        _ = try await pair.bot.execute("INSERT INTO public.papers SELECT i, repeat('x', 9000) FROM generate_series(1, 9) i")
        let worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("UPDATE public.papers SET id = 101 WHERE id = 1")
        try await pair.waitUntilEqual(Self.all("papers"), timeoutSeconds: 20)
        try await end(pair, worker)
    }

    /// The side that changes keys makes no rows, but where the other one has deleted the row, there is a new one.
    @Test func aChangedKeyOfADeletedRowMakesOneWithTheFillOfItsOwner() async throws {
        func tables(_ fill: String) -> String {
            """
              rooms:
                match: [id]
                insert: sync
                delete: sync
                \(fill)
                columns:
                  bot: [id, remark]
                  sync: [floor]

            """
        }
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.rooms (id int PRIMARY KEY, remark text, floor text NOT NULL); ALTER TABLE public.rooms REPLICA IDENTITY FULL;", tables: tables(""))
        _ = try await pair.bot.execute("INSERT INTO public.rooms VALUES (1, 'a', 'ground'), (2, 'b', 'first')")
        var worker = try pair.run()
        #expect(try await worker.wait() == 2, "\(worker.errors)")
        #expect(worker.errors.contains("\"floor\" of rooms does not travel here, is NOT NULL"), "\(worker.errors)")
        try pair.write(tables: tables("fill: { floor: unknown }"))
        worker = try await pair.startStreaming()
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute("UPDATE public.rooms SET id = 11 WHERE id = 1")
        _ = try await pair.sync.execute("DELETE FROM public.rooms WHERE id = 1")
        worker = try await pair.startStreaming()
        try await waitUntil("the new row is everywhere") {
            try await pair.values("SELECT string_agg(r::text, ' ' ORDER BY id) FROM public.rooms r")
                == Array(repeating: "(2,b,first) (11,a,unknown)", count: 2)
        }
        try await end(pair, worker)
    }

    @Test func aRowThatOneSideMadeAndDeletedIsGoneThoughTheOtherMadeItToo() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.notes (id int PRIMARY KEY, mine text, theirs text); ALTER TABLE public.notes REPLICA IDENTITY FULL;",
            tables: """
                  notes:
                    match: [id]
                    insert: [bot, sync]
                    delete: [bot, sync]
                    columns:
                      bot: [mine]
                      sync: [theirs]

                """)
        var worker = try await pair.startStreaming()
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute("BEGIN; INSERT INTO public.notes VALUES (1, 'bot'); DELETE FROM public.notes WHERE id = 1; COMMIT")
        _ = try await pair.sync.execute("INSERT INTO public.notes VALUES (1, NULL, 'sync')")
        worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("INSERT INTO public.notes VALUES (2, 'last')")
        _ = try await pair.sync.execute("INSERT INTO public.notes VALUES (3, NULL, 'last')")
        try await waitUntil("both directions have come to the end") {
            try await pair.values("SELECT count(*) FROM public.notes WHERE id > 1") == ["2", "2"]
        }
        try await pair.waitUntilEqual(Self.all("notes"), timeoutSeconds: 10)
        #expect(try await pair.values("SELECT count(*) FROM public.notes WHERE id = 1") == ["0", "0"])
        try await end(pair, worker)
    }

    @Test func aWriteOfARowThatIsNotThereIsRecordedAlsoWhereRowsGoOneByOne() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.tags (id int PRIMARY KEY, words text[], remark text); ALTER TABLE public.tags REPLICA IDENTITY FULL;",
            tables: """
                  tags:
                    match: [id]
                    insert: bot
                    delete: bot
                    columns:
                      bot: [words]
                      sync: [remark]

                """)
        _ = try await pair.bot.execute("INSERT INTO public.tags SELECT i, ARRAY['a', 'b'] FROM generate_series(1, 9) i")
        var worker = try await pair.startStreaming()
        worker.kill9()
        _ = try await worker.wait()
        // As if Lindero had done it: no history knows why the row is gone.
        let origin = try await pair.sync.execute("SELECT roname FROM pg_replication_origin WHERE roname LIKE 'lindero_' || "
            + "(SELECT oid FROM pg_database WHERE datname = current_database()) || '_%'").firstValue ?? ""
        try await waitUntil("the worker's session is gone") {
            (try? await pair.sync.execute("SELECT pg_replication_origin_session_setup('\(origin)')")) != nil
        }
        _ = try await pair.sync.execute("DELETE FROM public.tags WHERE id = 1")
        _ = try await pair.sync.execute("SELECT pg_replication_origin_session_reset()")
        worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("UPDATE public.tags SET words = ARRAY['c'] WHERE id = 1")
        _ = try await pair.bot.execute("UPDATE public.tags SET words = ARRAY['d'] WHERE id = 2")
        try await waitUntil("the next change is there", timeoutSeconds: 20) {
            try await pair.sync.execute("SELECT 1 FROM public.tags WHERE id = 2 AND words = ARRAY['d']").rowCount == 1
        }
        #expect(try await pair.sync.execute("SELECT string_agg(policy, ',') FROM lindero.conflict").firstValue == "row_missing")
        try await end(pair, worker)
    }

    @Test func moreKindsOfStatementsThanASessionKeepsAreNoProblem() async throws {
        let counters = (0..<10).map { "c\($0)" }
        let pair = try await SplitPair(
            schema: """
                CREATE TABLE public.rooms (id int PRIMARY KEY, name text, remark text,
                  \(counters.map { "\($0) int NOT NULL DEFAULT 0" }.joined(separator: ", ")));
                ALTER TABLE public.rooms REPLICA IDENTITY FULL;
                """,
            tables: """
                  rooms:
                    match: [id]
                    insert: bot
                    delete: bot
                    columns:
                      bot: [name]
                      sync: [remark]
                      shared:
                \(counters.map { "        \($0): { policy: delta }" }.joined(separator: "\n"))

                """)
        _ = try await pair.bot.execute("INSERT INTO public.rooms SELECT i FROM generate_series(1, 9) i")
        let worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("UPDATE public.rooms SET name = 'first' WHERE id = 1")
        try await pair.waitUntilEqual(Self.all("rooms"))
        for subset in 1..<600 {
            let sets = counters.indices.filter { subset >> $0 & 1 == 1 }.map { "c\($0) = c\($0) + 1" }
            _ = try await pair.bot.execute("UPDATE public.rooms SET \(sets.joined(separator: ", ")) WHERE id = 2")
        }
        try await pair.waitUntilEqual(Self.all("rooms"))
        _ = try await pair.bot.execute("UPDATE public.rooms SET name = 'last' WHERE id = 1")
        try await pair.waitUntilEqual(Self.all("rooms"), timeoutSeconds: 20)
        try await end(pair, worker)
    }
}
