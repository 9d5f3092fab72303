import Foundation
import PostgresClient
import TestSupport
import Testing

/// What a person decides about a conflict, while the split runs.
@Suite struct SplitPersonTests {
    private static let table = "public.\"Reservas\""
    private static let names = """
        SELECT string_agg("guestName", ', ' ORDER BY "bookingId") FROM public."Reservas" WHERE "bookingId" IN ('b-1', 'b-2')
        """

    @Test func aDecisionReachesBothSidesAndTheLog() async throws {
        let pair = try await SplitPair(schema: SplitWorkerTests.schema, tables: SplitWorkerTests.tables)
        _ = try await pair.bot.execute("INSERT INTO \(Self.table) (\"bookingId\") SELECT 'b-' || i FROM generate_series(1, 9) i")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitWorkerTests.all)
        worker.kill9()
        _ = try await worker.wait()
        for (side, name) in [(pair.bot, "bot"), (pair.sync, "sync")] {
            _ = try await side.execute("UPDATE \(Self.table) SET \"guestName\" = '\(name)' WHERE \"bookingId\" IN ('b-1', 'b-2')")
        }
        worker = try await pair.startStreaming()
        try await waitUntil("sync has lost twice", timeoutSeconds: 60) {
            try await pair.bot.execute("SELECT 1 FROM lindero.conflict WHERE state = 'open'").rowCount == 2
        }
        try await pair.waitUntilEqual(SplitWorkerTests.all)
        #expect(try await pair.values(Self.names) == ["bot, bot", "bot, bot"])

        let list = try await pair.command(["conflicts", "list"])
        #expect(list.exitCode == 3 && list.output.contains("bot:1") && list.output.contains("bot:2"))
        let status = try await pair.command(["status"])
        #expect(status.output.contains("2 conflicts on bot wait for a person, the oldest for "))
        let document = try #require(
            try JSONSerialization.jsonObject(with: Data(try await pair.command(["status", "--json"]).output.utf8)) as? [String: Any])
        let queues = try #require(document["conflicts"] as? [[String: Any]])
        let waiting = try #require(queues.first { $0["open"] as? Int == 2 })
        #expect(try #require(waiting["oldestAgeSeconds"] as? Double) > 0)

        // Decided while both sides go on writing.
        let one = try #require(
            try await pair.bot.execute("SELECT id FROM lindero.conflict WHERE row_key ->> 'bookingId' = 'b-1'").firstValue)
        let two = one == "1" ? "2" : "1"
        #expect(try await pair.command(["conflicts", "resolve", "bot:\(one)", "--take", "sync"]).exitCode == 0)
        _ = try await pair.sync.execute("UPDATE \(Self.table) SET visits = visits + 1")
        #expect(try await pair.command(["conflicts", "resolve", "bot:\(two)", "--take", "Grace Hopper"]).exitCode == 0)
        try await waitUntil("sync has what was decided", timeoutSeconds: 60) {
            try await pair.sync.execute(Self.names).firstValue == "sync, Grace Hopper"
        }
        try await pair.waitUntilEqual(SplitWorkerTests.all)
        #expect(try await pair.values(Self.names) == ["sync, Grace Hopper", "sync, Grace Hopper"])
        let log = """
            SELECT coalesce(string_agg(concat_ws(' ', row_key ->> 'bookingId', state, resolution, resolved_at IS NOT NULL), ', '
              ORDER BY row_key ->> 'bookingId'), 'nothing') FROM lindero.conflict
            """
        // Nobody wrote against it: a decision is no new conflict, on either side.
        #expect(try await pair.values(log) == ["b-1 resolved take sync t, b-2 resolved value t", "nothing"])
        #expect(try await pair.command(["conflicts", "list"]).exitCode == 0)
        #expect(try await !pair.command(["status"]).output.contains("wait for a person"))
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }
}
