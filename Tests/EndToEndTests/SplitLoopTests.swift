import PostgresClient
import TestSupport
import Testing

/// What a split sends goes to the other side once: neither back, nor round by a third database.
@Suite struct SplitLoopTests {
    private static let schema = """
        CREATE TABLE public.guests (id text PRIMARY KEY, note text, state text, token text DEFAULT md5(random()::text), phone text,
          visits int NOT NULL DEFAULT 0);
        ALTER TABLE public.guests REPLICA IDENTITY FULL;
        """
    /// Rows that sync makes come back with bot's token.
    private static let tables = """
          guests:
            match: [id]
            insert: [bot, sync]
            delete: [bot, sync]
            columns:
              bot: [note, token]
              sync: [state]
              shared: { phone: { policy: last_write }, visits: { policy: delta } }

        """
    private static let all = "SELECT coalesce(string_agg(g::text, E'\\n' ORDER BY id), '') FROM public.guests g"

    /// A database elsewhere, and a native subscription of one side to it.
    private struct Elsewhere {
        let publisher: PostgresConnection
        let url: String
        let name: String

        init() async throws {
            let cluster = try await PostgresCluster.shared("elsewhere")
            url = try await cluster.createDatabase()
            publisher = try await PostgresConnection.connect(ConnectionOptions(url))
            name = "feed_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
            _ = try await publisher.execute(SplitLoopTests.schema)
        }

        /// The slot is made by itself: a subscription that makes it holds a transaction, for whose end each new slot of its own
        /// server waits.
        static func subscribe(_ subscriber: PostgresConnection, to publisher: PostgresConnection, at url: String, as name: String) async throws {
            _ = try await publisher.execute("CREATE PUBLICATION \(name) FOR TABLE public.guests")
            _ = try await publisher.execute("SELECT pg_create_logical_replication_slot('\(name)', 'pgoutput')")
            _ = try await subscriber.execute(
                "CREATE SUBSCRIPTION \(name) CONNECTION '\(url)' PUBLICATION \(name) WITH (copy_data = false, create_slot = false)")
        }

        func feed(_ side: PostgresConnection) async throws {
            try await Self.subscribe(side, to: publisher, at: url, as: name)
        }
    }

    /// Every row that a side has changed since it was asked last, by whomever, as PostgreSQL's own decoder tells: a letter for
    /// each, as in the protocol. Without the signs of life and the progress that goes with them.
    private func changes(_ side: PostgresConnection) async throws -> [String] {
        try await side.execute(
            """
            SELECT chr(get_byte(data, 0)) FROM pg_logical_slot_get_binary_changes(
              'silence_' || current_database(), NULL, NULL, 'proto_version', '1', 'publication_names', 'silence')
            WHERE chr(get_byte(data, 0)) IN ('I', 'U', 'D', 'T')
            """
        ).rows.map { $0[0] ?? "" }
    }

    /// Returns once each side has seen a sign of life that the other one gave after a moment, in seconds of the servers' clock:
    /// it comes behind everything that the other one had written before.
    private func waitForSignsOfLife(_ pair: SplitPair, after moment: Double) async throws {
        try await waitUntil("both directions are alive at \(moment)", timeoutSeconds: 60) {
            try await pair.values("SELECT extract(epoch FROM min(sent_at)) FROM lindero.heartbeat")
                .allSatisfy { ($0.flatMap { Double($0) } ?? 0) >= moment }
        }
    }

    /// Without a pause, with rows that both sides have, that come, that get other keys and that go.
    private static func write(_ number: Int, _ url: String?, owned column: String) async throws {
        try await PostgresConnection.with(ConnectionOptions(url ?? "")) { side in
            for round in 1...40 {
                let shared = "id = 'b-\((number + round) % 20)'"
                for sql in [
                    "INSERT INTO public.guests (id, phone) VALUES ('w\(number)-\(round)', 'new')",
                    "UPDATE public.guests SET \(column) = '\(number)-\(round)', visits = visits + 1 WHERE \(shared)",
                    "UPDATE public.guests SET phone = '\(number)-\(round)' WHERE \(shared)",
                    round % 5 == 0 ? "UPDATE public.guests SET id = id || '-moved' WHERE id = 'w\(number)-\(round - 3)'" : "",
                    round % 7 == 0 ? "DELETE FROM public.guests WHERE id = 'w\(number)-\(round - 1)'" : "",
                ] { try await side.executeDespiteDeadlocks(sql) }
            }
        }
    }

    @Test func tenSecondsAfterTheLastWriteBothStreamsAreSilent() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables)
        _ = try await pair.bot.execute("INSERT INTO public.guests (id) SELECT 'b-' || i FROM generate_series(0, 19) i")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        let elsewhere = try await Elsewhere()
        try await elsewhere.feed(pair.sync)
        for side in [pair.bot, pair.sync] {
            _ = try await side.execute("CREATE PUBLICATION silence FOR TABLE public.guests, lindero.conflict")
            _ = try await side.execute("SELECT pg_create_logical_replication_slot('silence_' || current_database(), 'pgoutput')")
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            let urls = [pair.environment["DATABASE_URL"], pair.environment["SYNC_DATABASE_URL"]]
            for number in 0..<8 {
                group.addTask { try await Self.write(number, urls[number % 2], owned: number % 2 == 0 ? "note" : "state") }
            }
            group.addTask {
                for number in 1...40 { _ = try await elsewhere.publisher.execute("INSERT INTO public.guests (id) VALUES ('far-\(number)')") }
            }
            try await group.waitForAll()
        }
        let clock = "SELECT extract(epoch FROM clock_timestamp())"
        let stopped = try #require(try await pair.values(clock).compactMap { $0.flatMap { Double($0) } }.max())

        try await waitForSignsOfLife(pair, after: stopped + 10)
        for side in [pair.bot, pair.sync] { #expect(try await changes(side).count > 500, "the decoder sees what is written") }
        let rows = try await pair.values(Self.all)
        #expect(rows[0] == rows[1])
        #expect(try await pair.values("SELECT count(*) FROM public.guests WHERE id LIKE 'far-%'") == ["40", "40"])
        // Every row that sync made has come back with what bot gave it.
        #expect(try await pair.values("SELECT count(*) FROM public.guests WHERE token IS NULL AND id LIKE 'w%'") == ["0", "0"])
        let conflicts = try await pair.values("SELECT count(*) FROM lindero.conflict")

        // Ten more signs of life each way, and nothing else.
        try await waitForSignsOfLife(pair, after: stopped + 20)
        for side in [pair.bot, pair.sync] { #expect(try await changes(side) == []) }
        #expect(try await pair.values(Self.all) == rows)
        #expect(try await pair.values("SELECT count(*) FROM lindero.conflict") == conflicts)
        // The same question sees a change.
        _ = try await pair.bot.execute("UPDATE public.guests SET note = 'last' WHERE id = 'b-0'")
        try await pair.waitUntilEqual(Self.all)
        for side in [pair.bot, pair.sync] {
            // What is applied commits before it is on the disk, and is decoded afterwards.
            var seen: [String] = []
            try await waitUntil("the decoder sees it") {
                seen += try await changes(side)
                return !seen.isEmpty
            }
            #expect(seen == ["U"])
        }
        _ = try await pair.sync.execute("DROP SUBSCRIPTION \(elsewhere.name)")
        await elsewhere.publisher.close()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// A native subscription of one side brings changes of another origin than ours: they are that side's own, with its rights.
    @Test func whatANativeSubscriptionBringsTravelsOn() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables)
        _ = try await pair.bot.execute("INSERT INTO public.guests (id, note, phone) VALUES ('both', 'kept', 'first'), ('goes', NULL, NULL)")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        let elsewhere = try await Elsewhere()
        _ = try await elsewhere.publisher.execute("INSERT INTO public.guests (id) VALUES ('both'), ('goes')")
        try await elsewhere.feed(pair.sync)
        _ = try await elsewhere.publisher.execute(
            """
            INSERT INTO public.guests (id, state, phone) VALUES ('far', 'away', '1');
            UPDATE public.guests SET state = 'theirs', phone = '2', note = 'not theirs', visits = 3 WHERE id = 'both';
            DELETE FROM public.guests WHERE id = 'goes';
            """)
        let rows = "SELECT string_agg(concat_ws(' ', id, note, state, phone, visits), ', ' ORDER BY id) FROM public.guests"
        try await waitUntil("it has travelled through sync to bot") {
            try await pair.bot.execute(rows).firstValue == "both kept theirs 2 3, far away 1 0"
        }
        // What bot owns nobody writes from there.
        #expect(try await pair.sync.execute(rows).firstValue == "both not theirs theirs 2 3, far away 1 0")
        _ = try await pair.sync.execute("DROP SUBSCRIPTION \(elsewhere.name)")
        await elsewhere.publisher.close()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// Who subscribes to one side gets what both have written.
    @Test func aNativeSubscriberOfOneSideGetsWhatLinderoBroughtThere() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables)
        let worker = try await pair.startStreaming()
        let elsewhere = try await Elsewhere()
        let url = try #require(pair.environment["SYNC_DATABASE_URL"])
        try await Elsewhere.subscribe(elsewhere.publisher, to: pair.sync, at: url, as: elsewhere.name)
        _ = try await pair.bot.execute("INSERT INTO public.guests (id, note) VALUES ('of bot', 'a')")
        _ = try await pair.sync.execute("INSERT INTO public.guests (id, state) VALUES ('of sync', 'b')")
        try await pair.waitUntilEqual(Self.all)
        let here = try await pair.sync.execute(Self.all).firstValue
        try await waitUntil("the third has all of it") { try await elsewhere.publisher.execute(Self.all).firstValue == here }
        #expect(here?.contains("of bot") == true && here?.contains("of sync") == true)
        _ = try await elsewhere.publisher.execute("DROP SUBSCRIPTION \(elsewhere.name)")
        await elsewhere.publisher.close()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }
}
