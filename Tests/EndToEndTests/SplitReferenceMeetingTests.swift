import PostgresClient
import TestSupport
import Testing

/// References to a row whose key one side changes, while the other changes it too, deletes the row, or makes a new one.
@Suite struct SplitReferenceMeetingTests {
    private let scenes = SplitReferenceTests()

    private func key(_ old: String, _ new: String) -> String { "UPDATE hotels SET code = '\(new)' WHERE code = '\(old)';" }
    private func hotel(_ code: String) -> String { "INSERT INTO hotels (code) VALUES ('\(code)');" }
    private func room(_ number: String, in code: String) -> String { scenes.room(number, in: code) }
    /// A hotel that this side's rows refer to no longer.
    private func gone(_ code: String) -> String {
        "DELETE FROM rooms WHERE \"hotelId\" = (SELECT id FROM hotels WHERE code = '\(code)');"
            + "DELETE FROM hotels WHERE code = '\(code)';"
    }

    /// The rooms that come of it, but for those that nobody touches.
    private func meet(_ onDelete: String, bot: String, sync: String, reference: String = "REFERENCES hotels") async throws -> String {
        let pair = try await scenes.scene(onDelete: onDelete, reference: reference)
        let rooms = try await scenes.meet(pair, bot: bot, sync: sync)
        await pair.remove()
        return rooms?.split(separator: ", ").filter { !["city first", "sea first"].contains($0.dropFirst(4)) }
            .joined(separator: ", ") ?? ""
    }

    @Test(arguments: ["nullify", "delete", "keep"])
    func ofTwoChangesOfOneKeyReferencesFollowOne(onDelete: String) async throws {
        let rooms = try await meet(
            onDelete,
            bot: room("b-1", in: "hill") + key("hill", "peak") + "COMMIT;" + room("b-2", in: "peak"),
            sync: room("s-1", in: "hill") + key("hill", "top") + "COMMIT;" + room("s-2", in: "top"))
        #expect(rooms == "b-1 top, b-2 top, r-1 top first, r-4 top first, s-1 top, s-2 top")
    }

    @Test(arguments: ["", "COMMIT;"])
    func referencesFollowKeysThatChangeOn(between: String) async throws {
        let rooms = try await meet(
            "keep",
            bot: key("hill", "peak") + between + key("peak", "crag") + "COMMIT;" + room("b-1", in: "crag"),
            sync: key("hill", "top") + between + key("top", "roof") + "COMMIT;" + room("s-1", in: "roof"))
        #expect(rooms == "b-1 roof, r-1 roof first, r-4 roof first, s-1 roof")
    }

    @Test(arguments: ["nullify", "delete", "keep"])
    func referencesStayWithTheRowThatIsLeft(onDelete: String) async throws {
        let rooms = try await meet(
            onDelete,
            bot: key("hill", "peak") + "COMMIT;" + gone("peak") + "COMMIT;" + room("b-1", in: "sea") + key("sea", "bay"),
            sync: room("s-1", in: "hill") + "COMMIT;" + key("hill", "top") + "COMMIT;" + room("s-2", in: "sea") + key("sea", "gulf")
                + key("gulf", "port") + "COMMIT;" + room("s-3", in: "port"))
        #expect(rooms == "b-1 port, r-3 port first, r-6 port first, s-1 top, s-2 port, s-3 port")
    }

    @Test(arguments: ["nullify", "delete", "keep"])
    func aReferenceToARowThatTheOtherSideDeletesFollowsItsChangedKey(onDelete: String) async throws {
        let rooms = try await meet(
            onDelete, bot: room("b-1", in: "hill") + "COMMIT;" + key("hill", "peak"), sync: gone("hill"))
        #expect(rooms == "b-1 peak")
    }

    /// Without a foreign key its rooms are left with a number of nobody's.
    @Test(arguments: ["nullify", "delete", "keep"])
    func whatTheDeletingSideLeavesBehindFollowsTheChangedKeyToo(onDelete: String) async throws {
        let rooms = try await meet(
            onDelete, bot: key("hill", "peak"), sync: room("s-1", in: "hill") + "COMMIT; DELETE FROM hotels WHERE code = 'hill'",
            reference: "")
        #expect(rooms == "r-1 peak first, r-4 peak first, s-1 peak")
    }

    /// The same where it has changed the key as well, before.
    @Test(arguments: ["nullify", "delete", "keep"])
    func whatIsLeftBehindFollowsTheKeyThatIsLeft(onDelete: String) async throws {
        let rooms = try await meet(
            onDelete, bot: key("hill", "peak") + "COMMIT; DELETE FROM hotels WHERE code = 'peak'", sync: key("hill", "top"),
            reference: "")
        #expect(rooms == "r-1 top first, r-4 top first")
    }

    /// What the other side has referred to since, in a later group, stands.
    @Test(arguments: ["nullify", "delete", "keep"])
    func whatTheOtherSideRefersToSinceStands(onDelete: String) async throws {
        let rooms = try await meet(
            onDelete, bot: "DELETE FROM hotels WHERE code = 'hill'",
            sync: key("hill", "top") + "COMMIT;" + scenes.move("r-1", to: "sea"), reference: "")
        #expect(rooms == "r-4 top first")
    }

    /// A number is kept as the stream had it.
    @Test func whatIsLeftBehindIsFoundByANumberOfAnotherType() async throws {
        let alter = "; COMMIT; ALTER TABLE hotels ALTER id TYPE bigint; ALTER TABLE rooms ALTER \"hotelId\" TYPE bigint"
        let rooms = try await meet(
            "keep", bot: key("hill", "peak") + "COMMIT; DELETE FROM hotels WHERE code = 'peak'" + alter, sync: key("hill", "top"),
            reference: "")
        #expect(rooms == "r-1 top first, r-4 top first")
    }

    @Test(arguments: ["nullify", "delete", "keep"])
    func aReferenceDoesNotPassToANewRowWithTheSameKey(onDelete: String) async throws {
        let rooms = try await meet(
            onDelete, bot: room("b-1", in: "hill") + "COMMIT;" + room("b-2", in: "sea"),
            sync: gone("hill") + hotel("hill") + "COMMIT;" + key("sea", "bay") + hotel("sea") + "COMMIT;" + room("s-1", in: "sea"))
        let empty = onDelete == "delete" ? "" : "b-1 -, "
        #expect(rooms == empty + "b-2 bay, r-3 bay first, r-6 bay first, s-1 sea")
    }

    @Test(arguments: ["nullify", "delete", "keep"])
    func aKeyChangedOntoARowThatHasMovedOnTakesItsReferencesThere(onDelete: String) async throws {
        let rooms = try await meet(
            onDelete, bot: room("b-1", in: "hill") + key("hill", "peak"),
            sync: hotel("peak") + "COMMIT;" + key("peak", "summit"))
        #expect(rooms == "b-1 summit, r-1 summit first, r-4 summit first")
    }

    /// All of it comes to the other side at once, which so far knows neither the row nor its number.
    @Test(arguments: ["nullify", "delete", "keep"], ["", "COMMIT;"])
    func aRowThatIsNewThereTakesItsReferencesOntoTheOneThatIsThere(onDelete: String, between: String) async throws {
        let rooms = try await meet(
            onDelete, bot: hotel("new") + between + room("b-1", in: "new") + between + key("new", "both"),
            sync: hotel("both") + room("s-1", in: "both"))
        #expect(rooms == "b-1 both, r-1 hill first, r-4 hill first, s-1 both")
    }

    /// In one transaction a row leaves a key, and another one takes it: by a changed key, or anew. The other side has moved
    /// the first one too.
    @Test(arguments: [true, false])
    func aReferenceMeansTheRowThatHasTheKeyByThen(isMoved: Bool) async throws {
        let rooms = try await meet(
            "keep",
            bot: room("b-1", in: "sea") + key("sea", "bay") + (isMoved ? key("hill", "sea") : hotel("sea")) + room("b-2", in: "sea")
                + room("b-3", in: "bay"),
            sync: key("sea", "gulf") + key("city", "town"))
        // Those of the hotel that has become sea are not shown.
        let (first, second) = isMoved ? ("", "") : ("r-1 hill first, ", "r-4 hill first, ")
        #expect(
            rooms == "b-1 gulf, b-2 sea, b-3 gulf, \(first)r-2 town first, r-3 gulf first, \(second)r-5 town first, r-6 gulf first")
    }

    @Test func aReferenceFollowsTheRowThatHadTheKeyFirst() async throws {
        let rooms = try await meet(
            "keep", bot: room("b-1", in: "sea") + key("hill", "peak") + room("b-2", in: "peak"),
            sync: key("sea", "bay") + "COMMIT;" + hotel("sea") + room("s-1", in: "sea") + "COMMIT;" + key("sea", "gulf")
                + hotel("peak") + "COMMIT;" + key("peak", "crag"))
        #expect(rooms == "b-1 bay, b-2 crag, r-1 crag first, r-3 bay first, r-4 crag first, r-6 bay first, s-1 gulf")
    }

    /// A row that the group does not hold passes its key to another one while the group waits for something else: what was
    /// decided about its references is decided again.
    @Test func aKeyThatPassesOnAfterTheDecisionIsLookedAtAgain() async throws {
        let pair = try await scenes.scene(onDelete: "nullify")
        _ = try await pair.bot.execute(hotel("inn"))
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.codes)
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute(room("b-1", in: "hill") + key("hill", "peak"))
        _ = try await pair.sync.execute("BEGIN;" + gone("hill") + gone("inn") + "COMMIT")
        let client = try await PostgresConnection.connect(ConnectionOptions(pair.environment["DATABASE_URL"] ?? ""))
        // As a foreign key does that a row is just made under.
        _ = try await client.execute("BEGIN; SELECT 1 FROM public.hotels WHERE code = 'inn' FOR KEY SHARE")
        worker = try await pair.startStreaming()
        try await waitUntil("the delete waits, decided") {
            try await pair.bot.execute("""
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM%hotels%' AND pid <> pg_backend_pid()
                """).firstValue == "1"
        }
        _ = try await pair.bot.execute("BEGIN;" + key("peak", "crag") + key("sea", "peak") + "COMMIT")
        _ = try await client.execute("COMMIT")
        await client.close()
        try await waitUntil("both sides know of the last key") {
            try await pair.values("SELECT string_agg(code, ' ' ORDER BY code) FROM hotels") == Array(repeating: "city crag peak", count: 2)
        }
        try await pair.waitUntilEqual(SplitReferenceTests.rooms, timeoutSeconds: 20)
        let rooms = try await pair.values(SplitReferenceTests.rooms)[0]
        #expect(rooms == "b-1 crag, r-2 city first, r-3 peak first, r-5 city first, r-6 peak first")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// A room that waits on bot for its hotel is deleted by sync; while that arrives, bot makes a room of the same key. On bot it
    /// stood, and sync took it for the one that it had deleted (seed 446892 of the model check).
    @Test func theKeyOfARowThatWaitsIsHeld() async throws {
        let pair = try await scenes.scene(onDelete: "delete", reference: "NOT NULL REFERENCES hotels")
        _ = try await pair.bot.execute(hotel("inn") + hotel("pub"))
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.codes)
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute("BEGIN; DELETE FROM rooms WHERE number IN ('r-1', 'r-4'); DELETE FROM hotels WHERE code = 'hill'; COMMIT")
        // What ends a hotel ends a group.
        _ = try await pair.sync.execute("BEGIN;" + room("s-1", in: "hill") + "DELETE FROM hotels WHERE code = 'pub'; COMMIT")
        _ = try await pair.sync.execute("BEGIN; DELETE FROM rooms WHERE number = 's-1'; DELETE FROM hotels WHERE code = 'inn'; COMMIT")
        let url = ConnectionOptions(pair.environment["DATABASE_URL"] ?? "")
        let (client, other) = (try await PostgresConnection.connect(url), try await PostgresConnection.connect(url))
        _ = try await client.execute("BEGIN; SELECT 1 FROM public.hotels WHERE code = 'inn' FOR KEY SHARE")
        worker = try await pair.startStreaming()
        func waiting(_ query: String) async throws -> Bool {
            try await pair.bot.execute("""
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '\(query)' AND pid <> pg_backend_pid()
                """).firstValue == "1"
        }
        try await waitUntil("the deletes wait, decided") { try await waiting("DELETE FROM%hotels%") }
        _ = try await other.execute("SET search_path = public")
        let insert = room("s-1", in: "sea")
        let inserted = Task { try await other.execute(insert) }
        try await waitUntil("bot's room is there, or waits") {
            if try await waiting("INSERT INTO rooms%") { return true }
            return try await pair.bot.execute("SELECT count(*) FROM rooms WHERE number = 's-1'").firstValue == "1"
        }
        _ = try await client.execute("COMMIT")
        _ = try await inserted.value
        for connection in [client, other] { await connection.close() }
        try await waitUntil("both sides know of bot's room") {
            try await pair.values("SELECT string_agg(number, ' ' ORDER BY number) FROM rooms")
                == Array(repeating: "r-2 r-3 r-5 r-6 s-1", count: 2)
        }
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// How many rooms each hotel has.
    private static let counts = """
        SELECT string_agg(concat_ws(' ', code, n), ', ' ORDER BY code)
        FROM (SELECT coalesce(h.code, '-') AS code, count(*) AS n FROM rooms r LEFT JOIN hotels h ON h.id = r."hotelId" GROUP BY 1) c
        """

    @Test func everyOneOfManyReferencesIsToldAgain() async throws {
        let pair = try await scenes.scene(onDelete: "keep")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute("""
            INSERT INTO rooms (number, "hotelId")
            SELECT 'b-' || n, (SELECT id FROM hotels WHERE code = 'sea') FROM generate_series(1, 10500) n
            """)
        _ = try await pair.sync.execute(gone("sea") + hotel("sea"))
        // Nobody else updates them.
        _ = try await pair.sync.execute("""
            CREATE TABLE public.told (number text PRIMARY KEY);
            CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              INSERT INTO public.told VALUES (NEW.number) ON CONFLICT DO NOTHING;
              RETURN NULL;
            END $$;
            CREATE TRIGGER tell AFTER UPDATE ON public.rooms FOR EACH ROW EXECUTE FUNCTION public.tell();
            ALTER TABLE public.rooms ENABLE ALWAYS TRIGGER tell
            """)
        worker = try await pair.startStreaming()
        try await waitUntil("every reference is told again", timeoutSeconds: 60) {
            try await pair.sync.execute("SELECT count(*) FROM told").firstValue == "10500"
        }
        try await waitUntil("every reference means nothing") {
            let counts = try await pair.values(Self.counts)
            return counts == Array(repeating: "- 10500, city 2, hill 2", count: 2)
        }
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }
}
