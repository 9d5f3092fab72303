import Foundation
import PostgresClient
import TestSupport
import Testing

/// `lindero run` in shared mode: what it does to a database that others write.
@Suite struct ChangeFeedTests {
    /// A database of its own, and a plain session on it.
    private struct Shop {
        let url: String
        let session: PostgresConnection

        init(_ schema: String) async throws {
            url = try await PostgresCluster.shared("source").createDatabase(prefix: "feed")
            session = try await PostgresConnection.connect(ConnectionOptions(url))
            _ = try await session.execute(schema)
        }

        func run(_ arguments: [String] = ["--http", "none"]) throws -> RunningLindero {
            try LinderoProcess.start(["run"] + arguments, environment: ["DATABASE_URL": url])
        }

        func published() async throws -> [String?] {
            try await session.execute("SELECT tablename FROM pg_publication_tables ORDER BY 1").rows.map { $0[0] }
        }

        func remove() async throws {
            _ = try await session.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
            await session.close()
        }
    }

    @Test func tablesThatCannotBeFollowedAreNamedAndTheirWritersGoOn() async throws {
        let shop = try await Shop(
            """
            CREATE TABLE public.good (id int PRIMARY KEY, t text);
            CREATE TABLE public.keyless (a int, b text); INSERT INTO public.keyless VALUES (1, 'x');
            CREATE TABLE public.whole (a int); ALTER TABLE public.whole REPLICA IDENTITY FULL;
            CREATE UNLOGGED TABLE public.fleeting (id int PRIMARY KEY);
            CREATE TABLE public.parts (id int, d int) PARTITION BY LIST (d);
            CREATE TABLE public.part_1 PARTITION OF public.parts FOR VALUES IN (1); INSERT INTO public.parts VALUES (1, 1);
            """)
        let worker = try shop.run()
        try await worker.waitForErrors("following changes")
        #expect(try await shop.published() == ["good", "whole"])
        for table in ["keyless", "fleeting", "parts"] {
            #expect(worker.errors.contains("a table is not in the change feed") && worker.errors.contains("table=\(table)"))
        }
        _ = try await shop.session.execute("UPDATE public.keyless SET b = 'y'; DELETE FROM public.keyless; UPDATE public.parts SET id = 2")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        // A table that came, and one that was mended, are followed from the next start on.
        _ = try await shop.session.execute(
            "CREATE TABLE public.late (id int PRIMARY KEY); ALTER TABLE public.keyless REPLICA IDENTITY FULL; DROP TABLE public.good")
        let next = try shop.run()
        try await next.waitForErrors("following changes")
        #expect(try await shop.published() == ["keyless", "late", "whole"])
        next.terminate()
        #expect(try await next.wait() == 0)
        try await shop.remove()
    }

    @Test func tableOfAnotherOwnerIsLeftOut() async throws {
        let shop = try await Shop("CREATE TABLE public.theirs (id int PRIMARY KEY)")
        let role = "feeder_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        _ = try await shop.session.execute(
            """
            CREATE ROLE \(role) LOGIN REPLICATION; CREATE TABLE public.ours (id int PRIMARY KEY);
            ALTER TABLE public.ours OWNER TO \(role);
            DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO \(role)', current_database()); END $$;
            """)
        let worker = try LinderoProcess.start(
            ["run", "--http", "none"], environment: ["DATABASE_URL": shop.url.replacing("//postgres@", with: "//\(role)@")])
        try await worker.waitForErrors("following changes")
        #expect(try await shop.published() == ["ours"])
        #expect(worker.errors.contains("only its owner may publish it"))
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await shop.remove()
    }

    @Test func secondWorkerIsToldThatTheFeedIsTaken() async throws {
        let shop = try await Shop("CREATE TABLE public.good (id int PRIMARY KEY)")
        let first = try shop.run()
        try await first.waitForErrors("following changes")
        let second = try shop.run()
        try await second.waitForErrors("lost the change feed, trying again")
        #expect(try await second.wait(timeoutSeconds: 90) == 2)
        #expect(second.errors.contains("in use by another session"))
        first.terminate()
        #expect(try await first.wait() == 0)
        try await shop.remove()
    }

    @Test func statusPageIsServedWhileTheWorkerRuns() async throws {
        let shop = try await Shop("CREATE TABLE public.good (id int PRIMARY KEY)")
        let worker = try shop.run(["--http", "127.0.0.1:0"])
        try await worker.waitForErrors("status page")
        let line = try #require(worker.errors.split(separator: "\n").first { $0.contains("status page") })
        let port = try #require(UInt16(line.split(separator: ":").last?.dropLast() ?? ""))
        try await waitUntil("the status says streaming") {
            let body = try await RawHTTP.request("/status.json", port: port).body
            let status = try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any]
            let directions = status?["directions"] as? [[String: Any]]
            return directions?.first?["state"] as? String == "streaming"
        }
        #expect(try await RawHTTP.request("/health", port: port).status == 200)
        #expect(try await RawHTTP.request("/", port: port).body.contains("change feed"))
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await shop.remove()
    }
}
