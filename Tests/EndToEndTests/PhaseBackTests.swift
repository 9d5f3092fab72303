import Foundation
import PostgresClient
import Replicator
import TestSupport
import Testing

/// Turning round in the middle of a move, and what may go wrong on the way.
@Suite struct PhaseBackTests {
    /// A replica, with both services on the origin.
    private func replica(secondDies: Bool = false) async throws -> HeldMove {
        let move = try await HeldMove(secondDies: secondDies)
        try await move.succeed(["advance", "--to", "replica"])
        move.startServices()
        return move
    }

    private func expectPhase(_ phase: String, _ move: HeldMove) async throws {
        #expect(try await move.status().text.contains("phase \(phase)\n"))
    }

    /// The way back while the worker still prepares the split: it waits for a transaction on the second database, and would
    /// finish behind the back of who takes all of it down.
    @Test func aSplitThatIsBeingPreparedIsNotFinishedAfterTheWayBack() async throws {
        let move = try await HeldMove()
        try await move.succeed(["advance", "--to", "replica"])
        let early = try await PostgresConnection.connect(ConnectionOptions(move.pair.environment["SYNC_DATABASE_URL"] ?? ""))
        _ = try await early.execute("BEGIN; CREATE TABLE public.unfinished (id int)")
        let process = try move.pair.start(["advance", "--to", "split", "--execute"])
        let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
        try await waitUntil("a slot waits for the transaction; it said \(process.errors)", timeoutSeconds: 60) {
            try await move.pair.sync.execute(slots).firstValue == "1"
        }
        process.terminate()
        #expect(try await process.wait() != 0)
        let back = try move.pair.start(["rollback", "--execute"])
        try await waitUntil("the way back takes it down; it said \(back.errors)", timeoutSeconds: 60) {
            try await move.lastRecord() == "end_split false" || back.child.exitCode != nil
        }
        _ = try await early.execute("ROLLBACK")
        await early.close()
        try await move.end(back)
        #expect(try await move.pair.sync.execute(slots).firstValue == "0")
        let left = "SELECT (SELECT count(*) FROM lindero.sequence_split) || ' ' || count(*) FILTER (WHERE causal_lsn IS NOT NULL) FROM lindero.direction"
        #expect(try await move.pair.values(left) == ["0 0", "0 0"])
        // Nothing is in its way.
        try await move.succeed(["advance", "--to", "split"])
        try await move.succeed(["rollback", "--to", "replica"])
        try await move.finish()
    }

    @Test func aSplitIsGivenUpBeforeTheServiceMoved() async throws {
        let move = try await replica()
        let process = try await move.lead(["advance", "--to", "split"], to: "move_services")
        try await move.kill(process)
        let dry = try await move.pair.command(["rollback"])
        #expect(dry.exitCode == 0 && dry.output.contains("safe to roll back: yes, because no service has moved"), "\(dry.output)\(dry.errors)")
        #expect(!dry.output.contains("move the services"), "\(dry.output)")
        try await move.succeed(["rollback", "--to", "replica"])
        try await expectPhase("replica", move)
        let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
        #expect(try await move.pair.values(slots) == ["1", "0"])
        #expect(try await move.pair.values("SELECT relreplident::text FROM pg_class WHERE relname = 'Reservas'") == ["d", "d"])
        try await move.finish()
    }

    /// Of a file that says something impossible no split can be planned; the tables get their identity back all the same.
    @Test func aSplitThatCanNotBePlannedAnyMoreIsGivenUp() async throws {
        let move = try await replica()
        let process = try await move.lead(["advance", "--to", "split"], to: "both_stream")
        try await move.kill(process)
        let identities = "SELECT relreplident::text FROM pg_class WHERE relname = 'Reservas'"
        #expect(try await move.pair.values(identities) == ["f", "f"])
        let impossible = PhaseTests.tables.replacingOccurrences(of: "phone:", with: "nowhere:")
        try move.pair.write(tables: impossible, backend: "shared", gates: "observe: 0s", roles: ["bot_app", "sync_app"])
        let forward = try await move.pair.command(["advance", "--to", "split", "--execute"])
        #expect(forward.exitCode == 2 && forward.errors.contains("nowhere"), "\(forward.errors)")
        try move.pair.write(tables: PhaseTests.tables, backend: "shared", gates: "observe: 0s", roles: ["bot_app", "sync_app"])
        try await move.succeed(["rollback", "--to", "replica"])
        #expect(try await move.pair.values(identities) == ["d", "d"])
        try await move.finish()
    }

    /// A file that is not valid (any more) is no reason to stay: the way back needs no plan, as long as nothing has to be carried.
    @Test func underAFileThatCanNotBePlannedTheWayBackIsStillOpen() async throws {
        let move = try await HeldMove()
        try await move.succeed(["advance", "--to", "replica"])
        let process = try await move.lead(["advance", "--to", "split"], to: "worker")
        try await move.kill(process)
        let identities = "SELECT relreplident::text FROM pg_class WHERE relname = 'Reservas'"
        #expect(try await move.pair.values(identities) == ["f", "f"])
        let impossible = PhaseTests.tables.replacingOccurrences(of: "phone:", with: "nowhere:")
        try move.pair.write(tables: impossible, backend: "shared", gates: "observe: 0s", roles: ["bot_app", "sync_app"])
        let status = try await move.pair.command(["status"])
        #expect(status.output.contains("phase replica -> split"), "\(status.output)\(status.errors)")
        #expect(status.output.contains("safe to roll back: yes, because bot has all that the services wrote"), "\(status.output)")
        let dry = try await move.pair.command(["rollback", "--to", "replica"])
        #expect(dry.exitCode == 0 && dry.output.contains("Nothing was changed."), "\(dry.output)\(dry.errors)")
        try await move.succeed(["rollback", "--to", "replica"])
        try await expectPhase("replica", move)
        #expect(try await move.pair.values(identities) == ["d", "d"])
        let forward = try await move.pair.command(["advance", "--to", "split", "--execute"])
        #expect(forward.exitCode == 2 && forward.errors.contains("nowhere"), "\(forward.errors)")
        try move.pair.write(tables: PhaseTests.tables, backend: "shared", gates: "observe: 0s", roles: ["bot_app", "sync_app"])
        try await move.finish()
    }

    @Test func aSplitIsGivenUpAfterTheServiceMoved() async throws {
        let move = try await replica()
        let process = try await move.lead(["advance", "--to", "split"], to: "drain", movingTo: "sync")
        try await move.kill(process)
        try await move.moveSync(to: "sync")
        let dry = try await move.pair.command(["rollback"])
        #expect(dry.exitCode == 0 && dry.output.contains("move the services' writers back to bot"), "\(dry.output)\(dry.errors)")
        try await move.succeed(["rollback", "--to", "replica"], movingTo: "bot")
        try await expectPhase("replica", move)
        try await move.finish()
    }

    @Test func aRollbackTurnsRoundAgain() async throws {
        let move = try await replica()
        try await move.succeed(["advance", "--to", "split"], movingTo: "sync")
        let process = try await move.lead(["rollback", "--to", "replica"], to: "drain", movingTo: "bot")
        try await move.kill(process)
        try await move.moveSync(to: "bot")
        try await move.succeed(["advance", "--to", "split"], movingTo: "sync")
        try await expectPhase("split", move)
        try await move.moveSync(to: "sync")
        // From a split everything comes home that the file declares: one that is wrong is mended first, and nothing is begun.
        let impossible = PhaseTests.tables.replacingOccurrences(of: "phone:", with: "nowhere:")
        try move.pair.write(tables: impossible, backend: "shared", gates: "observe: 0s", roles: ["bot_app", "sync_app"])
        let status = try await move.pair.command(["status"])
        let why = "safe to roll back: no, because what has to come home is not known while lindero.yaml can't be followed: "
        #expect(status.output.contains(why) && status.output.contains("nowhere"), "\(status.output)\(status.errors)")
        let back = try await move.pair.command(["rollback", "--execute"])
        #expect(back.exitCode == 2 && back.errors.contains("nowhere"), "\(back.output)\(back.errors)")
        try await expectPhase("split", move)
        try move.pair.write(tables: PhaseTests.tables, backend: "shared", gates: "observe: 0s", roles: ["bot_app", "sync_app"])
        try await move.succeed(["rollback", "--to", "replica"], movingTo: "bot")
        try await move.finish()
    }

    /// Half an hour of twenty transactions a second of each service, as fast as they go: all of it is at home afterwards, numbers
    /// go on ahead of all that were given, and forward again works.
    @Test func halfAnHourOfWritesAfterTheSplitComesHome() async throws {
        let move = try await HeldMove()
        try await move.succeed(["advance", "--to", "split"])
        let count = 36_000
        let (botURL, syncURL) = (move.pair.environment["DATABASE_URL"], move.pair.environment["SYNC_DATABASE_URL"])
        async let ofBot: Void = Self.write(
            """
            UPDATE public."Reservas" SET "crmNotes" = 'half ' || n WHERE "bookingId" = 'b' || (n % 500 + 1);
            IF n % 9 = 0 THEN INSERT INTO public."Reservas" ("bookingId", "crmNotes") VALUES ('of bot ' || n, 'half'); END IF;
            """, count, botURL)
        async let ofSync: Void = Self.write(
            """
            UPDATE public."Reservas" SET status = 'half ' || n WHERE "bookingId" = 'b' || (n % 500 + 1);
            IF n % 9 = 0 THEN INSERT INTO public."Reservas" ("bookingId", status) VALUES ('of sync ' || n, 'half'); END IF;
            """, count, syncURL)
        _ = try await (ofBot, ofSync)
        let back = try await move.pair.command(["rollback", "--execute"], timeoutSeconds: 300)
        #expect(back.exitCode == 0, "\(back.errors)\(move.worker.errors)")
        let rows = try await move.pair.bot.execute(
            """
            SELECT count(*) FILTER (WHERE "bookingId" LIKE 'of bot %' AND "crmNotes" = 'half'),
                   count(*) FILTER (WHERE "bookingId" LIKE 'of sync %' AND status = 'half'), count(*), count(DISTINCT "bookingId"), count(DISTINCT id)
            FROM public."Reservas"
            """).rows[0]
        #expect(rows[0] == "\(count / 9)" && rows[1] == "\(count / 9)")
        #expect(rows[2] == "\(500 + 2 * count / 9)" && rows[3] == rows[2] && rows[4] == rows[2])
        let stale = try await move.pair.bot.execute(
            """
            SELECT count(*) FROM generate_series(\(count - 499), \(count)) n JOIN public."Reservas" r ON r."bookingId" = 'b' || (n % 500 + 1)
            WHERE r.status IS DISTINCT FROM 'half ' || n OR r."crmNotes" IS DISTINCT FROM 'half ' || n
            """).firstValue
        #expect(stale == "0")
        _ = try await move.pair.bot.execute("INSERT INTO public.\"Reservas\" (\"bookingId\") SELECT 'next ' || n FROM generate_series(1, 10000) n")
        try await move.succeed(["advance", "--to", "split"])
        try await move.succeed(["rollback"])
        try await move.finish()
    }

    /// - Parameter statements: PL/pgSQL; each `n` is a transaction of its own.
    private static func write(_ statements: String, _ count: Int, _ url: String?) async throws {
        try await PostgresConnection.with(ConnectionOptions(url ?? "")) {
            _ = try await $0.execute("DO $$ BEGIN FOR n IN 1..\(count) LOOP \(statements) COMMIT; END LOOP; END $$")
        }
    }

    @Test func aReplicaThatIsGoneIsLeft() async throws {
        let move = try await replica(secondDies: true)
        try await move.killSecond()
        let dry = try await move.pair.command(["rollback"])
        #expect(dry.exitCode == 0 && dry.output.contains("safe to roll back: yes, because bot has all"), "\(dry.output)\(dry.errors)")
        let back = try await move.pair.command(["rollback", "--execute"])
        #expect(back.exitCode == 0, "\(back.errors)\(move.worker.errors)")
        #expect(back.errors.contains("sync can't be reached: what it remembers of the replica stays there, until it comes to a replica again"))
        try await expectPhase("shared", move)
        let kept = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND slot_name NOT LIKE '%feed'"
        #expect(try await move.pair.bot.execute(kept).firstValue == "0")
        try await move.restartSecond()
        try await move.succeed(["advance", "--to", "replica"])
        try await move.finish()
    }

    /// What was written there last can't come back: nothing is begun, and everything that is known is said.
    @Test func aSplitWithADeadSideSaysWhatIsKnownAndDoesNotGoBack() async throws {
        let move = try await replica(secondDies: true)
        try await move.succeed(["advance", "--to", "split"], movingTo: "sync")
        await move.sync.end()
        try await move.killSecond()
        let (text, document) = try await move.status()
        #expect(text.contains("phase split\n") && text.contains("unreachable"), "\(text)")
        #expect(text.contains("safe to roll back: no, because how far sync->bot is behind is not known"), "\(text)")
        #expect(text.contains("Connection refused"), "\(text)")
        let names = (document["directions"] as? [[String: Any]] ?? []).map { $0["name"] as? String }
        #expect(names == ["bot->sync", "sync->bot"])
        let dry = try await move.pair.command(["rollback"])
        #expect(dry.exitCode == 2 && dry.output.contains("split -> replica"), "\(dry.output)\(dry.errors)")
        #expect(dry.output.contains("safe to roll back: no, because how far sync->bot is behind is not known"), "\(dry.output)")
        let back = try await move.pair.command(["rollback", "--execute"])
        #expect(back.exitCode == 2 && back.errors.contains("safe to roll back: no"), "\(back.errors)")
        #expect(try await move.lastRecord() == "settle true")
        try await move.restartSecond()
        try await waitUntil("both directions stream again") { try await move.status().text.contains("safe to roll back: yes") }
        try await move.succeed(["rollback", "--to", "replica"])
        try await move.finish()
    }

    @Test func aServiceThatComesBackDuringTheDrainIsWaitedFor() async throws {
        let move = try await replica()
        let process = try await move.lead(["advance", "--to", "split"], to: "drain", movingTo: "sync")
        // Whatever it calls itself.
        var options = ConnectionOptions(move.pair.url("bot", as: "sync_app"))
        options.applicationName = "lindero-sync"
        let stray = try await PostgresConnection.connect(options)
        _ = try await stray.execute("INSERT INTO public.\"Reservas\" (\"bookingId\", status) VALUES ('stray', 'back')")
        try await move.release()
        try await process.waitForErrors("waits: service sync is on bot again: ", timeoutSeconds: 60)
        #expect(try await move.lastRecord() == "drain false")
        await stray.close()
        try await move.end(process)
        #expect(try await move.pair.sync.execute("SELECT status FROM public.\"Reservas\" WHERE \"bookingId\" = 'stray'").firstValue == "back")
        try await move.succeed(["rollback", "--to", "replica"], movingTo: "bot")
        try await move.finish()
    }

    @Test func ctrlCStopsAMoveThatGoesOnLater() async throws {
        let move = try await replica()
        let process = try await move.lead(["advance", "--to", "split"], to: "move_services")
        try await move.release()
        try await process.waitForErrors("still there: ", timeoutSeconds: 60)
        process.interrupt()
        #expect(try await process.wait() == 1, "\(process.errors)")
        #expect(process.errors.contains("error: Stopped as asked, in the middle of a move."), "\(process.errors)")
        #expect(process.errors.contains("next: `lindero advance --to split --execute` goes on; `lindero rollback --execute` goes back."))
        #expect(try await move.lastRecord() == "move_services false")
        #expect(try await move.status().text.contains("nobody leads it: lindero advance --to split --execute goes on"))
        try await move.succeed(["advance", "--to", "split"], movingTo: "sync")
        try await move.succeed(["rollback", "--to", "replica"], movingTo: "bot")
        try await move.finish()
    }

    /// The lock that makes one operator the leader ended with its session: another may lead by now.
    @Test func aLeaderThatLosesItsLeadStops() async throws {
        let move = try await replica()
        let process = try await move.lead(["advance", "--to", "split"], to: "move_services")
        try await move.release()
        try await process.waitForErrors("still there: ", timeoutSeconds: 60)
        _ = try await move.pair.bot.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'lindero advance%' AND datname = current_database()")
        #expect(try await process.wait() == 1, "\(process.errors)")
        #expect(process.errors.contains("The session that leads the move was lost, so somebody else may lead it now"), "\(process.errors)")
        try await move.succeed(["advance", "--to", "split"], movingTo: "sync")
        try await move.succeed(["rollback", "--to", "replica"], movingTo: "bot")
        try await move.finish()
    }

    /// Between a split and its replica the worker runs nothing, and still says so.
    @Test func statusIsServedWhileNothingRuns() async throws {
        let move = try await HeldMove(http: "127.0.0.1:0")
        try await move.succeed(["advance", "--to", "split"])
        move.sync.move(to: move.pair.url("sync", as: "sync_app"))
        move.startServices()
        let process = try await move.lead(["rollback", "--to", "replica"], to: "end_split", movingTo: "bot")
        // Another life, and another port.
        try await waitUntil("the page says so") {
            let page = try #require(move.worker.errors.split(separator: "\n").last { $0.contains("status page") })
            let port = try #require(page.split(separator: ":").last.flatMap { UInt16($0.prefix { $0.isNumber }) })
            guard let answer = try? await RawHTTP.request("/status.json", port: port), answer.status == 200 else { return false }
            let document = try JSONSerialization.jsonObject(with: Data(answer.body.utf8)) as? [String: Any]
            return document?["phase"] as? String == "split->replica" && (document?["directions"] as? [Any])?.isEmpty == true
        }
        try await move.release()
        try await move.end(process)
        try await move.finish()
    }
}
