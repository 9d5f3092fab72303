import PostgresClient
import TestSupport
import Testing

/// Columns whose type is altered while values of the former one are on their way.
@Suite struct SplitAlteredTypeTests {
    private let scenes = SplitReferenceTests()

    private func key(_ old: String, _ new: String) -> String { "UPDATE hotels SET code = '\(new)' WHERE code = '\(old)';" }

    private func alter(_ type: String) -> String {
        """
        ALTER TABLE rooms DROP CONSTRAINT "rooms_hotelId_fkey";
        ALTER TABLE hotels ALTER id DROP DEFAULT, ALTER id TYPE \(type), ALTER id SET DEFAULT nextval('hotels_id_seq');
        ALTER TABLE rooms ALTER "hotelId" TYPE \(type), ADD FOREIGN KEY ("hotelId") REFERENCES hotels;
        """
    }

    /// Among them are keys that change, rows that are deleted, and what `on_delete` does.
    @Test(arguments: ["text", "bigint"], [["bot"], ["sync"], ["bot", "sync"]])
    func referencesThatAreOnTheirWayMeanWhatTheyMeant(type: String, sides: [String]) async throws {
        let pair = try await scenes.scene(onDelete: "nullify")
        func altered(_ side: String) -> String { "COMMIT;" + (sides.contains(side) ? alter(type) : "") + "COMMIT;" }
        let rooms = try await scenes.meet(
            pair,
            bot: scenes.room("b-1", in: "hill") + key("hill", "peak") + scenes.room("b-2", in: "peak") + scenes.room("b-3", in: "city")
                + altered("bot") + scenes.room("b-4", in: "peak"),
            sync: scenes.room("s-1", in: "hill") + scenes.room("s-2", in: "sea") + key("sea", "bay")
                + "DELETE FROM rooms WHERE number IN ('r-2', 'r-5'); DELETE FROM hotels WHERE code = 'city';" + altered("sync")
                + scenes.room("s-3", in: "bay"))
        #expect(
            rooms == "b-1 peak, b-2 peak, b-3 -, b-4 peak, r-1 peak first, r-3 bay first, r-4 peak first, r-6 bay first, s-1 peak, "
                + "s-2 bay, s-3 bay")
        await pair.remove()
    }

    @Test func theWorkerGoesOnWhileBothSidesAreAltered() async throws {
        let pair = try await scenes.scene(onDelete: "nullify")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        var count = 0
        func write() async throws {
            for side in [pair.bot, pair.sync] {
                count += 1
                _ = try await side.execute(scenes.room("n-\(count)", in: "hill") + scenes.move("r-\(count % 6 + 1)", to: "sea"))
            }
            try await waitUntil("both sides have all rooms") {
                try await pair.values("SELECT count(*) FROM rooms") == Array(repeating: "\(count + 6)", count: 2)
            }
            try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        }
        try await write()
        for type in ["bigint", "text"] {
            for side in [pair.sync, pair.bot] {
                _ = try await side.execute(alter(type))
                try await write()
            }
        }
        #expect(try await pair.values("SELECT count(*) FROM rooms WHERE \"hotelId\" IS NULL") == ["0", "0"])
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    @Test func columnsOfTwoTypesReferToOneTable() async throws {
        let schema = """
            CREATE TABLE public.hotels (id serial PRIMARY KEY, code text NOT NULL UNIQUE, name text);
            CREATE TABLE public.rooms (number text PRIMARY KEY, "hotelId" int REFERENCES hotels, notes text, price int);
            CREATE TABLE public.offers (code text PRIMARY KEY, "hotelId" bigint REFERENCES hotels);
            ALTER TABLE hotels REPLICA IDENTITY FULL;
            ALTER TABLE rooms REPLICA IDENTITY FULL;
            ALTER TABLE offers REPLICA IDENTITY FULL;
            """
        let offers = """
              offers:
                match: [code]
                insert: [bot, sync]
                delete: [bot, sync]
                references: { hotelId: hotels }
                columns: { shared: { hotelId: { policy: last_write } } }

            """
        let pair = try await SplitPair(
            schema: "SET search_path = public;" + schema, tables: SplitReferenceTests.tables(onDelete: "nullify") + offers)
        let worker = try await pair.startStreaming()
        for (side, name) in [(pair.bot, "bot"), (pair.sync, "sync")] {
            _ = try await side.execute(
                "INSERT INTO hotels (code) VALUES ('\(name) a'), ('\(name) b');" + scenes.room(name, in: "\(name) a")
                    + "INSERT INTO offers SELECT '\(name)', id FROM hotels WHERE code = '\(name) b'")
        }
        let all = """
            SELECT string_agg(concat_ws(' ', number, r.code, o.code), ', ' ORDER BY number) FROM rooms
            LEFT JOIN hotels r ON r.id = rooms."hotelId" LEFT JOIN offers ON offers.code = number LEFT JOIN hotels o ON o.id = offers."hotelId"
            """
        try await waitUntil("all is on both sides") {
            try await pair.values(all) == Array(repeating: "bot bot a bot b, sync sync a sync b", count: 2)
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// What one side alone wrote goes in bulk.
    @Test(arguments: ["bigint", "text"]) func whatGoesInBulkIsReadUnderTheNewType(type: String) async throws {
        let schema = "CREATE TABLE public.notes (id int PRIMARY KEY, n int, v text); ALTER TABLE public.notes REPLICA IDENTITY FULL;"
        let tables = "      notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id, n], sync: [v] } }\n"
        let pair = try await SplitPair(schema: schema, tables: tables)
        _ = try await pair.bot.execute("INSERT INTO public.notes SELECT n, 1, 'first' FROM generate_series(1, 200) n")
        let values = "SELECT string_agg(n::text, ' ' ORDER BY id::int) FROM public.notes"
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(values)
        worker.kill9()
        _ = try await worker.wait()
        let alter = "ALTER TABLE public.notes ALTER id TYPE \(type), ALTER n TYPE \(type);"
        _ = try await pair.bot.execute("UPDATE public.notes SET n = id; COMMIT; \(alter)")
        _ = try await pair.sync.execute(alter)
        worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(values, timeoutSeconds: 20)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// A row's key in the older form is the key of the same row.
    @Test func writesThatMeetUnderAKeyOfTwoTypesAreResolvedAlike() async throws {
        let tables = """
              notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id], shared: { v: { policy: last_write } } } }

            """
        let schema = "CREATE TABLE public.notes (id int PRIMARY KEY, v text); ALTER TABLE public.notes REPLICA IDENTITY FULL;"
        let pair = try await SplitPair(schema: schema, tables: tables)
        _ = try await pair.bot.execute("INSERT INTO public.notes SELECT n, 'first' FROM generate_series(1, 200) n")
        let values = "SELECT string_agg(DISTINCT v, ' ') || count(*) FROM public.notes"
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(values)
        worker.kill9()
        _ = try await worker.wait()
        let alter = "ALTER TABLE public.notes ALTER id TYPE bigint;"
        _ = try await pair.bot.execute("\(alter) COMMIT; UPDATE public.notes SET v = 'earlier'")
        _ = try await pair.sync.execute("UPDATE public.notes SET v = 'later'; COMMIT; \(alter)")
        worker = try await pair.startStreaming()
        try await waitUntil("all that lost is on record", timeoutSeconds: 20) {
            try await pair.sync.execute("SELECT count(*) FROM lindero.conflict WHERE lost_value = 'earlier'").firstValue == "200"
        }
        try await waitUntil("both sides have the later writes") { try await pair.values(values) == ["later200", "later200"] }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }
}
