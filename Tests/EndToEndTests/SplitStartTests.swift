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
}
