import PostgresClient
import TestSupport
import Testing

/// A change that the target refuses, where the table lets the stream go on.
@Suite struct QuarantineTests {
    static let schema =
        "CREATE TYPE public.mood AS ENUM ('ok', 'sad'); CREATE TABLE public.guest (id int PRIMARY KEY, name text, m public.mood);"

    private func makePair(onError: String) async throws -> GuestPair {
        try await GuestPair(
            schema: Self.schema,
            targetSchema: Self.schema + "ALTER TABLE public.guest ADD CONSTRAINT nobody_bad CHECK (name <> 'bad')",
            rule: "on_error: \(onError), columns: { bot: \"*\" }")
    }

    @Test func refusedChangesWaitForAPersonAndTheRestGoesOn() async throws {
        let pair = try await makePair(onError: "quarantine")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute(
            "BEGIN; INSERT INTO public.guest VALUES (1, 'Ana', 'ok'), (2, 'bad', 'sad'), (3, 'Eva', NULL); COMMIT")
        _ = try await pair.target.execute("SELECT 1")
        _ = try await pair.source.execute("UPDATE public.guest SET name = 'bad' WHERE id = 3; INSERT INTO public.guest VALUES (4, 'Ida', 'ok')")
        try await waitUntil("what can be applied is") { try await pair.ids() == "1,3,4" }
        let list = try await pair.quarantine("list")
        #expect(list.exitCode == 3)
        #expect(list.output.contains("insert guest") && list.output.contains("update guest"))
        #expect(list.output.contains("nobody_bad"))
        let status = try await pair.command(["status"])
        #expect(status.output.contains("quarantine: 2 changes that sync refused") && status.output.contains("Next: lindero quarantine list"))
        #expect(!worker.errors.contains("bad,") && !list.output.contains("'bad'"))
        // Values show only when asked.
        let hidden = try await pair.quarantine("show", "1")
        #expect(hidden.exitCode == 0)
        #expect(hidden.output.contains("new.name = (hidden") && !hidden.output.contains("= bad"))
        let shown = try await pair.quarantine("show", "1", "--show-values")
        #expect(shown.output.contains("new.id = 2") && shown.output.contains("new.name = bad") && shown.output.contains("new.m = sad"))
        // Still refused: it stays where it is.
        let refused = try await pair.quarantine("retry", "1")
        #expect(refused.exitCode == 1)
        #expect(refused.errors.contains("still refused"))
        _ = try await pair.target.execute("ALTER TABLE public.guest DROP CONSTRAINT nobody_bad")
        #expect(try await pair.quarantine("retry", "1", "2").exitCode == 0)
        let sum = "SELECT string_agg(g::text, ';' ORDER BY id) FROM public.guest g"
        #expect(try await pair.target.execute(sum).firstValue == pair.source.execute(sum).firstValue)
        #expect(try await pair.quarantine("retry", "1").exitCode == 2)
        let empty = try await pair.quarantine("list")
        #expect(empty.exitCode == 0)
        #expect(empty.output.contains("Nothing is in quarantine."))
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    @Test func whatIsGivenUpStaysOnRecordAndARestartSetsNothingAsideTwice() async throws {
        let pair = try await makePair(onError: "quarantine")
        let first = try pair.run()
        try await first.waitForErrors("streaming")
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (1, 'bad', 'ok'); INSERT INTO public.guest VALUES (2, 'Eva', 'ok')")
        try await waitUntil("the rest went on") { try await pair.ids() == "2" }
        first.kill9()
        _ = try await first.wait()
        // A row that is not there is refused as well.
        _ = try await pair.source.execute("DELETE FROM public.guest WHERE id = 1; INSERT INTO public.guest VALUES (3, 'Ida', 'ok')")
        let second = try pair.run()
        try await waitUntil("it goes on") { try await pair.ids() == "2,3" }
        #expect(try await pair.target.execute("SELECT count(*) FROM lindero.quarantine").firstValue == "2")
        #expect(try await pair.quarantine("discard", "1", "2").exitCode == 0)
        let all = try await pair.quarantine("list", "--all", "--json")
        #expect(all.exitCode == 0)
        #expect(all.output.components(separatedBy: "\"discarded\"").count == 3)
        #expect(try await pair.quarantine("discard", "99").exitCode == 2)
        second.terminate()
        #expect(try await second.wait() == 0)
        try await pair.remove()
    }

    /// The target asks at a transaction's end whether a row is 'bad', and for the whole of it whether two are 'half'.
    private static let late = """
        CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF EXISTS (SELECT 1 FROM public.guest WHERE id = NEW.id AND name = 'bad')
            OR (SELECT count(*) FROM public.guest WHERE name = 'half') = 1
          THEN RAISE check_violation USING MESSAGE = 'at the end', CONSTRAINT = 'late'; END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON public.guest DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION public.look();
        ALTER TABLE public.guest ENABLE ALWAYS TRIGGER late;
        """

    /// What is wrong for a while only is not what is set aside.
    @Test func aChangeThatIsRefusedAtTheCommitIsFoundAndTheRestGoesOn() async throws {
        let pair = try await GuestPair(
            schema: Self.schema, targetSchema: Self.schema + Self.late, rule: "on_error: quarantine, columns: { bot: \"*\" }")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute(
            """
            BEGIN; INSERT INTO public.guest VALUES (1, 'bad', 'ok'); UPDATE public.guest SET name = 'Ana' WHERE id = 1;
            INSERT INTO public.guest VALUES (2, 'half', 'ok'); INSERT INTO public.guest VALUES (3, 'half', 'ok');
            INSERT INTO public.guest VALUES (4, 'bad', 'sad'); INSERT INTO public.guest SELECT i, 'Ida', 'ok' FROM generate_series(5, 30) i;
            COMMIT
            """)
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (31, 'last', 'ok')")
        try await waitUntil("the rest went on") { try await name(31, on: pair) == "last" }
        let sum = "SELECT string_agg(g::text, ';' ORDER BY id) FROM public.guest g WHERE id <> 4"
        #expect(try await pair.target.execute(sum).firstValue == pair.source.execute(sum).firstValue)
        let list = try await pair.quarantine("list")
        #expect(list.exitCode == 3)
        #expect(list.output.components(separatedBy: "insert guest").count == 2, "\(list.output)")
        let id = try #require(try await pair.target.execute("SELECT min(id) FROM lindero.quarantine").firstValue)
        let shown = try await pair.quarantine("show", id, "--show-values")
        #expect(shown.output.contains("new.id = 4") && shown.output.contains("change 4"), "\(shown.output)")
        let refused = try await pair.quarantine("retry", id)
        #expect(refused.exitCode == 1)
        #expect(refused.errors.contains("still refused"), "\(refused.errors)")
        _ = try await pair.target.execute("DROP TRIGGER late ON public.guest")
        #expect(try await pair.quarantine("retry", id).exitCode == 0)
        #expect(try await name(4, on: pair) == "bad")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    /// The same in a transaction that is larger than the worker's memory, and comes while it runs.
    @Test func whatALargeTransactionIsRefusedForAtItsCommitIsFound() async throws {
        let pair = try await GuestPair(
            schema: Self.schema
                + "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET logical_decoding_work_mem = ''64kB''', current_database()); END $$",
            targetSchema: Self.schema + """
                CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                  IF NEW.name = 'bad' THEN RAISE check_violation USING MESSAGE = 'at the end', CONSTRAINT = 'late'; END IF; RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.guest DEFERRABLE INITIALLY DEFERRED
                  FOR EACH ROW EXECUTE FUNCTION public.look();
                ALTER TABLE public.guest ENABLE ALWAYS TRIGGER late;
                """,
            rule: "on_error: quarantine, columns: { bot: \"*\" }", ddl: "pause, streaming: \"on\", memory_limit: 16MB")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute(
            """
            INSERT INTO public.guest SELECT i, CASE i WHEN 1000 THEN 'bad' ELSE repeat(md5(i::text), 500) END, 'ok' FROM generate_series(1, 1500) i
            """)
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (1501, 'last', 'ok')")
        try await waitUntil("the rest went on", timeoutSeconds: 60) { try await name(1_501, on: pair) == "last" }
        let streamed = try await pair.source.query(
            "SELECT max(stream_txns)::text FROM pg_stat_replication_slots s JOIN pg_replication_slots r USING (slot_name) WHERE database = current_database()")
        #expect(Int(streamed.firstValue ?? "") ?? 0 > 0)
        let sum = "SELECT count(*) || ' ' || sum(hashtext(g::text)::bigint) FROM public.guest g WHERE id <> 1000"
        #expect(try await pair.target.execute(sum).firstValue == pair.source.execute(sum).firstValue)
        #expect(try await name(1_000, on: pair) == nil)
        let list = try await pair.quarantine("list")
        #expect(list.exitCode == 3)
        #expect(list.output.components(separatedBy: "insert guest").count == 2, "\(list.output)")
        let id = try #require(try await pair.target.execute("SELECT min(id) FROM lindero.quarantine").firstValue)
        let shown = try await pair.quarantine("show", id, "--show-values")
        #expect(shown.output.contains("new.id = 1000") && shown.output.contains("change 999"), "\(shown.output)")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    func name(_ id: Int, on pair: GuestPair) async throws -> String? {
        try await pair.target.execute("SELECT name FROM public.guest WHERE id = \(id)").firstValue
    }

    /// Rows 1 to 4 are there, and `sql` has brought so many changes into quarantine.
    private func makeRefused(_ count: Int, by sql: [String]) async throws -> (GuestPair, RunningLindero) {
        let pair = try await makePair(onError: "quarantine")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute("INSERT INTO public.guest SELECT i, 'Ana', 'ok' FROM generate_series(1, 4) i")
        for (number, text) in sql.enumerated() {
            _ = try await pair.source.execute(text)
            // One after the other: in one group they would net out.
            _ = try await pair.source.execute("INSERT INTO public.guest VALUES (\(100 + number), 'last', 'ok')")
            try await waitUntil("it went on") { try await name(100 + number, on: pair) == "last" }
        }
        #expect(try await pair.target.execute("SELECT count(*) FROM lindero.quarantine").firstValue == "\(count)")
        _ = try await pair.target.execute("ALTER TABLE public.guest DROP CONSTRAINT nobody_bad")
        return (pair, worker)
    }

    @Test(arguments: [
        [
            "UPDATE public.guest SET name = 'bad' WHERE id = 1", "UPDATE public.guest SET name = 'newer' WHERE id = 1",
            "UPDATE public.guest SET name = 'bad' WHERE id = 2",
        ],
        // In one transaction; without the last it would be netted, and nothing refused.
        [
            "BEGIN; UPDATE public.guest SET name = 'bad' WHERE id = 1; UPDATE public.guest SET name = 'newer' WHERE id = 1;"
                + "UPDATE public.guest SET name = 'bad' WHERE id = 2; COMMIT"
        ],
    ])
    func aRowThatIsNewerIsNotWrittenOver(sql: [String]) async throws {
        let (pair, worker) = try await makeRefused(2, by: sql)
        // Numbers of attempts that were taken back are left out.
        let id = try #require(try await pair.target.execute("SELECT min(id) FROM lindero.quarantine").firstValue)
        let refused = try await pair.quarantine("retry", id)
        #expect(refused.exitCode == 2)
        #expect(refused.errors.contains("was written after") && refused.errors.contains("verify --repair"), "\(refused.errors)")
        #expect(try await name(1, on: pair) == "newer")
        #expect(try await pair.quarantine("list").exitCode == 3)
        // A second try knows as much.
        #expect(try await pair.quarantine("retry", id).exitCode == 2)
        #expect(try await pair.quarantine("retry", "--force", id).exitCode == 0)
        #expect(try await name(1, on: pair) == "bad")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    /// The third write of row 1 is begun on the target before a unique key refuses it: what that leaves in the row tells nothing of age.
    @Test func aRowThatIsNewerIsKnownAlsoWhereAFurtherUpdateWasTakenBack() async throws {
        let unique = "ALTER TABLE public.guest ADD CONSTRAINT alone EXCLUDE (m WITH =) WHERE (name = 'twice')"
        let pair = try await GuestPair(
            schema: Self.schema, targetSchema: Self.schema + "ALTER TABLE public.guest ADD CONSTRAINT nobody_bad CHECK (name <> 'bad');" + unique,
            rule: "on_error: quarantine, columns: { bot: \"*\" }")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute(
            "INSERT INTO public.guest SELECT i, CASE WHEN i = 9 THEN 'twice' ELSE 'Ana' END, 'ok' FROM generate_series(1, 9) i")
        try await waitUntil("they are there") { try await name(9, on: pair) == "twice" }
        // Runs of one, two and four changes: the refused one and the newer one are in the third, the last write is in the fourth.
        func update(_ id: Int, _ name: String) -> String { "UPDATE public.guest SET name = '\(name)' WHERE id = \(id);" }
        _ = try await pair.source.execute(
            "BEGIN;" + update(2, "a") + update(3, "b") + update(4, "c") + update(1, "bad") + update(1, "newer") + update(5, "d")
                + update(6, "e") + update(1, "twice") + "COMMIT; INSERT INTO public.guest VALUES (100, 'last', 'ok')")
        try await waitUntil("it went on") { try await name(100, on: pair) == "last" }
        #expect(try await pair.target.execute("SELECT count(*) FROM lindero.quarantine").firstValue == "2")
        #expect(try await name(1, on: pair) == "newer")
        _ = try await pair.target.execute("ALTER TABLE public.guest DROP CONSTRAINT nobody_bad, DROP CONSTRAINT alone")
        let ids = try await pair.target.execute("SELECT min(id), max(id) FROM lindero.quarantine").rows[0]
        let refused = try await pair.quarantine("retry", ids[0] ?? "")
        #expect(refused.exitCode == 2 && refused.errors.contains("was written after"), "\(refused.output)\(refused.errors)")
        #expect(try await name(1, on: pair) == "newer")
        #expect(try await pair.quarantine("retry", ids[1] ?? "").exitCode == 0)
        #expect(try await name(1, on: pair) == "twice")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    @Test func inOrderAllIsAppliedAndOutOfOrderNothingOldIs() async throws {
        let (pair, worker) = try await makeRefused(
            6,
            by: [
                // What came before in the same transaction is older.
                "BEGIN; UPDATE public.guest SET name = 'Eva' WHERE id = 1; UPDATE public.guest SET name = 'bad', m = 'ok' WHERE id = 1; COMMIT",
                "UPDATE public.guest SET name = 'bad', m = 'sad' WHERE id = 1",
                "UPDATE public.guest SET name = 'bad', m = 'ok' WHERE id = 2", "UPDATE public.guest SET name = 'bad', m = 'sad' WHERE id = 2",
                "INSERT INTO public.guest VALUES (5, 'bad', 'ok')", "DELETE FROM public.guest WHERE id = 5",
            ])
        #expect(try await pair.quarantine("retry", "1", "2").exitCode == 0)
        let mood = "SELECT string_agg(m::text, ',' ORDER BY id) FROM public.guest WHERE id < 3"
        #expect(try await pair.target.execute(mood).firstValue == "sad,ok")
        #expect(try await pair.quarantine("retry", "4").exitCode == 0)
        #expect(try await pair.quarantine("retry", "3").exitCode == 2)
        #expect(try await pair.target.execute(mood).firstValue == "sad,sad")
        // Its row is to be gone.
        #expect(try await pair.quarantine("discard", "6").exitCode == 0)
        let late = try await pair.quarantine("retry", "5")
        #expect(late.exitCode == 2)
        #expect(late.errors.contains("change 6 of the same row came after it and is discarded"), "\(late.errors)")
        #expect(try await name(5, on: pair) == nil)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    /// Refused at the end, each of them takes another pass over their transaction.
    @Test func manyThatOneTransactionIsRefusedForAtItsEndAreWarnedOf() async throws {
        let pair = try await GuestPair(
            schema: Self.schema, targetSchema: Self.schema + Self.late, rule: "on_error: quarantine, columns: { bot: \"*\" }")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute(
            "INSERT INTO public.guest SELECT i, CASE WHEN i < 10 THEN 'bad' ELSE 'Ana' END, 'ok' FROM generate_series(1, 20) i")
        try await waitUntil("the rest is there", timeoutSeconds: 60) { try await name(20, on: pair) == "Ana" }
        #expect(!worker.errors.contains("many changes of one transaction"))
        _ = try await pair.source.execute("INSERT INTO public.guest SELECT i, 'bad', 'ok' FROM generate_series(21, 31) i")
        try await worker.waitForErrors("many changes of one transaction")
        try await waitUntil("all are set aside", timeoutSeconds: 60) {
            try await pair.target.execute("SELECT count(*) FROM lindero.quarantine").firstValue == "20"
        }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    /// One pass meets the first, the next all others; what came between them is applied in order.
    @Test func manyRefusedChangesOfOneTransactionTakeOnePass() async throws {
        let pair = try await makePair(onError: "quarantine")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute("INSERT INTO public.guest SELECT i, 'old', 'ok' FROM generate_series(5001, 5010) i")
        try await waitUntil("the first are there") { try await name(5_010, on: pair) == "old" }
        _ = try await pair.target.execute("DELETE FROM public.guest WHERE id IN (5003, 5004)")
        let starts = worker.errors.components(separatedBy: "streaming").count
        _ = try await pair.source.execute(
            """
            BEGIN; INSERT INTO public.guest SELECT i, CASE WHEN i % 20 = 0 OR i BETWEEN 100 AND 120 THEN 'bad' ELSE 'Ana' || i END, 'sad'
              FROM generate_series(1, 4000) i;
            UPDATE public.guest SET name = 'new' WHERE id > 5000; UPDATE public.guest SET name = name || '!' WHERE id % 7 = 0 AND name <> 'bad';
            COMMIT; INSERT INTO public.guest VALUES (6000, 'last', 'ok')
            """)
        try await waitUntil("the rest went on", timeoutSeconds: 60) { try await name(6_000, on: pair) == "last" }
        // 219 inserts, two updates of rows that are not there, and once more of those that 'bad' left out.
        let refused = try await pair.source.query(
            "SELECT (count(*) FILTER (WHERE name = 'bad') + 2 + count(*) FILTER (WHERE id IN (5003, 5004) AND name LIKE '%!'))::text FROM public.guest")
        #expect(try await pair.target.execute("SELECT count(*) FROM lindero.quarantine").firstValue == refused.firstValue)
        #expect(
            try await pair.target.execute("SELECT bool_and(p) FROM (SELECT position > lag(position, 1, -1::bigint) OVER (ORDER BY id) p FROM lindero.quarantine) q")
                .firstValue == "t")
        let sum = "SELECT count(*) || ' ' || sum(hashtext(g::text)::bigint) FROM public.guest g WHERE name <> 'bad' AND id NOT IN (5003, 5004)"
        #expect(try await pair.target.execute(sum).firstValue == pair.source.execute(sum).firstValue)
        #expect(worker.errors.components(separatedBy: "streaming").count == starts + 1, "it streamed anew once, for the first of them")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    /// What was set aside in the pass goes with it: the transaction comes again, whole, when the other table's wrong is mended.
    @Test func aTableThatStopsNamesItsChangeAndNothingOfTheTransactionIsKept() async throws {
        let schema = Self.schema + "CREATE TABLE public.bill (id int PRIMARY KEY, sum int);"
        let pair = try await GuestPair(
            schema: schema,
            targetSchema: schema + "ALTER TABLE public.guest ADD CONSTRAINT nobody_bad CHECK (name <> 'bad');"
                + "ALTER TABLE public.bill ADD CONSTRAINT positive CHECK (sum > 0)",
            rule: "on_error: quarantine, columns: { bot: \"*\" }")
        try pair.append("  bill: { insert: bot, delete: bot, columns: { bot: \"*\" } }")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute(
            """
            BEGIN; INSERT INTO public.guest SELECT i, CASE WHEN i % 3 = 0 THEN 'bad' ELSE 'Ana' END, 'ok' FROM generate_series(1, 30) i;
            INSERT INTO public.bill VALUES (1, 5), (2, -5); INSERT INTO public.guest VALUES (31, 'bad', 'ok'); COMMIT
            """)
        #expect(try await worker.wait() == 1)
        #expect(worker.errors.contains("insert on bill") && worker.errors.contains("positive"), "\(worker.errors)")
        #expect(try await pair.target.execute("SELECT (SELECT count(*) FROM lindero.quarantine) + (SELECT count(*) FROM public.guest)").firstValue == "0")
        _ = try await pair.target.execute("ALTER TABLE public.bill DROP CONSTRAINT positive")
        let next = try pair.run()
        try await waitUntil("it goes on") { try await pair.target.execute("SELECT count(*) FROM public.bill").firstValue == "2" }
        #expect(try await pair.target.execute("SELECT count(*) FROM lindero.quarantine").firstValue == "11")
        #expect(try await pair.target.execute("SELECT count(*) FROM public.guest").firstValue == "20")
        next.terminate()
        #expect(try await next.wait() == 0)
        try await pair.remove()
    }

    /// What waits since the databases were a replica is seen and given up as before; applied it is no more.
    @Test(arguments: [("split", "A split applies no change"), ("shared", "Nothing is applied to sync")])
    func inAnotherBackendWhatWaitsIsListedAndGivenUp(backend: String, why: String) async throws {
        let (pair, worker) = try await makeRefused(1, by: ["INSERT INTO public.guest VALUES (5, 'bad', 'ok')"])
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try pair.write(rule: "on_error: quarantine, match: [id], columns: { bot: \"*\" }", backend: backend)
        let list = try await pair.quarantine("list")
        #expect(list.exitCode == 3)
        #expect(list.output.contains("insert guest"), "\(list.output)\(list.errors)")
        let status = try await pair.command(["status"])
        #expect(status.output.contains("quarantine: 1 change that sync refused"), "\(status.output)\(status.errors)")
        let id = try #require(try await pair.target.execute("SELECT min(id) FROM lindero.quarantine").firstValue)
        let shown = try await pair.quarantine("show", id, "--show-values")
        #expect(shown.output.contains("new.name = bad"), "\(shown.output)\(shown.errors)")
        let retry = try await pair.quarantine("retry", id)
        #expect(retry.exitCode == 2)
        #expect(retry.errors.contains(why) && retry.errors.contains("lindero quarantine discard \(id)"), "\(retry.errors)")
        #expect(try await name(5, on: pair) == nil)
        #expect(try await pair.quarantine("discard", id).exitCode == 0)
        let empty = try await pair.quarantine("list")
        #expect(empty.exitCode == 0)
        #expect(empty.output.contains("Nothing is in quarantine."))
        try await pair.remove()
    }

    @Test func withoutThePermissionTheDirectionStopsBeforeTheTransaction() async throws {
        let pair = try await makePair(onError: "stop")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (1, 'Ana', 'ok')")
        _ = try await pair.source.execute("BEGIN; INSERT INTO public.guest VALUES (2, 'Eva', 'ok'), (3, 'bad', 'ok'); COMMIT")
        #expect(try await worker.wait() == 1)
        #expect(worker.errors.contains("insert on guest"))
        #expect(try await pair.ids() == "1")
        try await pair.remove()
    }
}

extension GuestPair {
    fileprivate func quarantine(_ arguments: String...) async throws -> LinderoProcess.Outcome {
        try await command(["quarantine"] + arguments)
    }

    fileprivate func ids() async throws -> String? {
        try await target.execute("SELECT string_agg(id::text, ',' ORDER BY id) FROM public.guest").firstValue
    }
}
