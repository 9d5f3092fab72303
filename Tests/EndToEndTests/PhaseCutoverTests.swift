import Foundation
import PostgresClient
import TestSupport
import Testing

/// Services move by `lindero advance --execute` and `rollback --execute`, led by an operator who is no superuser.
@Suite(.timeLimit(.minutes(10))) struct PhaseCutoverTests {
    private static let gates = "observe: 0s, cutover_timeout: 120s"

    /// What a direct session hears that waits at a fence, or comes to the side that it has left.
    private static func isOfAFence(_ failure: String) -> Bool {
        ["57P01", "25006", "terminating connection"].contains { failure.contains($0) }
    }

    private static let here = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'sync_app' AND datname = current_database()"

    private func expectPlain(_ pair: SplitPair) async throws {
        let rights = "SELECT rolsuper::text || count(*) OVER () FROM pg_roles WHERE rolname = '\(pair.leader)'"
        #expect(pair.leader.hasPrefix("operator_"))
        #expect(try await pair.values(rights) == ["false1", "false1"])
    }

    private func attempt(_ sql: String, as role: String, _ move: HeldMove, on side: String) async throws -> String {
        try await PostgresConnection.with(ConnectionOptions(move.pair.url(side, as: role))) { connection in
            do {
                _ = try await connection.execute(sql)
                return "written"
            } catch let error as PostgresError {
                return error.sqlState?.rawValue ?? "lost"
            }
        }
    }

    @Test(arguments: [false, true]) func throughPgbouncerNoWriteFails(_ isStrict: Bool) async throws {
        var bouncer: BouncerProcess?
        let move = try await HeldMove(gates: Self.gates, asOperator: true) { pair in
            let peer = try #require(await pair.bot.peer)
            let started = try await BouncerProcess.start(
                entries: "[databases]\nhotel_sync = host=\(peer.host) port=\(peer.port) dbname=\(peer.database)\n")
            try await started.allow("sync_app")
            pair.environment["PGBOUNCER_ADMIN_URL"] = started.console
            bouncer = started
            return "fence: \(isStrict ? "strict" : "none"), pgbouncer: { admin: env:PGBOUNCER_ADMIN_URL, "
                + "config: \(started.entriesPath), databases: { sync: hotel_sync } }"
        }
        let started = try #require(bouncer)
        try await expectPlain(move.pair)
        move.sync.move(to: started.conninfo(entry: "hotel_sync", user: "sync_app"))
        try await move.succeed(["advance", "--to", "replica"])
        move.startServices()
        try await waitUntil("both write") { move.sync.acknowledged > 5 && move.bot.acknowledged > 5 }

        let there = try await move.pair.command(["advance", "--to", "split", "--execute"], timeoutSeconds: 120)
        #expect(there.exitCode == 0, "\(there.errors)\(move.worker.errors)")
        #expect(there.errors.contains("sync: clients waited "), "\(there.errors)")
        #expect(try await move.pair.values(Self.here)[0] == "0")
        let peer = try #require(await move.pair.sync.peer)
        #expect(try await started.database("hotel_sync")?["database"] == peer.database)
        if isStrict {
            // Who could write, superusers' sessions among them, and whom the canary was.
            #expect(there.errors.contains("postgres (superuser), "), "\(there.errors)")
            let holds = try #require(there.errors.split(separator: "\n").first { $0.contains("the fence holds against ") })
            for role in ["bot_app", "sync_app", move.pair.leader] { #expect(holds.contains(role), "\(holds)") }
            // Roles of other tests on the same server may stand there, too.
            let untried = holds.components(separatedBy: "; not tried: ").last?.components(separatedBy: ", ") ?? []
            #expect(holds.contains("; not tried: ") && untried.contains("postgres"), "\(holds)")
            #expect(there.errors.contains("writers waited "), "\(there.errors)")
            #expect(try await attempt("DELETE FROM public.\"Reservas\" WHERE false", as: "sync_app", move, on: "bot") == "25006")
        }
        let before = move.sync.acknowledged
        try await waitUntil("sync writes on its own side") { move.sync.acknowledged > before + 5 }

        let back = try await move.pair.command(["rollback", "--execute"], timeoutSeconds: 120)
        #expect(back.exitCode == 0, "\(back.errors)\(move.worker.errors)")
        #expect(try await move.pair.values(Self.here)[1] == "0")
        #expect(try await attempt("DELETE FROM public.\"Reservas\" WHERE false", as: "sync_app", move, on: "bot") == "written")
        try await move.finish()
    }

    /// The program says which way, and a test moves the service meanwhile, as a program would.
    @Test(arguments: [false, true]) func aCommandMovesTheServiceAndOneThatFailsLeavesItWhereItWas(_ isStrict: Bool) async throws {
        let move = try await HeldMove(gates: Self.gates, asOperator: true) { pair in
            let program = pair.folder + "/move-service"
            try """
                cd "$(dirname "$0")" || exit 9
                if [ -e broken ]; then exit 3; fi
                rm -f moved; echo "$LINDERO_SERVICE $LINDERO_STEP $LINDERO_FROM $LINDERO_TO $#$1" > asked.new; mv asked.new asked
                while [ ! -e moved ]; do sleep 0.05; done
                rm -f asked moved
                """.write(toFile: program, atomically: true, encoding: .utf8)
            // Read by a shell: a child that another test starts while this file is written keeps it open, and such a one can't be executed.
            return "fence: \(isStrict ? "strict" : "none"), command: [/bin/sh, \(program), --fast]"
        }
        try await expectPlain(move.pair)
        let folder = move.pair.folder
        try await move.succeed(["advance", "--to", "replica"])
        move.startServices()
        try "".write(toFile: folder + "/broken", atomically: true, encoding: .utf8)
        let failed = try await move.pair.command(["advance", "--to", "split", "--execute"], timeoutSeconds: 120)
        #expect(failed.exitCode == 1 && failed.errors.contains("ended with exit code 3"), "\(failed.errors)")
        let before = move.sync.acknowledged
        try await waitUntil("sync goes on where it was") { move.sync.acknowledged > before + 5 }
        #expect(try await move.pair.values(Self.here) == ["1", "0"])
        try FileManager.default.removeItem(atPath: folder + "/broken")

        for (arguments, from, to) in [(["advance", "--to", "split"], "bot", "sync"), (["rollback"], "sync", "bot")] {
            let process = try move.pair.start(arguments + ["--execute"])
            var asked = ""
            try await waitUntil("the program is asked; it said \(process.errors)", timeoutSeconds: 120) {
                asked = (try? String(contentsOfFile: folder + "/asked", encoding: .utf8)) ?? ""
                return !asked.isEmpty || process.child.exitCode != nil
            }
            #expect(asked == "sync move \(from) \(to) 1--fast\n", "\(process.errors)")
            move.sync.move(to: move.pair.url(to, as: "sync_app"))
            let before = move.sync.acknowledged
            try await waitUntil("sync writes to \(to)") { move.sync.acknowledged > before + 1 }
            try "".write(toFile: folder + "/moved", atomically: true, encoding: .utf8)
            #expect(try await process.wait(timeoutSeconds: 120) == 0, "\(process.errors)\(move.worker.errors)")
            #expect(try await move.pair.values(Self.here)[from == "bot" ? 0 : 1] == "0")
            if isStrict {
                #expect(try await attempt("DELETE FROM public.\"Reservas\" WHERE false", as: "sync_app", move, on: from) == "25006")
            }
        }
        try await move.finish(sparing: Self.isOfAFence)
    }

    /// By hand, without a fence: one service after the other, in either order, and each writes to either database meanwhile.
    @Test(arguments: ["bot", "sync"]) func servicesMoveByHandInEitherOrder(_ first: String) async throws {
        let move = try await HeldMove(gates: Self.gates, asOperator: true)
        try await expectPlain(move.pair)
        try await move.succeed(["advance", "--to", "replica"])
        move.startServices()
        func visit() async throws {
            for side in ["sync", "bot", "sync"] {
                move.bot.move(to: move.pair.url(side, as: "bot_app"))
                let before = move.bot.acknowledged
                try await waitUntil("bot writes to \(side)") { move.bot.acknowledged > before + 5 }
            }
        }
        let process = try await move.lead(["advance", "--to", "split"], to: "drain", movingTo: "sync") {
            if first == "bot" { try await visit() }
        }
        if first == "sync" { try await visit() }
        let status = try await move.pair.command(["status"])
        #expect(status.output.contains("warning: service bot writes to sync, and what it writes to its own columns there stays there once the services have moved"), "\(status.output)")
        move.bot.move(to: move.pair.url("bot", as: "bot_app"))
        let before = move.bot.acknowledged
        try await waitUntil("bot is at home") { move.bot.acknowledged > before + 5 }
        try await move.release()
        try await move.end(process)
        #expect(try await !move.pair.command(["status"]).output.contains("warning: service"))
        try await move.succeed(["rollback"], movingTo: "bot")
        try await move.finish()
    }

    /// A person moves a service whose sessions last some milliseconds each: it is seen all the same, and what comes later is refused.
    @Test func aServiceThatConnectsForEachRequestIsSeenAndAJobThatWasForgottenIsRefused() async throws {
        let move = try await HeldMove(gates: Self.gates, asOperator: true)
        try await move.succeed(["advance", "--to", "replica"])
        let home = move.pair.url("bot", as: "sync_app")
        let requests = Task {
            while !Task.isCancelled {
                try await PostgresConnection.with(ConnectionOptions(home)) {
                    _ = try await $0.execute("UPDATE public.\"Reservas\" SET status = status || '.' WHERE \"bookingId\" = 'b400'")
                }
                try await Task.sleep(for: .milliseconds(150))
            }
        }
        let process = try move.pair.start(["advance", "--to", "split", "--execute"])
        try await process.waitForErrors("still there: sync_app", timeoutSeconds: 60)
        #expect(try await move.lastRecord() == "move_services false")
        requests.cancel()
        _ = await requests.result
        try await move.end(process)
        let forgotten = "UPDATE public.\"Reservas\" SET status = 'late'"
        #expect(try await attempt(forgotten, as: "sync_app", move, on: "bot") == "25006")
        #expect(try await attempt("UPDATE public.\"Reservas\" SET \"crmNotes\" = 'mine'", as: "bot_app", move, on: "bot") == "written")
        #expect(try await attempt("UPDATE public.\"Reservas\" SET status = 'there'", as: "sync_app", move, on: "sync") == "written")
        try await move.succeed(["rollback"])
        // The same job, which nobody told either: what it wrote there would stay there.
        #expect(try await attempt(forgotten, as: "sync_app", move, on: "sync") == "25006")
        #expect(try await attempt(forgotten, as: "sync_app", move, on: "bot") == "written")
        try await move.succeed(["advance", "--to", "split"])
        #expect(try await attempt("UPDATE public.\"Reservas\" SET status = 'again'", as: "sync_app", move, on: "sync") == "written")
        #expect(try await attempt(forgotten, as: "sync_app", move, on: "bot") == "25006")
        try await move.succeed(["rollback"])
        try await move.finish()
    }

    /// What an operator lacks is said before anybody waits.
    @Test func anOperatorWhoCouldNotHoldTheFenceIsTold() async throws {
        let move = try await HeldMove(gates: Self.gates, asOperator: true) { _ in "fence: strict, command: [/bin/true]" }
        try await move.succeed(["advance", "--to", "replica"])
        let role = move.pair.leader
        for side in [move.pair.bot, move.pair.sync] {
            _ = try await side.execute("REVOKE bot_app, sync_app FROM \(role); ALTER TABLE public.\"Reservas\" OWNER TO postgres; GRANT ALL ON public.\"Reservas\" TO \(role)")
        }
        let dry = try await move.pair.command(["advance", "--to", "split"])
        #expect(dry.exitCode == 2)
        for side in ["bot", "sync"] {
            #expect(dry.output.contains("\(side): role \(role) can't put up a strict fence around table Reservas"), "\(dry.output)")
        }
        #expect(dry.output.contains("GRANT \"postgres\" TO \"\(role)\"") || dry.output.contains("ALTER TABLE \"public\".\"Reservas\" OWNER TO"), "\(dry.output)")
        let foreign = try #require(dry.output.split(separator: "\n").first { $0.contains("may not act as ") }, "\(dry.output)")
        #expect(foreign.contains("bot_app") && foreign.contains("sync_app") && !foreign.contains(role + ","), "\(foreign)")
        try await move.finish()
    }

    /// The worker's sessions could not be told from the service's.
    @Test func aWorkerUnderAServicesRoleBesideAnotherLeaderIsABlocker() async throws {
        let move = try await HeldMove(asOperator: true)
        try await move.succeed(["advance", "--to", "replica"])
        let role = move.pair.leader
        var other = move.pair
        other.leader = "postgres"
        let harmless = try await other.command(["advance", "--to", "split"])
        #expect(harmless.exitCode == 0 && harmless.output.contains("warning: bot: the worker connects as \(role), and this command as another role"))
        try move.pair.write(tables: PhaseTests.tables, backend: "shared", gates: "observe: 0s", roles: ["bot_app", role])
        let dry = try await other.command(["advance", "--to", "split"])
        #expect(dry.exitCode == 2 && dry.output.contains("blocker: bot: the worker connects as \(role), a service's role, and this command as another one"), "\(dry.output)")
        try move.pair.write(tables: PhaseTests.tables, backend: "shared", gates: "observe: 0s", roles: ["bot_app", "sync_app"])
        try await move.finish()
    }
}
