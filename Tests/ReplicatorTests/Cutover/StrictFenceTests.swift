import Foundation
import PostgresClient
import ReplicationCore
import Synchronization
import TestSupport
import Testing

@testable import Replicator

@Suite(.timeLimit(.minutes(4)))
struct StrictFenceTests {
    private static func isBlocked(_ scene: MoveScene, _ role: String) async throws -> Bool {
        try await scene.bot.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1 AND cardinality(pg_blocking_pids(pid)) > 0",
            [.text(role)], parameterTypes: [25]
        ).firstValue != "0"
    }

    private static let count = "SELECT count(*) FROM public.\"Reservas\""

    @Test func nobodyWritesTheOldSideBehindTheFenceAndNobodyElseFails() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let through = LiveWriter("through", try await scene.client())
        let other = LiveWriter("other", try await scene.client(scene.botRole, direct: true))
        let superuser = LiveWriter("superuser", try await PostgresConnection.connect(scene.botOptions))
        for writer in [through, other, superuser] { try await writer.advance() }
        let seen = Mutex((rows: [String?](), acknowledged: [Int]()))
        let move = try scene.move(fence: .strict) { side in
            #expect(side == "bot")
            // A row that were written now would be in the second count and not in the first.
            for _ in 0..<2 {
                let rows = try await scene.bot.execute(Self.count).firstValue
                try await waitUntil("writers wait") { try await Self.isBlocked(scene, scene.botRole) }
                seen.withLock { $0.rows.append(rows) }
            }
        }
        let figures = try await scene.run(move)
        for writer in [through, other, superuser] { try await writer.advance() }
        for writer in [through, other, superuser] {
            await writer.stop()
            #expect(writer.failures == [])
        }
        let rows = seen.withLock { $0.rows }
        #expect(rows.count == 2 && rows[0] == rows[1])
        #expect(figures.longestFenceMilliseconds > 0 && figures.longestPauseMilliseconds > 0)
        #expect(try await scene.counts("through").sync > 0)
        #expect(try await scene.counts("other").sync + scene.counts("superuser").sync == 0)
        let events = scene.events.withLock { $0 }
        let probed = events.compactMap { if case .probed(let roles, let untried) = $0 { (roles, untried) } else { nil } }
        #expect(probed.first.map { $0.0.contains(scene.botRole) && $0.0.contains(scene.syncRole) && $0.0.contains("postgres") } == true)
        #expect(probed.first?.1.filter { [scene.botRole, scene.syncRole].contains($0) } == [])
        #expect(events.contains { if case .writers(let roles) = $0 { roles.contains { $0.name == "postgres" && $0.isSuperuser } } else { false } })
        await scene.close()
    }

    @Test func aWriteOfTheMovedServiceThatWaitsAtTheFenceIsRefusedAndNeverOnTheOldSide() async throws {
        let scene = try await MoveScene()
        let direct = try await scene.client()
        let late = Mutex<Task<String, Never>?>(nil)
        let other = try await scene.client(scene.botRole)
        let waits = Mutex<Task<String, Never>?>(nil)
        let move = try scene.move(fence: .strict) { _ in
            func write(_ connection: PostgresConnection, _ id: Int) -> Task<String, Never> {
                Task {
                    do {
                        _ = try await connection.execute("INSERT INTO public.leads VALUES (\(id), 1)")
                        return "written"
                    } catch {
                        return (error as? PostgresError)?.sqlState?.rawValue ?? "lost"
                    }
                }
            }
            late.withLock { $0 = write(direct, 1) }
            waits.withLock { $0 = write(other, 2) }
            for role in [scene.syncRole, scene.botRole] {
                try await waitUntil("\(role) waits at the fence") { try await Self.isBlocked(scene, role) }
            }
        }
        try await scene.run(move)
        let outcome = await late.withLock { $0 }?.value
        #expect(outcome == "25006" || outcome == "57P01", "\(outcome ?? "")")
        #expect(await waits.withLock { $0 }?.value == "written")
        #expect(try await scene.bot.execute("SELECT string_agg(id::text, ',') FROM public.leads").firstValue == "2")
        for connection in [direct, other] { await connection.close() }
        await scene.close()
    }

    @Test func theOldSideRefusesTheServiceFromThenOnAndTakesItBackOnTheWayBack() async throws {
        let scene = try await MoveScene()
        try await scene.run(try scene.move(fence: .strict))
        let writes = [
            "INSERT INTO public.leads VALUES (1, 1)", "UPDATE public.leads SET v = 2", "DELETE FROM public.leads",
            "INSERT INTO public.nights_early VALUES (1, 1)", "INSERT INTO public.nights VALUES (1, 2)",
            "COPY public.leads FROM PROGRAM 'true'",
        ]
        for sql in writes.dropLast() { #expect(try await scene.attempt(sql) == "25006", "\(sql)") }
        #expect(try await scene.attempt("INSERT INTO public.leads VALUES (1, 1)", on: scene.syncOptions) == "written")
        #expect(try await scene.attempt("INSERT INTO public.leads VALUES (1, 1)", scene.botRole) == "written")
        // Acting as another role makes it no other service; what replication applies is no service.
        _ = try await scene.bot.execute("GRANT \(scene.botRole) TO \(scene.syncRole)")
        #expect(try await scene.attempt("SET ROLE \(scene.botRole); DELETE FROM public.leads") == "25006")
        _ = try await scene.bot.execute("SET session_replication_role = replica; SET ROLE \(scene.syncRole); INSERT INTO public.leads VALUES (3, 1); RESET ROLE; RESET session_replication_role")

        // Again finds that it has moved; back takes the refusal away here, and puts it there.
        let again = try await scene.run(try scene.move(fence: .strict))
        #expect(again.longestFenceMilliseconds == 0)
        try await scene.run(try scene.move(back: true, fence: .strict))
        for sql in writes.dropLast() where !sql.contains("leads VALUES") { #expect(try await scene.attempt(sql) == "written", "\(sql)") }
        #expect(try await scene.attempt("DELETE FROM public.leads", on: scene.syncOptions) == "25006")
        // A move without a fence takes it away, too.
        try await scene.run(try scene.move())
        #expect(try await scene.attempt("DELETE FROM public.leads", on: scene.syncOptions) == "written")
        let left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'lindero_moved%'"
        #expect(try await scene.bot.execute(left).firstValue == "0")
        #expect(try await scene.sync.execute(left).firstValue == "0")
        await scene.close()
    }

    /// What a foreign key cascades runs as the table's owner, and some functions as theirs: whose write it is, the session says.
    @Test func whatAnotherServiceWritesByWayOfTheMovedOnesTablesIsItsOwn() async throws {
        let scene = try await MoveScene()
        let (sync, bot) = (scene.syncRole, scene.botRole)
        _ = try await scene.bot.execute(
            """
            CREATE TABLE public.hotels (id int PRIMARY KEY); INSERT INTO public.hotels VALUES (1), (2);
            GRANT SELECT, DELETE ON public.hotels TO \(bot);
            ALTER TABLE public.leads ADD FOREIGN KEY (v) REFERENCES public.hotels ON DELETE CASCADE, OWNER TO \(sync);
            INSERT INTO public.leads VALUES (1, 1), (2, 2);
            CREATE FUNCTION public.note(int) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO public.leads VALUES ($1, 2)';
            ALTER FUNCTION public.note(int) OWNER TO \(sync);
            """)
        try await scene.run(try scene.move(fence: .strict))
        #expect(try await scene.attempt("DELETE FROM public.hotels WHERE id = 1", bot) == "written")
        #expect(try await scene.attempt("SELECT public.note(7)", bot) == "written")
        #expect(try await scene.bot.execute("SELECT string_agg(id::text, ',' ORDER BY id) FROM public.leads").firstValue == "2,7")
        for sql in ["INSERT INTO public.leads VALUES (9, 2)", "SELECT public.note(8)"] {
            #expect(try await scene.attempt(sql) == "25006", "\(sql)")
        }
        _ = try await scene.bot.execute("GRANT \(sync) TO \(bot)")
        #expect(try await scene.attempt("SET ROLE \(sync); INSERT INTO public.leads VALUES (9, 2)", bot) == "25006")
        await scene.close()
    }

    @Test func aFenceThatDoesNotHoldIsFoundByTheCanaryAndNothingMoves() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        var move = try scene.move(fence: .strict)
        move.fenceLockMode = "ACCESS SHARE"
        let writer = LiveWriter("w", try await scene.client())
        try await writer.advance()
        do {
            let error = try #require(await scene.failure(move), "it was moved")
            guard case .fencePassed("bot", _, _) = error else { throw error }
        }
        try await writer.advance()
        await writer.stop()
        #expect(writer.failures == [])
        #expect(try await scene.counts("w").sync == 0)
        #expect(try scene.entries() == scene.entriesBefore)
        await scene.close()
    }

    @Test func aFenceWhoseSessionDiesIsLiftedByTheServerAndTheServiceStays() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let writer = LiveWriter("w", try await scene.client())
        let other = LiveWriter("other", try await scene.client(scene.botRole, direct: true))
        for writer in [writer, other] { try await writer.advance() }
        let move = try scene.move(fence: .strict) { _ in
            _ = try await scene.bot.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_locks
                WHERE mode = 'ShareRowExclusiveLock' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                """)
        }
        do {
            let error = try #require(await scene.failure(move), "it was moved")
            guard case .server("bot", _) = error else { throw error }
        }
        for writer in [writer, other] { try await writer.advance() }
        for writer in [writer, other] {
            await writer.stop()
            #expect(writer.failures == [])
        }
        #expect(try await scene.counts("w").sync == 0)
        #expect(try await scene.bot.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'lindero_moved%'").firstValue == "0")
        await scene.close()
    }

    @Test func theServerLiftsAFenceThatIsOlderThanItsDeadline() async throws {
        let scene = try await MoveScene()
        let fence = try await LockFence.open(scene.botOptions, tables: MoveScene.tables)
        #expect(try await fence.take(limitMilliseconds: 5_000, lifeMilliseconds: Int(patient(.seconds(1)) / .milliseconds(1))))
        let writer = LiveWriter("w", try await scene.client())
        try await writer.advance()
        await writer.stop()
        #expect(writer.failures == [])
        await #expect(throws: PostgresError.self) { try await fence.lift() }
        await scene.close()
    }

    @Test func whatIsNotDrainedInTimeIsNotMoved() async throws {
        let scene = try await MoveScene()
        let move = try scene.move(fence: .strict, seconds: 5) { _ in try await Task.sleep(for: .seconds(600)) }
        do {
            let error = try #require(await scene.failure(move), "it was moved")
            guard case .notDrained("bot", _, nil) = error else { throw error }
        }
        let writer = LiveWriter("w", try await scene.client())
        try await writer.advance()
        await writer.stop()
        await scene.close()
    }

    @Test func aWriterThatHoldsItsTransactionIsNamedAndOthersWriteMeanwhile() async throws {
        let scene = try await MoveScene()
        let long = try await scene.client(scene.botRole)
        _ = try await long.execute("BEGIN; INSERT INTO public.leads VALUES (1, 1)")
        let other = LiveWriter("other", try await scene.client(scene.botRole))
        try await other.advance()
        let before = other.acknowledged
        do {
            let error = try #require(await scene.failure(try scene.move(fence: .strict, seconds: patient(.seconds(2)) / .seconds(1))), "it was moved")
            guard case .notHeld(_, "bot", _, let sessions) = error else { throw error }
            #expect(sessions.contains { $0.role == scene.botRole && $0.isInTransaction })
        }
        #expect(other.acknowledged > before)
        try await other.advance()
        _ = try await long.execute("COMMIT")
        await other.stop()
        #expect(other.failures == [])
        await long.close()
        await scene.close()
    }
}
