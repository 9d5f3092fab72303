import TestSupport
import Testing

@Suite struct SplitPartitionTests {
    private static let rooms = "SELECT string_agg(r::text, E'\\n' ORDER BY hotel, id) FROM public.rooms r"

    /// What was one row's update on the side that changed the key is a delete and an insert on the other one.
    @Test func aKeyChangeMayMoveItsRowWhereTheOtherSideHasPartitions() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.rooms (hotel text, id int, remark text, state text, PRIMARY KEY (hotel, id))",
            tables: """
                  rooms: { match: [hotel, id], insert: bot, delete: bot, columns: { bot: [hotel, id, remark], sync: [state] } }

                """)
        _ = try await pair.sync.execute(
            """
            DROP TABLE public.rooms;
            CREATE TABLE public.rooms (hotel text, id int, remark text, state text, PRIMARY KEY (hotel, id)) PARTITION BY LIST (hotel);
            CREATE TABLE public.rooms_a PARTITION OF public.rooms FOR VALUES IN ('a');
            CREATE TABLE public.rooms_b PARTITION OF public.rooms FOR VALUES IN ('b');
            ALTER TABLE public.rooms REPLICA IDENTITY FULL;
            ALTER TABLE public.rooms_a REPLICA IDENTITY FULL;
            ALTER TABLE public.rooms_b REPLICA IDENTITY FULL;
            """)
        var worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("INSERT INTO public.rooms VALUES ('a', 1, 'r')")
        try await pair.waitUntilEqual(Self.rooms)
        _ = try await pair.sync.execute("UPDATE public.rooms SET state = 'clean'")
        try await pair.waitUntilEqual(Self.rooms)

        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        _ = try await pair.bot.execute("UPDATE public.rooms SET hotel = 'b'")
        _ = try await pair.sync.execute("UPDATE public.rooms SET state = 'dirty'")
        worker = try await pair.startStreaming()
        try await waitUntil("the owner's value has gone along") {
            try await pair.values(Self.rooms) == ["(b,1,r,dirty)", "(b,1,r,dirty)"]
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }
}
