import Foundation
import PostgresClient
import TestSupport
import Testing

/// A column that comes to the source while a replica with ownership rules streams.
@Suite struct NewColumnTests {
    private struct Hotel {
        let sourceURL: String
        let targetURL: String
        let source: PostgresConnection
        let target: PostgresConnection
        let folder: String

        init(columns: String) async throws {
            sourceURL = try await PostgresCluster.shared("source").createDatabase(prefix: "nc")
            targetURL = try await PostgresCluster.shared("target").createDatabase(prefix: "nc")
            source = try await PostgresConnection.connect(ConnectionOptions(sourceURL))
            target = try await PostgresConnection.connect(ConnectionOptions(targetURL))
            _ = try await source.execute("CREATE TABLE public.guest (id int PRIMARY KEY, name text); INSERT INTO public.guest VALUES (1, 'Ana')")
            folder = NSTemporaryDirectory() + "lindero-new-column-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try write(columns: columns)
        }

        func write(columns: String) throws {
            try """
                version: 1
                backend: replica
                databases:
                  bot: { url: env:DATABASE_URL }
                  sync: { url: env:SYNC_DATABASE_URL }
                origin: bot
                replication: { ddl: follow }
                tables:
                  guest: { insert: bot, delete: bot, columns: { bot: \(columns) } }

                """.write(toFile: folder + "/lindero.yaml", atomically: true, encoding: .utf8)
        }

        func run() throws -> RunningLindero {
            try LinderoProcess.start(
                ["run", "--http", "none"], environment: ["DATABASE_URL": sourceURL, "SYNC_DATABASE_URL": targetURL], folder: folder)
        }

        func waitUntilEqual() async throws {
            let sql = "SELECT count(*)::text || string_agg(to_jsonb(g)::text, ',' ORDER BY id) FROM public.guest g"
            try await waitUntil("both tables are equal") {
                let there = try? await target.execute(sql).firstValue
                return try await there == source.execute(sql).firstValue
            }
        }

        func remove() async throws {
            await target.close()
            _ = try await source.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
            await source.close()
            try? FileManager.default.removeItem(atPath: folder)
        }
    }

    @Test func itTravelsWhenTheRulesCoverIt() async throws {
        let hotel = try await Hotel(columns: "\"*\"")
        let worker = try hotel.run()
        try await worker.waitForErrors("streaming")
        try await hotel.waitUntilEqual()
        _ = try await hotel.source.execute(
            "ALTER TABLE public.guest ADD note text; INSERT INTO public.guest VALUES (2, 'Eva', 'late'); UPDATE public.guest SET note = 'too' WHERE id = 1")
        try await hotel.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await hotel.remove()
    }

    @Test func itWaitsForAnOwnerAndGoesOnOnceTheFileNamesOne() async throws {
        let hotel = try await Hotel(columns: "[id, name]")
        let worker = try hotel.run()
        try await worker.waitForErrors("streaming")
        try await hotel.waitUntilEqual()
        _ = try await hotel.source.execute("INSERT INTO public.guest VALUES (2, 'before')")
        _ = try await hotel.source.execute("ALTER TABLE public.guest ADD note text")
        _ = try await hotel.source.execute("INSERT INTO public.guest VALUES (3, 'Eva', 'late')")
        try await worker.waitForErrors("Column guest.note is new on the source, and nobody owns it yet.")
        let held = try await hotel.target.execute("SELECT string_agg(id::text, ',' ORDER BY id) FROM public.guest").firstValue
        #expect(held == "1,2")
        #expect(worker.child.exitCode == nil)
        try hotel.write(columns: "[id, name, note]")
        try await hotel.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await hotel.remove()
    }
}
