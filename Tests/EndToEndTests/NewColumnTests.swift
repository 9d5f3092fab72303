import PostgresClient
import TestSupport
import Testing

/// A column that comes to the source while a replica with ownership rules streams.
@Suite struct NewColumnTests {
    private func makePair(columns: String) async throws -> GuestPair {
        try await GuestPair(
            schema: "CREATE TABLE public.guest (id int PRIMARY KEY, name text); INSERT INTO public.guest VALUES (1, 'Ana')",
            rule: rule(columns), ddl: "follow")
    }

    private func rule(_ columns: String) -> String { "columns: { bot: \(columns) }" }

    private func waitUntilEqual(_ pair: GuestPair) async throws {
        let sql = "SELECT count(*)::text || string_agg(to_jsonb(g)::text, ',' ORDER BY id) FROM public.guest g"
        try await waitUntil("both tables are equal") {
            let there = try? await pair.target.execute(sql).firstValue
            return try await there == pair.source.execute(sql).firstValue
        }
    }

    @Test func itTravelsWhenTheRulesCoverIt() async throws {
        let pair = try await makePair(columns: "\"*\"")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        try await waitUntilEqual(pair)
        _ = try await pair.source.execute(
            "ALTER TABLE public.guest ADD note text; INSERT INTO public.guest VALUES (2, 'Eva', 'late'); UPDATE public.guest SET note = 'too' WHERE id = 1")
        try await waitUntilEqual(pair)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    @Test func itWaitsForAnOwnerAndGoesOnOnceTheFileNamesOne() async throws {
        let pair = try await makePair(columns: "[id, name]")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        try await waitUntilEqual(pair)
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (2, 'before')")
        _ = try await pair.source.execute("ALTER TABLE public.guest ADD note text")
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (3, 'Eva', 'late')")
        try await worker.waitForErrors("Column guest.note is new on the source, and nobody owns it yet.")
        let held = try await pair.target.execute("SELECT string_agg(id::text, ',' ORDER BY id) FROM public.guest").firstValue
        #expect(held == "1,2")
        #expect(worker.child.exitCode == nil)
        try pair.write(rule: rule("[id, name, note]"), ddl: "follow")
        try await waitUntilEqual(pair)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }
}
