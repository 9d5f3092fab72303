import Foundation
import PostgresClient
import ReplicationCore
import Synchronization
import TestSupport
import Testing

@testable import Replicator

/// A database of a split that never comes back.
@Suite struct PhaseLostTests {
    private static let left = """
        SELECT concat_ws(' ',
          (SELECT string_agg(slot_name, ',') FROM pg_replication_slots WHERE database = current_database() AND slot_name NOT LIKE '%feed'),
          (SELECT string_agg(pubname, ',') FROM pg_publication WHERE pubname NOT LIKE '%feed'),
          (SELECT string_agg(name, ',') FROM lindero.direction WHERE causal_lsn IS NOT NULL),
          (SELECT string_agg(roname, ',') FROM pg_replication_origin, pg_database
           WHERE datname = current_database() AND roname LIKE 'lindero\\_' || pg_database.oid || '\\_%'),
          (SELECT string_agg(sequence_name, ',') FROM lindero.sequence_split),
          (SELECT string_agg(table_name, ',') FROM lindero.replica_identity),
          (SELECT string_agg(tgname, ',') FROM pg_trigger WHERE tgname LIKE 'lindero_moved%'),
          (SELECT string_agg(table_name, ',') FROM lindero.split_table), (SELECT string_agg(column_name, ',') FROM lindero.split_column),
          seqincrement, relreplident)
        FROM pg_sequence, pg_class WHERE seqrelid = 'public."Reservas_id_seq"'::regclass AND pg_class.oid = 'public."Reservas"'::regclass
        """

    /// A split whose second database has stopped for good, both services silent.
    private func split(asOperator: Bool = false) async throws -> HeldMove {
        let move = try await HeldMove(secondDies: true, asOperator: asOperator)
        try await move.succeed(["advance", "--to", "replica"])
        move.startServices()
        try await move.succeed(["advance", "--to", "split"], movingTo: "sync")
        for service in [move.bot, move.sync] { await service.end() }
        #expect(move.bot.failures + move.sync.failures == [])
        // Up to what has come, nothing is lost.
        try await move.pair.waitUntilEqual("SELECT count(*), md5(string_agg(id || coalesce(status, ''), ',' ORDER BY id)) FROM public.\"Reservas\"")
        try await move.killSecond()
        return move
    }

    /// One that the file alone began, and its worker.
    private func splitOfAFile(second: PostgresCluster? = nil) async throws -> (SplitPair, RunningLindero) {
        let pair = try await PhaseTests.pair(roles: true, second: second)
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.\"Reservas\" REPLICA IDENTITY FULL") }
        try pair.write(tables: PhaseTests.tables, roles: ["bot_app", "sync_app"])
        return (pair, try await pair.startStreaming())
    }

    /// Such a split is given up while no worker runs, since none could have run it.
    private func giveUpWithoutAWorker(_ pair: SplitPair) async throws {
        let giving = try pair.start(["rollback", "--lost", "sync", "--execute"])
        try await giving.waitForErrors("No worker runs; start one: lindero run")
        let follower = try pair.run()
        #expect(try await giving.wait() == 0, "\(giving.errors)\(follower.errors)")
        // What the test itself had set.
        _ = try await pair.bot.execute("ALTER TABLE public.\"Reservas\" REPLICA IDENTITY DEFAULT")
        try await expectAlone(pair, pair.bot)
        follower.terminate()
        _ = try await follower.wait()
    }

    private func end(_ move: HeldMove) async throws {
        move.worker.terminate()
        #expect(try await move.worker.wait() == 0, "\(move.worker.errors)")
        await move.pair.remove()
        move.removeSecond()
    }

    private func expectAlone(_ pair: SplitPair, _ side: PostgresConnection) async throws {
        #expect(try await side.execute(Self.left).firstValue == "1 d")
        // Numbers go on, and whoever had moved may write again.
        let service = try await PostgresConnection.connect(ConnectionOptions(pair.url(side === pair.bot ? "bot" : "sync", as: "sync_app")))
        _ = try await service.execute("INSERT INTO public.\"Reservas\" (\"bookingId\") SELECT 'after' || n FROM generate_series(1, 5) n")
        await service.close()
        #expect(try await side.execute("SELECT max(id) - min(id) FROM public.\"Reservas\" WHERE \"bookingId\" LIKE 'after%'").firstValue == "4")
    }

    @Test func theSecondDatabaseIsGivenUpAndTheOriginGoesOnAlone() async throws {
        let move = try await split()
        let rows = try await move.pair.bot.execute("SELECT count(*) FROM public.\"Reservas\"").firstValue
        let (text, _) = try await move.status()
        #expect(text.contains("if sync is lost for good: lindero rollback --lost sync"), "\(text)")
        let plain = try await move.pair.command(["rollback", "--execute"])
        #expect(plain.exitCode == 2 && plain.errors.contains("lindero rollback --lost sync"), "\(plain.errors)")

        let dry = try await move.pair.command(["rollback", "--lost", "sync"])
        #expect(dry.exitCode == 0 && dry.output.contains(/what sync committed after 0\/[1-9A-F]/), "\(dry.output)\(dry.errors)")
        #expect(dry.output.contains("Next: lindero rollback --lost sync --execute"), "\(dry.output)")
        #expect(try await move.lastRecord() == "settle true")
        let done = try await move.pair.command(["rollback", "--lost", "sync", "--execute"])
        #expect(done.exitCode == 0 && done.output.contains("sync's service writes to bot from now on"), "\(done.output)\(done.errors)\(move.worker.errors)")
        #expect(try await move.pair.bot.execute("SELECT count(*) FROM public.\"Reservas\"").firstValue == rows)
        try await expectAlone(move.pair, move.pair.bot)
        let again = try await move.pair.command(["rollback", "--lost", "sync", "--execute"])
        #expect(again.exitCode == 0 && again.output.contains("already there: shared"), "\(again.output)\(again.errors)")

        // Should it turn up after all, nobody takes it for a replica; an empty one in its place is.
        try await move.restartSecond()
        let back = try await move.pair.command(["advance", "--to", "replica", "--execute"], timeoutSeconds: 120)
        #expect(back.exitCode != 0 && back.errors.contains("a split that bot knows nothing of"), "\(back.output)\(back.errors)")
        #expect(try await move.lastRecord() == "settle true")
        _ = try await move.pair.sync.execute("DROP SCHEMA lindero CASCADE; DROP TABLE public.\"Reservas\"")
        await PostgresCluster.dropSlots(move.pair.sync)
        _ = try await move.pair.sync.execute(PhaseTests.schema)
        try await move.succeed(["advance", "--to", "replica"])
        try await move.pair.waitUntilEqual("SELECT count(*) FROM public.\"Reservas\"")
        try await end(move)
    }

    @Test func itTakesNoSuperuser() async throws {
        let move = try await split(asOperator: true)
        try await move.succeed(["rollback", "--lost", "sync"])
        try await expectAlone(move.pair, move.pair.bot)
        try await end(move)
    }

    @Test func killedAtEveryStepItIsGivenUp() async throws {
        let move = try await split()
        var random = SystemRandomNumberGenerator()
        #expect(try await PhaseKillTests.killed(["rollback", "--lost", "sync", "--execute"], move.pair, move.worker, &random) > 0)
        try await expectAlone(move.pair, move.pair.bot)
        try await end(move)
    }

    /// As long as nothing is taken down, it may turn out that nothing was lost. Then a plain `rollback` goes on, and there is no way back.
    @Test func itTurnsRoundUntilSomethingIsTakenDown() async throws {
        let move = try await split()
        try await move.kill(try await move.lead(["rollback", "--lost", "sync"], to: "give_up"))
        let (text, _) = try await move.status()
        #expect(text.contains("nobody leads it: lindero rollback --lost sync --execute goes on"), "\(text)")
        #expect(text.contains("safe to roll back: no, because how far sync->bot is behind is not known"), "\(text)")
        let home = try await move.pair.command(["rollback", "--execute"])
        #expect(home.exitCode == 2 && home.errors.contains("lindero rollback --lost sync"), "\(home.errors)")
        try await move.restartSecond()
        let found = try await move.pair.command(["rollback", "--lost", "sync", "--execute"])
        #expect(found.exitCode == 2 && found.errors.contains("sync is not lost: it answers"), "\(found.errors)")
        try await move.succeed(["advance", "--to", "split"])
        _ = try await move.pair.sync.execute("UPDATE public.\"Reservas\" SET status = 'back' WHERE \"bookingId\" = 'b1'")
        try await waitUntil("both directions run again") {
            try await move.pair.bot.execute("SELECT FROM public.\"Reservas\" WHERE status = 'back'").rowCount == 1
        }
        // The same, and it brings home what is there.
        try await move.killSecond()
        try await move.kill(try await move.lead(["rollback", "--lost", "sync"], to: "give_up"))
        try await move.restartSecond()
        _ = try await move.pair.sync.execute("UPDATE public.\"Reservas\" SET status = 'home' WHERE \"bookingId\" = 'b2'")
        let safe = try await move.pair.command(["rollback"])
        #expect(safe.exitCode == 0 && safe.output.contains("split -> replica"), "\(safe.output)\(safe.errors)")
        try await move.succeed(["rollback"])
        #expect(try await move.pair.bot.execute("SELECT FROM public.\"Reservas\" WHERE status = 'home'").rowCount == 1)
        #expect(try await move.status().text.contains("phase replica\n"))
        try await end(move)
    }

    /// Where no split ran yet, none is made by turning round: the service is on the origin.
    @Test func aSplitThatWasYetToBeginTurnsRoundToTheReplica() async throws {
        let move = try await HeldMove(secondDies: true)
        try await move.succeed(["advance", "--to", "replica"])
        move.startServices()
        try await move.kill(try await move.lead(["advance", "--to", "split"], to: "verify"))
        try await move.killSecond()
        try await move.kill(try await move.lead(["rollback", "--lost", "sync"], to: "give_up"))
        try await move.restartSecond()
        let safe = try await move.pair.command(["rollback"])
        #expect(safe.exitCode == 0 && !safe.output.contains("move the services"), "\(safe.output)\(safe.errors)")
        try await move.succeed(["rollback"])
        #expect(try await move.status().text.contains("phase replica\n"))
        // Nothing is in the way of another one.
        try await move.succeed(["advance", "--to", "split"], movingTo: "sync")
        try await move.succeed(["rollback", "--to", "replica"], movingTo: "bot")
        try await move.finish()
    }

    /// Where the service is home already, it goes on from there: what it writes on the origin since is not to be overwritten.
    @Test func aSplitThatWasEndingTurnsRoundToItsEnd() async throws {
        let move = try await HeldMove(secondDies: true)
        try await move.succeed(["advance", "--to", "replica"])
        move.startServices()
        try await move.succeed(["advance", "--to", "split"], movingTo: "sync")
        try await move.kill(try await move.lead(["rollback", "--to", "replica"], to: "end_split", movingTo: "bot"))
        try await move.killSecond()
        try await move.kill(try await move.lead(["rollback", "--lost", "sync"], to: "give_up"))
        try await move.restartSecond()
        let safe = try await move.pair.command(["rollback"])
        #expect(safe.exitCode == 0 && !safe.output.contains("move the services"), "\(safe.output)\(safe.errors)")
        try await move.succeed(["rollback", "--to", "replica"])
        try await move.finish()
    }

    /// A split that was killed as it began has a way back that nothing came by; the replica's end takes that, too.
    @Test func aWayBackThatWasNeverUsedGoesWithTheReplica() async throws {
        let pair = try await PhaseTests.pair(roles: true)
        let worker = try pair.run()
        try await worker.waitForErrors("following changes")
        let there = try await pair.command(["advance", "--to", "replica", "--execute"], timeoutSeconds: 120)
        #expect(there.exitCode == 0, "\(there.errors)\(worker.errors)")
        let name = try #require(try await pair.sync.execute("SELECT 'lindero_' || current_database() || '_bot'").firstValue)
        _ = try await pair.sync.execute("CREATE PUBLICATION \(name)")
        _ = try await pair.sync.execute("SELECT pg_create_logical_replication_slot('\(name)', 'pgoutput')")
        _ = try await pair.bot.execute(
            """
            INSERT INTO lindero.direction (name, slot, publication, origin, system_identifier, start_lsn, applied_lsn, causal_lsn)
            VALUES ('sync->bot', '\(name)', '\(name)', 'sync', '1', '0/1', '0/1', '0/1')
            """)
        for command in [["rollback", "--to", "shared"], ["advance", "--to", "replica"]] {
            let outcome = try await pair.command(command + ["--execute"], timeoutSeconds: 120)
            #expect(outcome.exitCode == 0, "\(outcome.errors)\(worker.errors)")
            #expect(try await pair.bot.execute("SELECT FROM lindero.direction WHERE name = 'sync->bot'").rowCount == 0)
        }
        #expect(try await pair.sync.execute("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()").firstValue == "0")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    @Test func whatWasTakenDownIsTakenDownToItsEnd() async throws {
        let move = try await split()
        try await move.kill(try await move.lead(["rollback", "--lost", "sync"], to: "settle"))
        let (text, _) = try await move.status()
        #expect(text.contains("safe to roll back: yes, because sync is given up"), "\(text)")
        let forward = try await move.pair.command(["advance", "--to", "split", "--execute"])
        #expect(forward.exitCode == 2 && forward.errors.contains("Run `lindero rollback --lost sync --execute`."), "\(forward.errors)")
        try await move.succeed(["rollback"])
        try await expectAlone(move.pair, move.pair.bot)
        try await end(move)
    }

    private struct Killed: Error {}

    @Test func aKillBetweenAnyTwoStepsLeavesWhatGoesOn() async throws {
        let move = try await split()
        // As it is while the worker follows the origin alone.
        try await move.kill(try await move.lead(["rollback", "--lost", "sync"], to: "give_up"))
        let options = ConnectionOptions(move.pair.environment["DATABASE_URL"] ?? "")
        let slot = try #require(
            try await move.pair.bot.execute("SELECT slot_name FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE '%\\_sync'").firstValue)
        let outgoing = DirectionSettings(
            sourceName: "bot", targetName: "sync", source: options, target: options, slot: slot, publication: slot, backend: .split,
            replication: ReplicationSettings(), policy: nil)
        for limit in [1, 2, 3, 4, 5, 5, 3] {
            let step = Mutex(0)
            var lost = LostDatabase(
                outgoing: outgoing, left: move.pair.bot, service: "sync", tables: [QualifiedName(schema: "public", name: "Reservas")])
            lost.afterStep = { if step.withLock({ $0 += 1; return $0 }) == limit { throw Killed() } }
            await #expect(throws: Killed.self) { _ = try await lost.takeDown { 10_000 } }
            #expect(try await LostDatabase.arrived(outgoing, on: move.pair.bot) != nil)
        }
        try await move.succeed(["rollback", "--lost", "sync"])
        try await expectAlone(move.pair, move.pair.bot)
        try await end(move)
    }

    /// What is wrong here alone is no loss: the worker hears from it.
    @Test func whoIsHeardIsNotLost() async throws {
        let (pair, worker) = try await splitOfAFile()
        var elsewhere = pair
        elsewhere.environment["SYNC_DATABASE_URL"] = "postgresql://postgres@127.0.0.1:1/nowhere"
        let refused = try await elsewhere.command(["rollback", "--lost", "sync", "--execute"])
        #expect(refused.exitCode == 2 && refused.errors.contains("sync is not lost: a worker hears from it"), "\(refused.errors)")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// An empty database under its address answers, too.
    @Test func anEmptyDatabaseInItsPlaceIsNotIt() async throws {
        let (pair, worker) = try await splitOfAFile()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        // Not so one that holds something, least of all the origin's own.
        var another = pair
        another.environment["SYNC_DATABASE_URL"] = pair.environment["DATABASE_URL"]
        let refused = try await another.command(["rollback", "--lost", "sync", "--execute"])
        #expect(refused.exitCode == 2 && refused.errors.contains("another database answers under its address"), "\(refused.errors)")
        var empty = pair
        empty.environment["SYNC_DATABASE_URL"] = try await PostgresCluster.shared("target").createDatabase(prefix: "empty")
        // Nobody is told to empty the only copy.
        let check = try await empty.command(["check"])
        #expect(check.exitCode == 2 && check.output.contains("`lindero rollback --lost sync` goes on with bot"), "\(check.output)")
        try await giveUpWithoutAWorker(empty)
        await pair.remove()
    }

    /// It looks like the side that was split, and `rollback` could bring nothing home from it.
    @Test func aBackupInItsPlaceIsToldFromIt() async throws {
        let (pair, worker) = try await splitOfAFile()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        let answers = try await pair.command(["rollback", "--lost", "sync", "--execute"])
        #expect(answers.exitCode == 2 && answers.errors.contains("sync is not lost: it answers. "), "\(answers.errors)")
        // Neither pg_dump nor pg_basebackup keeps slots.
        try await waitUntil("the slot is dropped") {
            let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active"
            return try await pair.sync.execute(drop).rowCount == 1
        }
        let refused = try await pair.command(["rollback", "--lost", "sync", "--execute"])
        #expect(refused.exitCode == 2 && refused.errors.contains("as after a restore from a backup"), "\(refused.errors)")
        await pair.remove()
    }

    @Test func whoAnswersIsNotLost() async throws {
        let pair = try await PhaseTests.pair()
        for (name, words) in [("sync", "sync is not lost: it answers"), ("bot", "bot is not lost: it answers"), ("syn", "There is no database \"syn\"")] {
            let refused = try await pair.command(["rollback", "--lost", name, "--execute"])
            #expect(refused.exitCode == 2 && refused.errors.contains(words), "\(refused.errors)")
        }
        // Nor is one that refuses the login.
        let second = try await PostgresCluster.start()
        var other = try await PhaseTests.pair(second: second)
        let url = other.environment["SYNC_DATABASE_URL"] ?? ""
        other.environment["SYNC_DATABASE_URL"] = url.replacingOccurrences(of: "//postgres@", with: "//nobody_of_that_name@")
        let refused = try await other.command(["rollback", "--lost", "sync", "--execute"])
        #expect(refused.exitCode == 2 && refused.errors.contains("sync is not lost"), "\(refused.errors)")
        // A database that is no more is; but in phase shared there is nothing to give up.
        other.environment["SYNC_DATABASE_URL"] = url + "_gone"
        let shared = try await other.command(["rollback", "--lost", "sync", "--execute"])
        #expect(shared.exitCode == 0 && shared.output.contains("already there: shared"), "\(shared.output)\(shared.errors)")
        await pair.remove()
        await other.remove()
        second.remove()
    }

    /// The file alone began it, and says something else since.
    @Test(arguments: ["replica", "shared"]) func aSplitThatTheFileDoesNotSayIsGivenUp(_ backend: String) async throws {
        let second = try await PostgresCluster.start()
        let (pair, worker) = try await splitOfAFile(second: second)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try await second.stop(mode: "immediate")
        try pair.write(tables: PhaseTests.tables, backend: backend, roles: ["bot_app", "sync_app"])
        if backend == "replica" {
            let plain = try await pair.command(["rollback", "--to", "shared", "--execute"])
            #expect(plain.exitCode == 2 && plain.errors.contains("`lindero rollback --lost sync` goes on without it"), "\(plain.errors)")
        }
        try await giveUpWithoutAWorker(pair)
        await pair.remove()
        second.remove()
    }

    @Test func theOriginIsGivenUpAndTheSecondDatabaseGoesOnAlone() async throws {
        let first = try await PostgresCluster.start()
        let pair = try await PhaseTests.pair(roles: true, first: first)
        let worker = try pair.run()
        try await worker.waitForErrors("following changes")
        let split = try await pair.command(["advance", "--to", "split", "--execute"], timeoutSeconds: 120)
        #expect(split.exitCode == 0, "\(split.errors)\(worker.errors)")
        _ = try await pair.bot.execute("INSERT INTO public.\"Reservas\" (\"bookingId\") VALUES ('here')")
        try await pair.waitUntilEqual("SELECT count(*) FROM public.\"Reservas\"")
        // The whole old row is in its log, since both write `phone`; and a way back had begun.
        #expect(try await pair.sync.execute("SELECT count(*) FROM lindero.replica_identity").firstValue == "1")
        _ = try await MovedService(name: "sync", roles: ["sync_app"], tables: [QualifiedName(schema: "public", name: "Reservas")])
            .refuse(on: pair.sync) { 10_000 }
        try await first.stop(mode: "immediate")
        let dry = try await pair.command(["rollback", "--lost", "bot"])
        #expect(dry.exitCode == 0 && dry.output.contains(/what bot committed after 0\/[1-9A-F]/), "\(dry.output)\(dry.errors)")
        worker.kill9()
        _ = try await worker.wait()
        try await waitUntil("the server lets the slot go") {
            try await pair.sync.execute("SELECT FROM pg_replication_slots WHERE database = current_database() AND active").rows.isEmpty
        }
        let done = try await pair.command(["rollback", "--lost", "bot", "--execute"])
        #expect(done.exitCode == 0 && done.output.contains("sync goes on alone"), "\(done.output)\(done.errors)")
        try await expectAlone(pair, pair.sync)
        let again = try await pair.command(["rollback", "--lost", "bot", "--execute"])
        #expect(again.exitCode == 2 && again.errors.contains("made ready to go on alone already"), "\(again.errors)")
        // Back it may come: nobody copies from it over what has gone on.
        try await first.restart()
        try pair.write(tables: PhaseTests.tables, backend: "replica", roles: ["bot_app", "sync_app"])
        _ = try await pair.sync.execute("ALTER TABLE public.\"Reservas\" REPLICA IDENTITY FULL")
        let check = try await pair.command(["check"])
        #expect(check.exitCode == 2 && check.output.contains("bot holds its side of a split"), "\(check.output)\(check.errors)")
        #expect(!check.output.contains("Empty these tables"), "\(check.output)")
        let late = try pair.run()
        try await late.waitForErrors("Only if bot was given up on sync")
        #expect(try await late.wait() == 2)
        try await first.stop(mode: "immediate")
        try pair.write(tables: PhaseTests.tables, backend: "shared", origin: "sync")
        let next = try pair.run()
        try await next.waitForErrors("following changes")
        next.terminate()
        #expect(try await next.wait() == 0, "\(next.errors)")
        await pair.remove()
        first.remove()
    }
}
