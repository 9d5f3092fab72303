import Foundation
import PostgresClient
import ReplicationCore
import Synchronization
import TestSupport
import Testing

@testable import Replicator

/// From two databases back to one and its replica.
@Suite struct SplitEndTests {
    private struct Killed: Error {}

    /// What is left of a split, on either side.
    private static let left = """
        SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) || ' slots, '
          || (SELECT count(*) FROM pg_publication) || ' publications, ' || (SELECT count(*) FROM lindero.direction) || ' directions, '
          || (SELECT count(*) FROM lindero.direction WHERE causal_lsn IS NOT NULL) || ' of a split, '
          || (SELECT count(*) FROM lindero.sequence_split) || ' sequences'
        """

    @Test func anEndThatIsKilledBetweenAnyTwoStepsRunsAgain() async throws {
        let scene = try await MovingServices()
        let pair = scene.pair
        let (worker, transition) = try await scene.begin()
        _ = try await pair.sync.execute("INSERT INTO public.\"Reservas\" (\"bookingId\") VALUES ('late')")
        try await transition.drain()
        try await scene.follow(.nothing, worker, streams: [])
        // Written past every drain, by somebody who should not.
        _ = try await pair.sync.execute("UPDATE public.\"Reservas\" SET status = 99 WHERE \"bookingId\" = 'late'")
        let settings = try await scene.settings()
        // Twice before the transaction that counts, then after it: what is past is not done again, so each begins at its first.
        for limit in [1, 2, 3, 1, 2, 3, 4] {
            let step = Mutex(0)
            var end = SplitEnd(settings: settings, logger: MovingServices.logger)
            end.afterStep = { if step.withLock({ $0 += 1; return $0 }) == limit { throw Killed() } }
            await #expect(throws: Killed.self) { try await end.run() }
        }
        _ = try await SplitEnd(settings: settings, logger: MovingServices.logger).run()
        #expect(
            try await pair.values(Self.left) == [
                "1 slots, 1 publications, 0 directions, 0 of a split, 0 sequences", "0 slots, 0 publications, 1 directions, 0 of a split, 0 sequences",
            ])
        #expect(try await pair.bot.execute("SELECT status FROM public.\"Reservas\" WHERE \"bookingId\" = 'late'").firstValue == "99")
        try await scene.follow(.replica, worker, streams: ["bot->sync"])
        _ = try await pair.bot.execute("UPDATE public.\"Reservas\" SET status = 100, token = 5 WHERE \"bookingId\" IN ('late', 'b-1')")
        try await pair.waitUntilEqual(MovingServices.all)
        let numbers = "SELECT nextval('public.\"Reservas_id_seq\"'), nextval('public.\"Reservas_id_seq\"')"
        let row = try await pair.bot.execute(numbers).rows.first
        #expect(row?[1].flatMap { Int($0) } == row?[0].flatMap { Int($0) }.map { $0 + 1 })
        worker.kill9()
        await pair.remove()
    }

    /// What our own applier wrote there waits in the same log, and so may what has come home already.
    @Test func whatWaitsToComeBackIsCountedByTheServer() async throws {
        let scene = try await MovingServices()
        let pair = scene.pair
        let (worker, transition) = try await scene.begin()
        _ = try await pair.bot.execute("INSERT INTO public.\"Leads\" (name) SELECT 'ours ' || n FROM generate_series(1, 100) n")
        _ = try await pair.sync.execute("INSERT INTO public.\"HotelApart\" (name) SELECT 'home ' || n FROM generate_series(1, 100) n")
        try await transition.drain()
        try await scene.follow(.nothing, worker, streams: [])
        try await pair.waitUntilSlotsAreFree()
        let end = SplitEnd(settings: try await scene.settings(), logger: MovingServices.logger)
        #expect(try await end.remainder() == 0)
        _ = try await pair.sync.execute("INSERT INTO public.\"HotelApart\" (name) SELECT repeat('x', 100) FROM generate_series(1, 50000)")
        _ = try await pair.sync.execute("DELETE FROM public.\"Leads\" WHERE id <= 3")
        _ = try await pair.sync.execute("UPDATE public.\"HotelApart\" SET rooms = 1 WHERE id = 1")
        #expect(try await end.remainder() == 50_004)
        _ = try await end.run()
        #expect(try await pair.bot.execute("SELECT count(*) FROM public.\"HotelApart\" WHERE length(name) = 100").firstValue == "50000")
        worker.kill9()
        await pair.remove()
    }

    /// Somebody who writes on and on would lose it.
    @Test func aSplitDoesNotEndUnderAWriter() async throws {
        let scene = try await MovingServices()
        let pair = scene.pair
        let (worker, transition) = try await scene.begin()
        try await transition.drain()
        try await scene.follow(.nothing, worker, streams: [])
        let (isOver, hasBegun) = (Flag(), Flag())
        let writing = Task {
            let connection = try await PostgresConnection.connect(ConnectionOptions(pair.environment["SYNC_DATABASE_URL"] ?? ""))
            var count = 0
            while !isOver.isSet {
                count += 1
                _ = try await connection.execute("UPDATE public.\"Reservas\" SET status = \(count) WHERE \"bookingId\" = 'b-1'")
                hasBegun.set()
            }
            await connection.close()
            return count
        }
        try await waitUntil("it writes") { hasBegun.isSet }
        await #expect { try await SplitEnd(settings: try await scene.settings(), logger: MovingServices.logger).run() } throws: { error in
            (error as? ReplicationFailure)?.code == .splitWritten
        }
        isOver.set()
        let count = try await writing.value
        _ = try await SplitEnd(settings: try await scene.settings(), logger: MovingServices.logger).run()
        #expect(try await pair.bot.execute("SELECT status FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-1'").firstValue == "\(count)")
        worker.kill9()
        await pair.remove()
    }

    /// Numbers that each side gave by itself mean other rows on the other side: a replica has the origin's.
    @Test func tablesThatEachSideNumberedAreCopiedAnew() async throws {
        let scene = try await MovingServices(
            schema: """
                CREATE TABLE public.hotels (id serial PRIMARY KEY, code text NOT NULL UNIQUE, name text);
                CREATE TABLE public.rooms (number text PRIMARY KEY, "hotelId" int REFERENCES public.hotels, price int);
                """,
            tables: """
                  hotels: { match: [code], insert: [bot, sync], delete: [bot, sync], columns: { sync: [name] } }
                  rooms:
                    match: [number]
                    insert: [bot, sync]
                    delete: [bot, sync]
                    references: { hotelId: hotels }
                    on_delete: nullify
                    columns:
                      sync: [price]
                      shared: { hotelId: { policy: last_write } }

                """)
        let pair = scene.pair
        _ = try await pair.bot.execute("INSERT INTO public.hotels (code) VALUES ('sea'), ('hill')")
        let (worker, transition) = try await scene.begin()
        // Neither side has the other's hotel when it numbers its own.
        worker.pause()
        for (side, code) in [(pair.bot, "bay"), (pair.sync, "fog")] {
            _ = try await side.execute(
                "INSERT INTO public.hotels (code) VALUES ('\(code)'); "
                    + "INSERT INTO public.rooms (number, \"hotelId\") SELECT 'r-\(code)', id FROM public.hotels WHERE code = '\(code)'")
        }
        worker.resume()
        try await transition.drain()
        let rooms = "SELECT string_agg(concat_ws(' ', r.number, h.code), ', ' ORDER BY r.number) FROM public.rooms r JOIN public.hotels h ON h.id = r.\"hotelId\""
        #expect(try await pair.values(rooms) == ["r-bay bay, r-fog fog", "r-bay bay, r-fog fog"])
        let numbers = "SELECT string_agg(code || id, ' ' ORDER BY code) FROM public.hotels"
        let apart = try await pair.values(numbers)
        #expect(apart[0] != apart[1])
        try await scene.follow(.nothing, worker, streams: [])
        let emptied = try await SplitEnd(settings: try await scene.settings(), logger: MovingServices.logger).run()
        #expect(emptied.map(\.name) == ["hotels", "rooms"])
        try await scene.follow(.replica, worker, streams: ["bot->sync"])
        _ = try await pair.bot.execute("UPDATE public.rooms SET price = 7; INSERT INTO public.hotels (code) VALUES ('new')")
        try await pair.waitUntilEqual(numbers)
        try await pair.waitUntilEqual("SELECT string_agg(r::text, ' ' ORDER BY number) FROM public.rooms r")
        #expect(try await pair.values(rooms) == ["r-bay bay, r-fog fog", "r-bay bay, r-fog fog"])
        worker.kill9()
        await pair.remove()
    }
}
