import PostgresClient
import TestSupport
import Testing

/// Two workers of one split.
@Suite struct SplitSecondWorkerTests {
    @Test func aSecondWorkerLeavesTheFirstOnesRecordAlone() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.notes (id int PRIMARY KEY, mine int, theirs int); CREATE TABLE public.later (id int PRIMARY KEY)",
            tables: "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id, mine], sync: [theirs] } }\n")
        let first = try await pair.startStreaming()
        let recorded = "SELECT concat_ws(' ', state, problem) FROM lindero.direction ORDER BY state LIMIT 1"
        try await waitUntil("it streams") { try await pair.sync.execute(recorded).firstValue == "streaming" }

        let second = try await pair.command(["run", "--http", "none"], timeoutSeconds: 120)
        #expect(second.exitCode == 2 && second.errors.contains("is in use by another session"), "\(second.errors)")
        #expect(try await pair.sync.execute(recorded).firstValue == "streaming")

        // Neither one that another file stops.
        try pair.write(
            tables: "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id, mine], sync: [theirs] } }\n"
                + "  later: { match: [id], insert: bot, delete: bot, columns: { bot: '*' } }\n")
        let third = try await pair.command(["run", "--http", "none"], timeoutSeconds: 120)
        #expect(third.exitCode == 2 && third.errors.contains("later"), "\(third.errors)")
        #expect(try await pair.sync.execute(recorded).firstValue == "streaming")
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        await pair.remove()
    }
}
