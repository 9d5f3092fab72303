import PostgresClient
import TestSupport
import Testing

/// A transaction that refers to a hotel before it makes it.
@Suite struct SplitLateReferenceTests {
    /// - Parameters:
    ///   - type: of the column that refers to a hotel, whose number is an integer.
    ///   - isRequired: whether it may not be empty.
    ///   - isLabelled: whether no two hotels have one label, which bot alone gives them.
    private func pair(type: String = "int", isRequired: Bool = false, isLabelled: Bool = false) async throws -> SplitPair {
        let required = isRequired ? "NOT NULL" : ""
        let schema = """
            SET search_path = public;
            CREATE TABLE public.hotels (id serial PRIMARY KEY, code text NOT NULL UNIQUE, label text \(isLabelled ? "UNIQUE" : ""));
            CREATE TABLE public.rooms (id serial PRIMARY KEY, code text NOT NULL UNIQUE, note text,
              "hotelId" \(type) \(required) REFERENCES public.hotels DEFERRABLE INITIALLY DEFERRED);
            CREATE TABLE public.beds (code text PRIMARY KEY, "roomId" int REFERENCES public.rooms DEFERRABLE INITIALLY DEFERRED);
            CREATE TABLE public.filling (id int PRIMARY KEY, v text);
            CREATE TABLE public.last (id int PRIMARY KEY, bot int, sync int);
            ALTER TABLE public.hotels REPLICA IDENTITY FULL;
            ALTER TABLE public.rooms REPLICA IDENTITY FULL;
            ALTER TABLE public.beds REPLICA IDENTITY FULL;
            """
        let table = { (name: String, references: String, columns: String) in
            """
              \(name):
                match: [code]
                insert: [bot\(isLabelled ? "" : ", sync")]
                delete: [bot\(isLabelled ? "" : ", sync")]
                \(references.isEmpty ? "" : "references: { \(references) }")
                \(references.isEmpty ? "" : "on_delete: delete")
                columns: { \(columns) }

            """
        }
        let pair = try await SplitPair(
            schema: schema,
            tables: "  last: { match: [id], insert: bot, delete: bot, columns: { bot: [id, bot], sync: [sync] } }\n"
                + "  filling: { match: [id], insert: bot, delete: bot, columns: { bot: \"*\" } }\n" + table("hotels", "", "bot: [label\(isLabelled ? ", code" : "")]") + table("rooms", "hotelId: hotels", "bot: [note], shared: { hotelId: { policy: last_write } }")
                // A row that may have to wait is none that others may refer to.
                + (isRequired ? "" : table("beds", "roomId: rooms", "shared: { roomId: { policy: last_write } }")))
        _ = try await pair.bot.execute(
            """
            INSERT INTO last VALUES (1); INSERT INTO hotels (code, label) VALUES ('h', 'one'), ('i', 'two');
            INSERT INTO rooms (code, "hotelId") SELECT r, id FROM hotels, (VALUES ('h', 'r'), ('i', 's')) AS room (h, r) WHERE code = h
            """)
        _ = try await pair.sync.execute("SELECT nextval('hotels_id_seq'), nextval('rooms_id_seq') FROM generate_series(1, 50)")
        return pair
    }

    private static let rows = """
        SELECT string_agg(row, ', ' ORDER BY row) FROM (
          SELECT 'hotel ' || code AS row FROM public.hotels
          UNION ALL SELECT concat_ws(' ', r.code, h.code) FROM public.rooms r LEFT JOIN public.hotels h ON h.id = r."hotelId" WHERE note IS NULL
          UNION ALL SELECT concat_ws(' ', 'bed', b.code, r.code) FROM public.beds b LEFT JOIN public.rooms r ON r.id = b."roomId"
        ) rows
        """

    /// Has both sides write while nobody carries; then both show `expected`.
    private func meet(_ pair: SplitPair, bot: String, sync: String = "", _ expected: String) async throws {
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.rows)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute("BEGIN; \(bot) COMMIT;")
        _ = try await pair.sync.execute(sync)
        for (side, name) in [(pair.bot, "bot"), (pair.sync, "sync")] {
            _ = try await side.execute("UPDATE public.last SET \(name) = 1")
        }
        worker = try await pair.startStreaming()
        try await waitUntil("each side has the other's last write") {
            try await pair.values("SELECT concat(bot, sync) FROM public.last") == ["11", "11"]
        }
        try await pair.waitUntilEqual(Self.rows, timeoutSeconds: 20)
        #expect(try await pair.values(Self.rows)[0] == expected)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    @Test(arguments: [false, true]) func theHotelMayGetAnotherCodeBeforeTheEnd(isRequired: Bool) async throws {
        try await meet(
            pair(isRequired: isRequired),
            bot: """
                INSERT INTO rooms (code, "hotelId") VALUES ('t', 60); UPDATE rooms SET "hotelId" = 60 WHERE code = 's';
                INSERT INTO hotels (id, code) VALUES (60, 'a'); UPDATE hotels SET code = 'b' WHERE id = 60;
                INSERT INTO hotels (id, code) VALUES (61, 'a');
                """,
            "hotel a, hotel b, hotel h, hotel i, r h, s b, t b")
    }

    @Test(arguments: ["int", "bigint"], [false, true])
    func itMayTakeTheCodeOfAnother(type: String, isRequired: Bool) async throws {
        try await meet(
            pair(type: type, isRequired: isRequired),
            bot: """
                UPDATE rooms SET "hotelId" = 60 WHERE code = 's'; INSERT INTO rooms (code, "hotelId") VALUES ('t', 60);
                DELETE FROM hotels WHERE code = 'i'; INSERT INTO hotels (id, code) VALUES (60, 'i');
                """,
            "hotel h, hotel i, r h, s i, t i")
    }

    @Test(arguments: [true, false]) func muchMayComeInBetweenOrAfter(isBetween: Bool) async throws {
        let filling = isBetween
            ? "INSERT INTO rooms (code, note) SELECT 'much ' || n, repeat('x', 1000) FROM generate_series(1, 6000) n;"
            : "INSERT INTO filling SELECT n, repeat('x', 1000) FROM generate_series(1, 6000) n;"
        try await meet(
            pair(),
            bot: """
                UPDATE rooms SET "hotelId" = 60 WHERE code = 's'; \(isBetween ? filling : "")
                DELETE FROM hotels WHERE code = 'i'; INSERT INTO hotels (id, code) VALUES (60, 'i'); \(isBetween ? "" : filling)
                """,
            "hotel h, hotel i, r h, s i")
    }

    /// Which the other side has given another code meanwhile.
    @Test func theOtherSideMayHaveMovedTheFormerOne() async throws {
        try await meet(
            pair(),
            bot: """
                UPDATE rooms SET "hotelId" = 60 WHERE code = 's';
                DELETE FROM hotels WHERE code = 'i'; INSERT INTO hotels (id, code) VALUES (60, 'i');
                """,
            sync: "UPDATE hotels SET code = 'k' WHERE code = 'i'",
            "hotel h, hotel i, hotel k, r h, s i")
    }

    /// Another row has its label until the transaction has come to that: so it can't be there before what refers to it.
    @Test(arguments: [false, true]) func whatHasToWaitForItIsMadeInTheEnd(isRequired: Bool) async throws {
        try await meet(
            pair(isRequired: isRequired, isLabelled: true),
            bot: (isRequired ? "" : "INSERT INTO beds (code, \"roomId\") VALUES ('b', 70); UPDATE beds SET code = 'c' WHERE code = 'b';") + """

                INSERT INTO rooms (id, code, "hotelId") VALUES (70, 't', 60), (71, 'u', 60), (72, 'v', 60);
                UPDATE rooms SET code = 'w' WHERE code = 'u'; DELETE FROM rooms WHERE code = 'v';
                UPDATE rooms SET "hotelId" = 60 WHERE code = 's';
                UPDATE hotels SET label = NULL WHERE code = 'h'; INSERT INTO hotels (id, code, label) VALUES (60, 'n', 'one');
                """,
            (isRequired ? "" : "bed c t, ") + "hotel h, hotel i, hotel n, r h, s n, t n, w n")
    }
}
