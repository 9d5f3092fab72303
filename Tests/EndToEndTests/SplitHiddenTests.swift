import PostgresClient
import TestSupport
import Testing

/// A side that sends commits before it shows them, for longer than a moment: they wait for a standby.
@Suite struct SplitHiddenTests {
    private let scenes = SplitReferenceTests()
    private static let place = "SELECT h.code FROM rooms r JOIN hotels h ON h.id = r.\"hotelId\" WHERE number = 'b-1'"

    /// Commits on the bot's side what it does not show.
    ///
    /// - Returns: what ends once it does, when the worker has asked several times in vain.
    private func hide(_ write: String, on cluster: PostgresCluster, of pair: SplitPair) async throws -> Task<Void, any Error> {
        let url = pair.environment["DATABASE_URL"] ?? ""
        let hidden = Task {
            let writer = try await PostgresConnection.connect(ConnectionOptions(url))
            _ = try await writer.execute("SET synchronous_commit = on; SET search_path = public")
            _ = try await writer.execute("BEGIN; \(write) COMMIT")
            await writer.close()
        }
        try await waitUntil("it waits for the standby") {
            try await cluster.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'").rowCount > 0
        }
        var times: Set<String?> = []
        try await waitUntil("the worker asks whether it shows") {
            let asked = try await cluster.execute(
                "SELECT query_start::text FROM pg_stat_activity WHERE query LIKE '%pg_current_snapshot()%' AND pid <> pg_backend_pid()")
            for row in asked.rows { times.insert(row[0]) }
            return times.count > 5
        }
        return hidden
    }

    /// - Parameter isReferred: whether what refers to the row comes with it, or is written on the other side.
    @Test(arguments: [true, false]) func aRowThatTheSourceDoesNotShowYetIsReferredTo(isReferred: Bool) async throws {
        let cluster = try await PostgresCluster.startWithoutStandby()
        defer { cluster.remove() }
        let pair = try await scenes.scene(onDelete: "nullify", first: cluster)
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        let room = scenes.room("b-1", in: "inn")
        let hidden = try await hide("INSERT INTO hotels (code) VALUES ('inn'); \(isReferred ? room : "")", on: cluster, of: pair)
        // Else a service there would refer to it, and this side would look for the row in vain.
        #expect(try await pair.sync.query("SELECT 1 FROM hotels WHERE code = 'inn'").rowCount == 0)
        try await cluster.doWithoutStandby()
        try await hidden.value
        try await pair.waitUntilEqual(SplitReferenceTests.codes)
        if !isReferred { _ = try await pair.sync.execute(room) }
        try await waitUntil("both know where the room is") { try await pair.values(Self.place) == ["inn", "inn"] }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// - Parameter names: who is the standby: nobody who is there, or the worker itself, which waits for the commit.
    @Test(arguments: [("nobody", "wait for a synchronous standby"), ("*", "means Lindero's own stream")])
    func whoWaitsForTheSourceToShowSaysSoAndGoesOnByItself(names: String, words: String) async throws {
        let cluster = try await PostgresCluster.startWithoutStandby()
        defer { cluster.remove() }
        let pair = try await scenes.scene(onDelete: "nullify", first: cluster)
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        try await cluster.demandStandbys(names)
        let hidden = try await hide("INSERT INTO hotels (code) VALUES ('inn');", on: cluster, of: pair)
        let problem = "SELECT problem FROM lindero.direction WHERE name = 'bot->sync'"
        try await waitUntil("it says why it waits") { try await pair.sync.query(problem).firstValue?.contains(words) ?? false }
        try await cluster.doWithoutStandby()
        try await hidden.value
        try await pair.waitUntilEqual(SplitReferenceTests.codes)
        try await waitUntil("nothing is said any more") { try await pair.sync.query(problem).firstValue == nil }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// Rows of the side that hides a commit are held until it has been read past that.
    @Test func whoWaitsForTheSourceToShowStopsWhenTold() async throws {
        let cluster = try await PostgresCluster.startWithoutStandby()
        defer { cluster.remove() }
        let pair = try await scenes.scene(onDelete: "nullify", first: cluster)
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        // An applier waits for a row, and gets it when the side hides something already.
        _ = try await pair.bot.execute("BEGIN; UPDATE rooms SET notes = 'mine' WHERE number = 'r-1'")
        _ = try await pair.sync.execute("UPDATE rooms SET price = 7 WHERE number = 'r-1'")
        try await waitUntil("an applier waits for the row") {
            try await cluster.execute("SELECT 1 FROM pg_locks WHERE NOT granted").rowCount > 0
        }
        let hidden = try await hide("INSERT INTO hotels (code) VALUES ('inn');", on: cluster, of: pair)
        _ = try await pair.bot.execute("ROLLBACK")
        try await waitUntil("it holds it") {
            try await cluster.execute(
                "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND backend_xid IS NOT NULL").rowCount > 0
        }
        let problem = "SELECT problem FROM lindero.direction WHERE name = 'bot->sync'"
        try await waitUntil("it says why it waits") { try await pair.sync.query(problem).firstValue != nil }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        #expect(!worker.errors.contains("is given up"), "\(worker.errors)")
        #expect(try await pair.sync.query(problem).firstValue == nil)
        #expect(try await pair.sync.query("SELECT 1 FROM hotels WHERE code = 'inn'").rowCount == 0)
        try await cluster.doWithoutStandby()
        try await hidden.value
        let next = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.rooms)
        try await pair.waitUntilEqual(SplitReferenceTests.codes)
        next.terminate()
        #expect(try await next.wait() == 0, "\(next.errors)")
        await pair.remove()
    }
}
