import TestSupport
import Testing

/// Hotels that belong to others, rooms in hotels, and beds in rooms, each known by a number of each side's own.
@Suite struct SplitReferenceChainTests {
    enum OnDelete: String, CaseIterable, Sendable { case nullify, delete, keep }

    func scene(
        hotels: OnDelete = .nullify, rooms: OnDelete = .nullify, beds: OnDelete = .nullify, hasForeignKeys: Bool = true
    ) async throws -> SplitPair {
        func reference(_ table: String) -> String {
            hasForeignKeys ? "REFERENCES public.\(table) DEFERRABLE INITIALLY DEFERRED" : ""
        }
        let schema = """
            SET search_path = public;
            CREATE TABLE public.hotels (id serial PRIMARY KEY, code text NOT NULL UNIQUE, "parentId" int \(reference("hotels")));
            CREATE TABLE public.rooms (id serial PRIMARY KEY, code text NOT NULL UNIQUE, "hotelId" int \(reference("hotels")));
            CREATE TABLE public.beds (code text PRIMARY KEY, "roomId" int \(reference("rooms")));
            ALTER TABLE public.hotels REPLICA IDENTITY FULL;
            ALTER TABLE public.rooms REPLICA IDENTITY FULL;
            ALTER TABLE public.beds REPLICA IDENTITY FULL;
            """
        let table = { (name: String, column: String, referred: String, onDelete: OnDelete) in
            """
              \(name):
                match: [code]
                insert: [bot, sync]
                delete: [bot, sync]
                references: { \(column): \(referred) }
                on_delete: \(onDelete.rawValue)
                columns: { shared: { \(column): { policy: last_write } } }

            """
        }
        let tables = table("hotels", "parentId", "hotels", hotels) + table("rooms", "hotelId", "hotels", rooms)
            + table("beds", "roomId", "rooms", beds)
        let pair = try await SplitPair(schema: schema, tables: tables)
        _ = try await pair.bot.execute(
            hotel("h") + hotel("i", in: "h") + room("r", in: "h") + room("s", in: "i") + bed("b", in: "r"))
        _ = try await pair.sync.execute("SELECT nextval('hotels_id_seq') FROM generate_series(1, 50)")
        return pair
    }

    private func number(_ table: String, _ code: String) -> String { "(SELECT id FROM \(table) WHERE code = '\(code)')" }
    private func hotel(_ code: String, in parent: String = "") -> String {
        "INSERT INTO hotels (code, \"parentId\") VALUES ('\(code)', \(number("hotels", parent)));"
    }
    private func room(_ code: String, in hotel: String) -> String {
        "INSERT INTO rooms (code, \"hotelId\") VALUES ('\(code)', \(number("hotels", hotel)));"
    }
    private func bed(_ code: String, in room: String) -> String {
        "INSERT INTO beds (code, \"roomId\") VALUES ('\(code)', \(number("rooms", room)));"
    }

    /// Every row, with the code of what it refers to.
    static let rows = """
        SELECT string_agg(row, ', ' ORDER BY row) FROM (
          SELECT concat_ws(' ', 'hotel', h.code, coalesce(p.code, '-')) AS row FROM public.hotels h LEFT JOIN public.hotels p ON p.id = h."parentId"
          UNION ALL SELECT concat_ws(' ', 'room', r.code, coalesce(h.code, '-')) FROM public.rooms r LEFT JOIN public.hotels h ON h.id = r."hotelId"
          UNION ALL SELECT concat_ws(' ', 'bed', b.code, coalesce(r.code, '-')) FROM public.beds b LEFT JOIN public.rooms r ON r.id = b."roomId"
        ) rows
        """

    /// Has both sides write while nobody carries, then carries until each has the other's last write and all is equal.
    private func meet(_ pair: SplitPair, bot: String = "", sync: String = "") async throws -> String {
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute(bot)
        _ = try await pair.sync.execute(sync)
        for (side, name) in [(pair.bot, "bot"), (pair.sync, "sync")] { _ = try await side.execute(bed("z \(name)", in: "")) }
        worker = try await pair.startStreaming()
        try await waitUntil("each side has the other's last write") {
            try await pair.values("SELECT count(*) FROM public.beds WHERE code LIKE 'z %'") == ["2", "2"]
        }
        try await pair.waitUntilEqual(Self.rows, timeoutSeconds: 20)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        return (try await pair.values(Self.rows)[0] ?? "").replacing(", bed z bot -, bed z sync -", with: "")
    }

    @Test func aRowMayReferToItself() async throws {
        let pair = try await scene()
        let own = "UPDATE hotels SET \"parentId\" = id WHERE code = "
        let rows = try await meet(
            pair, bot: "BEGIN; INSERT INTO hotels (id, code, \"parentId\") VALUES (40, 'own', 40);" + hotel("child", in: "own") + "COMMIT;"
                + own + "'h'; UPDATE hotels SET code = 'moved' WHERE code = 'h';" + own + "'i'",
            sync: hotel("other") + own + "'other'; UPDATE hotels SET code = 'else' WHERE code = 'other'")
        #expect(
            rows == "bed b r, hotel child own, hotel else else, hotel i i, hotel moved moved, hotel own own, room r moved, room s i")
        await pair.remove()
    }

    /// Under deferred foreign keys a transaction may make rows before those that they refer to; in one that changes a key, too.
    @Test(arguments: ["", "UPDATE hotels SET code = 'x' WHERE code = 'i';"], [true, false])
    func rowsMayComeBeforeThoseThatTheyReferTo(move: String, hasForeignKeys: Bool) async throws {
        let pair = try await scene(hasForeignKeys: hasForeignKeys)
        let rows = try await meet(pair, bot: """
            BEGIN; \(move)
            INSERT INTO beds (code, "roomId") VALUES ('early', 40);
            INSERT INTO rooms (id, code, "hotelId") VALUES (40, 'early', 43);
            INSERT INTO hotels (id, code, "parentId") VALUES (43, 'leaf', 42), (42, 'branch', 41), (41, 'root', NULL);
            COMMIT;
            """)
        let first = move.isEmpty ? "hotel i h, hotel leaf branch, hotel root -" : "hotel leaf branch, hotel root -, hotel x h"
        let room = move.isEmpty ? "room s i" : "room s x"
        #expect(rows == "bed b r, bed early early, hotel branch root, hotel h -, \(first), room early leaf, room r h, \(room)")
        await pair.remove()
    }

    /// What refers to the new row was written while another one had its key, and is not what goes with that one.
    @Test(arguments: OnDelete.allCases, ["DELETE FROM hotels WHERE code = 'i'", "UPDATE hotels SET code = 'x' WHERE code = 'i'"])
    func rowsMayReferToOneThatTakesTheKeyOfAnotherLater(rooms: OnDelete, end: String) async throws {
        let pair = try await scene(rooms: rooms)
        let rows = try await meet(pair, bot: """
            BEGIN; UPDATE rooms SET "hotelId" = 60 WHERE code = 's';
            INSERT INTO rooms (code, "hotelId") VALUES ('t', 60), ('u', 60), ('v', 60);
            UPDATE rooms SET code = 'w' WHERE code = 'u'; DELETE FROM rooms WHERE code = 'v';
            \(end); INSERT INTO hotels (id, code) VALUES (60, 'i'); COMMIT;
            """)
        let former = end.hasPrefix("DELETE") ? "" : "hotel x h, "
        #expect(rows == "bed b r, hotel h -, hotel i -, \(former)room r h, room s i, room t i, room w i")
        await pair.remove()
    }

    /// One side deletes a hotel; the other has just put a bed into a room of it, and a room into another hotel.
    @Test(arguments: OnDelete.allCases) func deletesLeadDownTheChain(beds: OnDelete) async throws {
        let pair = try await scene(rooms: .delete, beds: beds)
        let rows = try await meet(
            pair,
            bot: bed("c", in: "r") + bed("d", in: "r") + room("t", in: "h") + bed("e", in: "t") + hotel("j", in: "h")
                + "UPDATE beds SET \"roomId\" = \(number("rooms", "s")) WHERE code = 'd';",
            sync: "UPDATE hotels SET \"parentId\" = NULL WHERE code = 'i'; DELETE FROM beds WHERE code = 'b';"
                + "DELETE FROM rooms WHERE code = 'r'; DELETE FROM hotels WHERE code = 'h'")
        let left = beds == .delete ? "bed d s" : "bed c -, bed d s, bed e -"
        #expect(rows == left + ", hotel i -, hotel j -, room s i")
        await pair.remove()
    }
}
