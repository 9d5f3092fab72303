import Foundation
import PostgresClient
import TestSupport
import Testing

/// What a split neither begins nor goes on with: `check` says it, and so does every start of the worker.
@Suite struct SplitStartTests {
    private static let schema = """
        CREATE TYPE public.mood AS ENUM ('low', 'mid', 'high');
        CREATE TABLE public.visits (id int PRIMARY KEY, remark text, mood public.mood);
        ALTER TABLE public.visits REPLICA IDENTITY FULL;
        INSERT INTO public.visits VALUES (1, 'first', 'low');
        """
    private static let tables = """
          visits:
            match: [id]
            insert: bot
            delete: bot
            columns:
              bot: [remark]
              shared:
                mood: { policy: max }

        """

    private func pair() async throws -> SplitPair { try await SplitPair(schema: Self.schema, tables: Self.tables) }

    /// `check` and `run` say the same.
    private func expectRefusal(_ pair: SplitPair, _ words: [String]) async throws {
        for command in [["check"], ["run", "--http", "none"]] {
            let outcome = try await pair.command(command)
            #expect(outcome.exitCode == 2, "\(command) \(outcome.output) \(outcome.errors)")
            for word in words { #expect((outcome.output + outcome.errors).contains(word), "\(command) \(outcome.output) \(outcome.errors)") }
        }
    }

    /// One that begins and ends in order.
    private func expectStart(_ pair: SplitPair) async throws {
        let worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    /// Before the split begins, and when it goes on.
    @Test func aTableThatOthersInheritFromIsRefusedAtEveryStart() async throws {
        let pair = try await pair()
        let words = ["sync: tables inherit from visits", "[old_visits]", "ALTER TABLE \"public\".\"old_visits\" NO INHERIT \"public\".\"visits\";"]
        let (inherit, mend) = ("CREATE TABLE public.old_visits () INHERITS (public.visits)", words[2])
        _ = try await pair.sync.execute("DELETE FROM public.visits; \(inherit)")
        try await expectRefusal(pair, words)
        _ = try await pair.sync.execute(mend)
        try await expectStart(pair)
        _ = try await pair.sync.execute("DROP TABLE public.old_visits; \(inherit)")
        try await expectRefusal(pair, words)
        _ = try await pair.sync.execute(mend)
        try await expectStart(pair)
        await pair.remove()
    }

    private func order(_ labels: String) -> String {
        """
        ALTER TABLE public.visits ALTER mood TYPE text; DROP TYPE public.mood; CREATE TYPE public.mood AS ENUM (\(labels));
        ALTER TABLE public.visits ALTER mood TYPE public.mood USING mood::public.mood
        """
    }

    /// Its values would be taken for others, by their place.
    @Test func aCompositeWhoseAttributesStandInAnotherOrderIsRefusedAtEveryStart() async throws {
        let pair = try await pair()
        let alter = { (attributes: String) in
            """
            ALTER TABLE public.visits ALTER remark TYPE text USING NULL; DROP TYPE IF EXISTS public.c; CREATE TYPE public.c AS (\(attributes));
            ALTER TABLE public.visits ALTER remark TYPE public.c USING NULL
            """
        }
        _ = try await pair.bot.execute(alter("a int, b int"))
        _ = try await pair.sync.execute("DELETE FROM public.visits; " + alter("b int, a int"))
        try await expectRefusal(pair, ["public.c of ", #"("b" integer, "a" integer)"#])
        _ = try await pair.sync.execute(alter("a int, b int"))
        try await expectStart(pair)
        _ = try await pair.sync.execute(alter("b int, a int"))
        try await expectRefusal(pair, ["public.c of ", #"("b" integer, "a" integer)"#, #"("a" integer, "b" integer)"#, "lindero check"])
        await pair.remove()
    }

    /// Of two values that meet each side would take another one.
    @Test func anEnumWhoseLabelsStandInAnotherOrderIsRefusedForMaxAndMin() async throws {
        let pair = try await pair()
        let words = ["policy max of visits.mood", "'mid' comes before 'high' on bot, and after it on sync"]
        _ = try await pair.sync.execute("DELETE FROM public.visits; " + order("'low', 'high', 'mid'"))
        try await expectRefusal(pair, words + ["last_write"])
        // What one side alone has does not count.
        _ = try await pair.sync.execute(order("'none', 'low', 'mid', 'more', 'high'"))
        try await expectStart(pair)
        _ = try await pair.sync.execute(order("'low', 'high', 'mid'"))
        try await expectRefusal(pair, words)
        _ = try await pair.sync.execute("ALTER TABLE public.visits ALTER mood TYPE text")
        try await expectRefusal(pair, ["policy max of visits.mood", "on sync it is none"])
        // Where no order decides, any will do.
        _ = try await pair.sync.execute(order("'low', 'high', 'mid'"))
        try pair.write(tables: Self.tables.replacingOccurrences(of: "policy: max", with: "policy: last_write"))
        try await expectStart(pair)
        await pair.remove()
    }

    /// In the stream it is a delete and an insert: the row would come without what the other side alone has.
    @Test func rowsThatMayMoveToAnotherPartitionAreRefused() async throws {
        let pair = try await SplitPair(
            schema: """
                CREATE TABLE public.rooms (hotel text, id int, state text, PRIMARY KEY (hotel, id)) PARTITION BY LIST (hotel);
                CREATE TABLE public.rooms_a PARTITION OF public.rooms FOR VALUES IN ('a');
                ALTER TABLE public.rooms REPLICA IDENTITY FULL; ALTER TABLE public.rooms_a REPLICA IDENTITY FULL;
                """,
            tables: Self.rooms("sync: [state]"))
        try await expectRefusal(pair, ["an update of [hotel]", "on sync the row would lose its [state]", "databases.bot.roles"])
        try pair.write(tables: Self.rooms("shared: { state: { policy: last_write } }"))
        try await expectStart(pair)
        // The same once the split has begun.
        try pair.write(tables: Self.rooms("sync: [state]"))
        try await expectRefusal(pair, ["on sync the row would lose its [state]"])
        await pair.remove()
    }

    private static func rooms(_ state: String) -> String {
        "  rooms: { match: [hotel, id], insert: bot, delete: bot, columns: { bot: [hotel, id], \(state) } }\n"
    }

    /// Tables that the copy has made have no keys and no old rows yet: that is nothing for a person to mend.
    @Test func aSplitWhoseCopyWasCutOffGoesOn() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.guests (id int PRIMARY KEY, phone text, note text); ALTER TABLE public.guests REPLICA IDENTITY FULL",
            tables: "  guests: { match: [id], insert: bot, delete: bot, columns: { bot: [note], shared: { phone: { policy: last_write } } } }\n",
            migrates: false)
        _ = try await pair.bot.execute("INSERT INTO public.guests SELECT i, 'p', repeat('x', 500) FROM generate_series(1, 20000) i")
        _ = try await pair.sync.execute("DROP TABLE public.guests")
        try pair.write(
            tables: "  guests: { match: [id], insert: bot, delete: bot, columns: { bot: [note], shared: { phone: { policy: last_write } } } }\n",
            replication: "copy: { jobs: 1, chunk_size: 1MB, rate_limit: 4MB }")
        let first = try pair.run()
        try await waitUntil("pieces are there: \(first.errors)") {
            (try? await pair.sync.execute("SELECT count(*) >= 2 FROM lindero.table_copy_chunk").firstValue) == "t"
        }
        first.kill9()
        _ = try await first.wait()
        let check = try await pair.command(["check"])
        #expect(check.exitCode == 0, "\(check.output)\(check.errors)")
        // Now its data is there, and the split has not begun: a new slot on sync waits for this.
        _ = try await pair.sync.execute("BEGIN; SELECT pg_current_xact_id()")
        let second = try pair.run()
        let watcher = try await PostgresConnection.connect(ConnectionOptions(pair.environment["SYNC_DATABASE_URL"] ?? ""))
        try await waitUntil("it waits: \(second.errors)", timeoutSeconds: 60) {
            try await watcher.execute("SELECT 1 FROM lindero.direction WHERE prepared_at IS NOT NULL").rowCount == 1
                && second.errors.contains("wait")
        }
        second.kill9()
        _ = try await second.wait()
        _ = try await watcher.execute("ALTER TABLE public.guests REPLICA IDENTITY DEFAULT")
        _ = try await pair.sync.execute("COMMIT")
        try await expectStart(pair)
        #expect(try await watcher.execute("SELECT relreplident FROM pg_class WHERE oid = 'public.guests'::regclass").firstValue == "f")
        await watcher.close()
        await pair.remove()
    }

    private static let guests = "  guests: { match: [id], insert: bot, delete: bot, columns: { bot: [note], shared: { phone: { policy: last_write } } } }\n"

    /// Tables of the origin are nobody's to alter: what is missing there is told before anything is done.
    @Test func aReplicasTablesDoNotHideThoseOfTheOrigin() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.guests (id int PRIMARY KEY, phone text, note text)", tables: Self.guests, migrates: false)
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 'p', 'n')")
        _ = try await pair.sync.execute("DROP TABLE public.guests")
        try pair.write(tables: Self.guests, backend: "replica")
        let replica = try pair.run()
        try await replica.waitForErrors("streaming direction=bot->sync", timeoutSeconds: 60)
        replica.terminate()
        #expect(try await replica.wait() == 0, "\(replica.errors)")
        let before = try await pair.sync.execute("SELECT applied_lsn::text FROM lindero.direction").firstValue
        try pair.write(tables: Self.guests)
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2 && refused.errors.contains("bot: changes of guests do not carry the whole old row"), "\(refused.errors)")
        #expect(try await pair.sync.execute("SELECT applied_lsn::text FROM lindero.direction").firstValue == before)
        _ = try await pair.bot.execute("ALTER TABLE public.guests REPLICA IDENTITY FULL")
        try await expectStart(pair)
        #expect(try await pair.sync.execute("SELECT relreplident FROM pg_class WHERE oid = 'public.guests'::regclass").firstValue == "f")
        await pair.remove()
    }

    /// While it prepares the split's beginning nobody else may stream: where the other side stands is being noted.
    @Test func aSecondWorkerDoesNotGetBetweenTheCopyAndTheSplit() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.guests (id int PRIMARY KEY, phone text, note text); ALTER TABLE public.guests REPLICA IDENTITY FULL",
            tables: Self.guests)
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 'p', 'n')")
        let held = try await PostgresConnection.connect(ConnectionOptions(pair.environment["SYNC_DATABASE_URL"] ?? ""))
        _ = try await held.execute("BEGIN; SELECT pg_current_xact_id()")
        let first = try pair.run()
        let holder = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE\\_REPLICATION\\_SLOT%'"
        try await waitUntil("it waits for the transaction: \(first.errors)") { try await pair.sync.execute(holder).rowCount == 1 }
        let second = try pair.run()
        try await second.waitForErrors("another session has the slot or the origin", timeoutSeconds: 60)
        _ = try await pair.bot.execute("UPDATE public.guests SET note = 'later'")
        #expect(try await pair.sync.execute("SELECT note FROM public.guests").firstValue == "n", "nobody has applied it")
        await held.close()
        for direction in ["bot->sync", "sync->bot"] { try await first.waitForErrors("streaming direction=\(direction)", timeoutSeconds: 60) }
        let rows = "SELECT string_agg(concat_ws(' ', id, phone, note), ',') FROM public.guests"
        try await pair.waitUntilEqual(rows)
        #expect(!second.errors.contains("streaming direction"), "\(second.errors)")
        // It goes, and the other one finds a split where it wanted to begin one.
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        for direction in ["bot->sync", "sync->bot"] { try await second.waitForErrors("streaming direction=\(direction)", timeoutSeconds: 60) }
        _ = try await pair.bot.execute("UPDATE public.guests SET note = 'last'")
        try await pair.waitUntilEqual(rows)
        second.terminate()
        #expect(try await second.wait() == 0, "\(second.errors)")
        await pair.remove()
    }
}
