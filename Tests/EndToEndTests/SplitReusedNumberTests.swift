import TestSupport
import Testing

/// A number that a row gives up, and that another row takes on the same side, before the other side has seen either.
@Suite struct SplitReusedNumberTests {
    private let scenes = SplitReferenceTests()

    /// How a row gives up its number.
    enum Way: String, CaseIterable, Sendable {
        case deleted, renumbered
    }

    /// - Parameter after: what is written between.
    private func reuse(_ code: String, _ way: Way = .deleted, by newCode: String, after: String = "") -> String {
        let end =
            switch way {
            case .deleted: "DELETE FROM hotels WHERE code = '\(code)';"
            case .renumbered: "UPDATE hotels SET id = id + 100 WHERE code = '\(code)';"
            }
        return "CREATE TEMP TABLE number AS SELECT id FROM hotels WHERE code = '\(code)'; BEGIN;" + after + end + "COMMIT;"
            + "INSERT INTO hotels (id, code) SELECT id, '\(newCode)' FROM number; DROP TABLE number;"
    }

    /// Notes what readers of a side could see: each hotel that a room of the other side has been in, as of commits.
    private func watch(_ side: SplitPair) async throws {
        _ = try await side.bot.execute("""
            CREATE TABLE public.seen (n serial, what text UNIQUE);
            CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              INSERT INTO public.seen (what) SELECT concat(r.number, ' ', coalesce(h.code, '-')) FROM public.rooms r
              LEFT JOIN public.hotels h ON h.id = r."hotelId" WHERE r.number = NEW.number AND r.number LIKE 's-%' ON CONFLICT DO NOTHING;
              RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER see AFTER INSERT OR UPDATE ON public.rooms DEFERRABLE INITIALLY DEFERRED
              FOR EACH ROW EXECUTE FUNCTION public.see();
            ALTER TABLE public.rooms ENABLE ALWAYS TRIGGER see
            """)
    }

    private static let seen = "SELECT string_agg(what, ', ' ORDER BY n) FROM public.seen"

    /// Without a foreign key nobody looks after the rows that refer to it but `on_delete`.
    @Test(arguments: ["nullify", "delete"])
    func aReferenceEndsWithItsRowThoughAnotherOneHasItsNumber(onDelete: String) async throws {
        let pair = try await scenes.scene(onDelete: onDelete, reference: "")
        let rooms = try await scenes.meet(
            pair, bot: "INSERT INTO hotels (code) VALUES ('lake')",
            sync: scenes.room("s-1", in: "hill") + "COMMIT;" + reuse("hill", by: "lake") + scenes.room("s-2", in: "lake"))
        let (first, fourth, own) = onDelete == "delete" ? ("", "", "") : ("r-1 - first, ", "r-4 - first, ", "s-1 -, ")
        // What refers to the new row has come to do so since: on_delete has met all that refers to the old one.
        #expect(
            rooms == first + "r-2 city first, r-3 sea first, " + fourth + "r-5 city first, r-6 sea first, " + own + "s-2 lake")
        await pair.remove()
    }

    @Test(arguments: ["nullify", "delete", "keep"], Way.allCases)
    func nobodySeesAReferenceToARowThatTookTheNumberLater(onDelete: String, way: Way) async throws {
        let pair = try await scenes.scene(onDelete: onDelete, reference: "REFERENCES hotels ON UPDATE CASCADE")
        try await watch(pair)
        let leave = way == .renumbered ? "" : "UPDATE rooms SET \"hotelId\" = (SELECT id FROM hotels WHERE code = 'sea') "
            + "WHERE \"hotelId\" = (SELECT id FROM hotels WHERE code = 'hill');"
        let rooms = try await scenes.meet(
            pair, bot: "INSERT INTO hotels (code) VALUES ('lake')",
            // A transaction that ends a hotel is the last of those that are applied together.
            sync: "BEGIN;" + scenes.room("s-1", in: "hill") + scenes.move("r-2", to: "sea") + scenes.move("r-5", to: "sea")
                + "DELETE FROM hotels WHERE code = 'city'; COMMIT;" + reuse("hill", way, by: "lake", after: leave)
                + scenes.room("s-2", in: "lake"))
        let left = way == .renumbered ? "hill" : "sea"
        #expect(
            rooms == "r-1 \(left) first, r-2 sea first, r-3 sea first, r-4 \(left) first, r-5 sea first, r-6 sea first, s-1 \(left), "
                + "s-2 lake")
        let moved = way == .renumbered ? "" : "s-1 sea, "
        #expect(try await pair.bot.execute(Self.seen).firstValue == "s-1 hill, " + moved + "s-2 lake")
        await pair.remove()
    }

    /// The row is deleted by the other side, whose delete comes in before its number is used again.
    @Test(arguments: ["nullify", "delete", "keep"])
    func aNumberThatTheOtherSidesDeleteHasFreedIsAnotherRows(onDelete: String) async throws {
        let pair = try await scenes.scene(onDelete: onDelete)
        try await watch(pair)
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.sync.execute(
            "CREATE TABLE number AS SELECT id FROM hotels WHERE code = 'hill'; INSERT INTO hotels (code) VALUES ('port'); BEGIN;"
                + scenes.move("r-2", to: "sea") + scenes.move("r-5", to: "sea") + "DELETE FROM hotels WHERE code = 'city'; COMMIT; BEGIN;"
                + scenes.room("s-1", in: "hill") + "DELETE FROM hotels WHERE code = 'port'; COMMIT")
        _ = try await pair.bot.execute(
            "INSERT INTO hotels (code) VALUES ('lake');" + scenes.move("r-1", to: "sea") + scenes.move("r-4", to: "sea")
                + "DELETE FROM hotels WHERE code = 'hill'")
        // What sync has written comes to bot when bot's delete has come to sync, and the number is used again there: a
        // transaction that ends a hotel is the last of those that are applied together.
        _ = try await pair.bot.execute("BEGIN; SELECT 1 FROM hotels WHERE code = 'city' FOR UPDATE")
        worker = try await pair.startStreaming()
        try await waitUntil("bot's delete is on sync") {
            try await pair.sync.execute("SELECT string_agg(code, ' ') FROM hotels WHERE code IN ('hill', 'lake')").firstValue == "lake"
        }
        // With keep its service sees to it that no reference is left to the number that it uses again.
        _ = try await pair.sync.execute(
            "UPDATE rooms SET \"hotelId\" = NULL WHERE \"hotelId\" = (SELECT id FROM number);"
                + "INSERT INTO hotels (id, code) SELECT id, 'pond' FROM number;" + scenes.room("s-2", in: "pond"))
        _ = try await pair.bot.execute("INSERT INTO hotels (code) VALUES ('pond')")
        _ = try await pair.bot.execute("COMMIT")
        try await waitUntil("bot has sync's last room") {
            try await pair.bot.execute("SELECT count(*) FROM rooms WHERE number = 's-2'").firstValue == "1"
        }
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        let own = onDelete == "delete" ? "" : "s-1 -, "
        #expect(
            try await pair.values(SplitReferenceTests.rooms)[0]
                == "r-1 sea first, r-2 sea first, r-3 sea first, r-4 sea first, r-5 sea first, r-6 sea first, \(own)s-2 pond")
        let seen = try await pair.bot.execute(Self.seen).firstValue ?? ""
        #expect(!seen.contains("s-1 pond") && seen.hasSuffix("s-2 pond"), "\(seen)")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }
}
