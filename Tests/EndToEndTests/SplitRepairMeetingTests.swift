import Foundation
import PostgresClient
import Synchronization
import TestSupport
import Testing

@testable import Replicator

/// A row that one side lacks is made there while its own side's service writes it.
@Suite struct SplitRepairMeetingTests {
    /// On one side a transaction that makes a row ends only when nobody holds the row's number.
    private static let slowEnd = """
        CREATE FUNCTION public.end_late() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN PERFORM pg_advisory_xact_lock(NEW.id); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER end_late AFTER INSERT ON public.stays DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION public.end_late();
        ALTER TABLE public.stays ENABLE ALWAYS TRIGGER end_late;
        """
    private static let all = "SELECT string_agg(id || ' ' || note, ', ' ORDER BY id) FROM public.stays"
    private static let tables = """
          stays: { match: [id], insert: bot, delete: bot, columns: { bot: [id, note], sync: [seen] } }

        """

    @Test func whatItsSideDoesToARowWhileItIsMadeComesAfterIt() async throws {
        let pair = try await SplitPair(schema: "CREATE TABLE public.stays (id int PRIMARY KEY, note text, seen date)", tables: Self.tables)
        let worker = try await pair.startStreaming()
        try await SplitRepairTests.plant(pair.bot, "INSERT INTO public.stays VALUES (1, 'old'), (2, 'old'), (3, 'old')")
        _ = try await pair.sync.execute(Self.slowEnd + "; SELECT pg_advisory_lock(1), pg_advisory_lock(2)")
        let repair = try pair.start(["verify", "--repair", "--execute"])
        let service = try await PostgresConnection.connect(ConnectionOptions(pair.environment["DATABASE_URL"] ?? ""))
        for (row, sql) in [(1, "UPDATE public.stays SET note = 'new' WHERE id = 1"), (2, "DELETE FROM public.stays WHERE id = 2")] {
            try await waitUntil("the repair's transaction is about to end") {
                try await pair.sync.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = \(row) AND NOT granted").rowCount > 0
            }
            let isDone = Mutex(false)
            async let write: Void = {
                _ = try await service.execute(sql)
                isDone.withLock { $0 = true }
            }()
            try await waitUntil("the write waits for the repair, or is done") {
                if isDone.withLock({ $0 }) { return true }
                return try await pair.bot.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").rowCount > 0
            }
            if isDone.withLock({ $0 }) {
                // It meets no row on the other side.
                _ = try await MarkerWait(direction: "bot->sync", source: pair.bot, target: pair.sync).pass()
            }
            _ = try await pair.sync.execute("SELECT pg_advisory_unlock(\(row))")
            try await write
        }
        let outcome = try await repair.wait()
        #expect(outcome == 0, "\(repair.errors)")
        try await pair.waitUntilEqual(Self.all, timeoutSeconds: 10)
        #expect(try await pair.values(Self.all) == ["1 new, 3 old", "1 new, 3 old"])
        await service.close()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }
}
