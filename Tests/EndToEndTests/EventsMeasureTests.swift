import Foundation
import PostgresClient
import TestSupport
import Testing

@Suite struct EventsMeasureTests {
    /// A database with a slot that has something in it.
    private struct Scene {
        let url: String
        let slot: String
        let database: PostgresConnection

        init() async throws {
            url = try await PostgresCluster.shared("source").createDatabase(prefix: "measure")
            slot = "m" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
            database = try await PostgresConnection.connect(ConnectionOptions(url))
            _ = try await database.execute(
                "CREATE TABLE public.guest (id int PRIMARY KEY, name text); CREATE TABLE public.room (id int PRIMARY KEY)")
            _ = try await database.execute("CREATE PUBLICATION p FOR ALL TABLES")
            _ = try await database.execute("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
        }

        func measure(_ more: [String] = []) async throws -> (code: Int32, json: [String: Any], errors: String) {
            let outcome = try await LinderoProcess.run(
                ["events", "measure", "--slot", slot, "--publication", "p", "--json"] + more,
                environment: ["DATABASE_URL": url])
            let json = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any] ?? [:]
            return (outcome.exitCode, json, outcome.errors)
        }

        func confirmed() async throws -> String? {
            try await database.query(
                "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", [.text(slot)]
            ).firstValue
        }
    }

    @Test func everythingInTheSlotIsCountedAndStaysThere() async throws {
        let scene = try await Scene()
        _ = try await scene.database.execute("INSERT INTO public.guest SELECT i, 'g' FROM generate_series(1, 500) i")
        _ = try await scene.database.execute("UPDATE public.guest SET name = 'h' WHERE id <= 20")
        _ = try await scene.database.execute("DELETE FROM public.guest WHERE id <= 3")
        _ = try await scene.database.execute("INSERT INTO public.room VALUES (1)")
        _ = try await scene.database.execute("TRUNCATE public.guest, public.room")
        let before = try await scene.confirmed()
        for _ in 0..<2 {
            let found = try await scene.measure()
            #expect(found.code == 0, "\(found.errors)")
            #expect(found.json["transactions"] as? Int == 5)
            #expect(found.json["changes"] as? Int == 500 + 20 + 3 + 1 + 1)
            #expect(found.json["fromLsn"] as? String == before)
            let tables = try #require(found.json["tables"] as? [[String: Any]])
            #expect(tables.map { $0["table"] as? String } == ["guest", "room"])
            #expect(tables.map { $0["inserts"] as? Int } == [500, 1])
            #expect(tables.map { $0["updates"] as? Int } == [20, 0])
            #expect(tables.map { $0["deletes"] as? Int } == [3, 0])
            #expect(tables.map { $0["truncations"] as? Int } == [1, 1])
        }
        #expect(try await scene.confirmed() == before)
        let slots = try await scene.database.query(
            "SELECT count(*)::text FROM pg_replication_slots WHERE database = current_database()")
        #expect(slots.firstValue == "1")
    }

    @Test func idleSlotIsEmptyAndItEnds() async throws {
        let scene = try await Scene()
        _ = try await scene.database.execute("CREATE TABLE public.later (id int)")
        let found = try await scene.measure()
        #expect(found.code == 0, "\(found.errors)")
        #expect(found.json["changes"] as? Int == 0)
    }

    @Test func itStopsAtThePositionThatWasAskedFor() async throws {
        let scene = try await Scene()
        _ = try await scene.database.execute("INSERT INTO public.room VALUES (1)")
        let end = try #require(try await scene.database.query("SELECT pg_current_wal_lsn()::text").firstValue)
        let writing = Task {
            var number = 1
            while !Task.isCancelled {
                number += 1
                _ = try await scene.database.execute("INSERT INTO public.room VALUES (\(number))")
            }
        }
        let found = try await scene.measure(["--until", end])
        writing.cancel()
        _ = await writing.result
        #expect(found.code == 0, "\(found.errors)")
        #expect((found.json["changes"] as? Int ?? 0) >= 1)
    }

    @Test func missingSlotIsToldWithWhatToRun() async throws {
        let scene = try await Scene()
        _ = try await scene.database.execute("SELECT pg_drop_replication_slot('\(scene.slot)')")
        let outcome = try await LinderoProcess.run(
            ["events", "measure", "--slot", scene.slot, "--publication", "p"], environment: ["DATABASE_URL": scene.url])
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("does not exist") && outcome.errors.contains("next:"), "\(outcome.errors)")
    }
}
