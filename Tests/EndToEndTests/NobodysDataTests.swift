import PostgresClient
import TestSupport
import Testing

/// Errors of the target that no row has caused, where `on_error: quarantine` lets rows be set aside.
@Suite struct NobodysDataTests {
    private static let schema = "CREATE TABLE public.guest (id int PRIMARY KEY, name text);"

    private func makePair() async throws -> GuestPair {
        try await GuestPair(
            schema: Self.schema, targetSchema: Self.schema, rule: "on_error: quarantine, columns: { bot: \"*\" }")
    }

    /// A trigger that fires for replicated rows and raises, as the server itself would.
    private func raise(_ code: String, on pair: GuestPair) async throws {
        _ = try await pair.target.execute(
            """
            CREATE OR REPLACE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql
              AS $$BEGIN IF NEW.name = 'bad' THEN RAISE 'as wanted' USING ERRCODE = '\(code)'; END IF; RETURN NEW; END$$;
            DROP TRIGGER IF EXISTS fail ON public.guest;
            CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON public.guest FOR EACH ROW EXECUTE FUNCTION public.fail();
            ALTER TABLE public.guest ENABLE ALWAYS TRIGGER fail
            """)
    }

    @Test(arguments: ["58030", "XX000", "42501", "42883", "0A000", "25006"])
    func stopTheDirectionInsteadOfSettingARowAside(code: String) async throws {
        let pair = try await makePair()
        try await raise(code, on: pair)
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (1, 'Ana'); INSERT INTO public.guest VALUES (2, 'bad')")
        #expect(try await worker.wait() == 1)
        #expect(worker.errors.contains("SQLSTATE class \(code.prefix(2))"), "\(worker.errors)")
        #expect(worker.errors.contains(code), "\(worker.errors)")
        #expect(worker.errors.contains(code.hasPrefix("42") ? "`lindero check`" : "`lindero run`"), "\(worker.errors)")
        #expect(try await pair.target.execute("SELECT count(*) FROM lindero.quarantine").firstValue == "0")
        // What came before is there; once it is mended, the rest.
        _ = try await pair.target.execute("DROP TRIGGER fail ON public.guest")
        let second = try pair.run()
        try await waitUntil("it goes on") { try await pair.target.execute("SELECT count(*) FROM public.guest").firstValue == "2" }
        second.terminate()
        #expect(try await second.wait() == 0)
        try await pair.remove()
    }

    @Test(arguments: ["22000", "23514", "44000", "P0001", "54000", "U0001", "99999"])
    func whatARowMayCauseIsSetAside(code: String) async throws {
        let pair = try await makePair()
        try await raise(code, on: pair)
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (1, 'bad'); INSERT INTO public.guest VALUES (2, 'Ana')")
        try await waitUntil("the rest went on") { try await pair.target.execute("SELECT string_agg(id::text, ',') FROM public.guest").firstValue == "2" }
        #expect(try await pair.target.execute("SELECT sqlstate FROM lindero.quarantine").firstValue == code)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    @Test func aCancelledStatementIsTriedAgain() async throws {
        let pair = try await makePair()
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        // The applier waits for this lock, and is cancelled while it does.
        _ = try await pair.target.execute("BEGIN; LOCK TABLE public.guest")
        _ = try await pair.source.execute("INSERT INTO public.guest VALUES (1, 'Ana')")
        try await waitUntil("a statement was cancelled") {
            try await pair.target.execute(
                """
                SELECT count(pg_cancel_backend(pid)) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                WHERE NOT granted AND relation = 'public.guest'::regclass AND datname = current_database()
                """).firstValue != "0"
        }
        try await worker.waitForErrors("trying again")
        _ = try await pair.target.execute("COMMIT")
        try await waitUntil("the row is there") { try await pair.target.execute("SELECT count(*) FROM public.guest").firstValue == "1" }
        #expect(try await pair.target.execute("SELECT count(*) FROM lindero.quarantine").firstValue == "0")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }
}
