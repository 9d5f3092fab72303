import PostgresClient
import TestSupport
import Testing

/// A source that sends commits before it shows them, for longer than a moment: they wait for a standby that is not there.
@Suite struct SplitHiddenTests {
    private let scenes = SplitReferenceTests()

    @Test func aRowThatTheSourceDoesNotShowYetIsReferredTo() async throws {
        let cluster = try await PostgresCluster.start()
        defer { cluster.remove() }
        let schema = """
            SET search_path = public;
            CREATE TABLE public.hotels (id serial PRIMARY KEY, code text NOT NULL UNIQUE, name text);
            CREATE TABLE public.rooms (number text PRIMARY KEY, "hotelId" int REFERENCES hotels, notes text, price int);
            ALTER TABLE hotels REPLICA IDENTITY FULL;
            ALTER TABLE rooms REPLICA IDENTITY FULL;
            """
        let pair = try await SplitPair(schema: schema, tables: SplitReferenceTests.tables(onDelete: "nullify"), first: cluster)
        _ = try await pair.bot.execute("INSERT INTO hotels (code) VALUES ('sea')")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(SplitReferenceTests.codes)
        try await cluster.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        try await cluster.execute("SELECT pg_reload_conf()")
        let url = pair.environment["DATABASE_URL"] ?? ""
        let hidden = Task { [scenes] in
            let writer = try await PostgresConnection.connect(ConnectionOptions(url))
            _ = try await writer.execute("SET synchronous_commit = on; SET search_path = public")
            _ = try await writer.execute("BEGIN; INSERT INTO hotels (code) VALUES ('inn');" + scenes.room("b-1", in: "inn") + "COMMIT")
        }
        try await waitUntil("it is waited for") {
            try await cluster.execute(
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_current_snapshot()%' AND pid <> pg_backend_pid()"
            ).rowCount > 0
        }
        #expect(try await pair.sync.query("SELECT 1 FROM rooms").rowCount == 0)
        try await cluster.execute("ALTER SYSTEM RESET synchronous_standby_names")
        try await cluster.execute("SELECT pg_reload_conf()")
        try await hidden.value
        try await pair.waitUntilEqual(SplitReferenceTests.codes)
        try await waitUntil("both know where the room is") { try await pair.values(SplitReferenceTests.rooms) == ["b-1 inn", "b-1 inn"] }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }
}
