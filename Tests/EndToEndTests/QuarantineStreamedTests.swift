import Foundation
import PostgresClient
import TestSupport
import Testing

extension QuarantineTests {
    /// Pieces of a large transaction, of which a part was rolled back; prepared, all of it stands before the commit.
    @Test(arguments: [false, true]) func manyRefusedChangesOfAStreamedTransactionTakeOnePass(isPrepared: Bool) async throws {
        let pair = try await GuestPair(
            schema: Self.schema
                + "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET logical_decoding_work_mem = ''64kB''', current_database()); END $$",
            targetSchema: Self.schema + "ALTER TABLE public.guest ADD CONSTRAINT nobody_bad CHECK (name NOT LIKE 'bad %')",
            rule: "on_error: quarantine, columns: { bot: \"*\" }",
            ddl: "pause, streaming: \"on\", memory_limit: 16MB" + (isPrepared ? ", two_phase: true" : ""))
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        let starts = worker.errors.components(separatedBy: "streaming").count
        func insert(_ first: Int, _ last: Int) -> String {
            """
            INSERT INTO public.guest SELECT i, CASE WHEN i % 50 IN (7, 8) THEN 'bad ' ELSE '' END || repeat(md5(i::text), 100), 'ok'
            FROM generate_series(\(first), \(last)) i;
            """
        }
        for statement in [
            "BEGIN", insert(1, 2_000), "SAVEPOINT s", insert(2_001, 4_000), "ROLLBACK TO SAVEPOINT s", insert(4_001, 6_000),
        ] + (isPrepared ? ["PREPARE TRANSACTION 'guest'", "COMMIT PREPARED 'guest'"] : ["COMMIT"]) {
            _ = try await pair.source.execute(statement)
        }
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (10000, 'last', 'ok')")
        try await waitUntil("the rest went on", timeoutSeconds: 60) { try await name(10_000, on: pair) == "last" }
        try await waitUntil("the server has told that it streamed") {
            try await pair.source.query(
                "SELECT max(stream_txns)::text FROM pg_stat_replication_slots s JOIN pg_replication_slots r USING (slot_name) WHERE database = current_database()"
            ).firstValue ?? "0" != "0"
        }
        let sum = "SELECT count(*) || ' ' || sum(hashtext(g::text)::bigint) FROM public.guest g WHERE name NOT LIKE 'bad %'"
        #expect(try await pair.target.execute(sum).firstValue == pair.source.execute(sum).firstValue)
        let kept = try await pair.target.execute(
            "SELECT count(*) || ' ' || bool_and(p) FROM (SELECT position > lag(position, 1, -1::bigint) OVER (ORDER BY id) p FROM lindero.quarantine) q"
        ).firstValue
        #expect(kept == "160 true")
        // What is given up while it runs, and what cannot go in bulk, are passes of their own; not each refused change.
        #expect(worker.errors.components(separatedBy: "streaming").count <= starts + 3, "\(worker.errors)")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }
}
