import Foundation
import Logging
import PostgresClient
import ReplicationCore
import Synchronization
import TestSupport
import Testing

@testable import Replicator

/// A slot of a split that is gone takes with it what came next; the split goes on without that, and rows are made alike again.
@Suite struct SlotRenewalTests {
    private static let table = "public.\"Reservas\""
    private static let all = SplitWorkerTests.all

    private struct Killed: Error {}

    /// A split that has carried everything, without its worker.
    private func scene(on server: PostgresCluster? = nil) async throws -> SplitPair {
        let pair = try await SplitPair(schema: SplitWorkerTests.schema, tables: SplitWorkerTests.tables, first: server, second: server)
        _ = try await pair.bot.execute("INSERT INTO \(Self.table) (\"bookingId\", phone) SELECT 'b-' || i, '+34' || i FROM generate_series(1, 100) i")
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        worker.kill9()
        _ = try await worker.wait()
        try await pair.waitUntilSlotsAreFree()
        return pair
    }

    private func set(_ column: String, _ value: String, _ row: String, on side: PostgresConnection) async throws {
        _ = try await side.execute("UPDATE \(Self.table) SET \"\(column)\" = '\(value)' WHERE \"bookingId\" = '\(row)'")
    }

    private static let dropSlots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"

    /// What the worker says that does not start.
    private func refusal(_ pair: SplitPair) async throws -> String {
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2)
        // Each side has what nobody else has.
        #expect(!refused.errors.contains("empty its tables"))
        return refused.errors
    }

    private func renew(_ pair: SplitPair, _ arguments: [String]) async throws -> String {
        let renewed = try await pair.command(["slot", "renew"] + arguments + ["--execute"])
        #expect(renewed.exitCode == 0, "\(renewed.errors)")
        return renewed.output
    }

    private func mend(_ pair: SplitPair, _ options: [String] = []) async throws {
        let mended = try await pair.command(["verify", "--repair", "--execute"] + options)
        #expect(mended.exitCode == 0, "\(mended.output)\(mended.errors)")
        let compared = try await pair.command(["verify"])
        #expect(compared.exitCode == 0, "\(compared.output)\(compared.errors)")
    }

    private func safety(_ pair: SplitPair) async throws -> String {
        try await pair.command(["status"]).output.split(separator: "\n").first { $0.contains("safe to roll back") }.map(String.init) ?? ""
    }

    @Test func aSideWhoseSlotIsGoneGoesOnAndItsRowsAreMended() async throws {
        let pair = try await scene()
        // Arrives: the other side's slot is whole.
        try await set("crmNotes", "waits", "b-1", on: pair.bot)
        // Never will.
        try await set("status", "lost", "b-1", on: pair.sync)
        _ = try await pair.sync.execute("INSERT INTO \(Self.table) (\"bookingId\", status) VALUES ('lost', 'new')")
        _ = try await pair.sync.execute(Self.dropSlots)
        let words = try await refusal(pair)
        #expect(words.contains("does not exist on sync"))
        #expect(words.contains("lindero slot renew sync"))

        let plan = try await pair.command(["slot", "renew", "sync"])
        #expect(plan.exitCode == 0)
        #expect(plan.output.contains("Nothing was changed"))
        #expect(plan.output.contains("lindero slot renew sync --execute"))
        #expect(plan.output.contains("what sync committed after"))
        #expect(try await pair.sync.execute("SELECT FROM pg_replication_slots WHERE database = current_database()").rows.isEmpty)

        #expect(try await renew(pair, ["sync"]).contains("begins at"))
        try await set("status", "later", "b-2", on: pair.sync)
        let worker = try await pair.startStreaming()
        try await waitUntil("what waits and what comes later arrives") {
            let row = "SELECT string_agg(concat_ws(' ', status, \"crmNotes\"), ', ' ORDER BY \"bookingId\") FROM \(Self.table) WHERE \"bookingId\" IN ('b-1', 'b-2')"
            return try await pair.values(row) == ["new waits, later", "lost waits, later"]
        }
        #expect(try await safety(pair).contains("no"))
        #expect(try await safety(pair).contains("sync->bot was made anew"))
        // Both sides may make rows and delete them: nobody knows which it was.
        try await mend(pair, ["--take", "sync"])
        try await pair.waitUntilEqual(Self.all)
        #expect(try await pair.values("SELECT status FROM \(Self.table) WHERE \"bookingId\" = 'b-1'") == ["lost", "lost"])
        #expect(try await pair.values("SELECT count(*) FROM \(Self.table)") == ["101", "101"])
        #expect(try await safety(pair).contains("yes"))
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    @Test func theOriginsSlotThatSomebodyHasAdvancedIsRenewed() async throws {
        let pair = try await scene()
        try await set("crmNotes", "lost", "b-1", on: pair.bot)
        try await set("status", "waits", "b-1", on: pair.sync)
        _ = try await pair.bot.execute(
            "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots WHERE database = current_database()")
        let words = try await refusal(pair)
        #expect(words.contains("recreated or advanced by someone else"))
        #expect(words.contains("lindero slot renew bot"))
        let checked = try await pair.command(["check", "--json"])
        #expect(checked.exitCode == 2 && checked.output.contains("slot_recreated") && checked.output.contains("lindero slot renew bot"), "\(checked.output)")
        _ = try await renew(pair, ["bot"])
        try await set("crmNotes", "later", "b-2", on: pair.bot)
        let worker = try await pair.startStreaming()
        try await waitUntil("what waits and what comes later arrives") {
            try await pair.values("SELECT status || (SELECT \"crmNotes\" FROM \(Self.table) WHERE \"bookingId\" = 'b-2') FROM \(Self.table) WHERE \"bookingId\" = 'b-1'")
                == ["waitslater", "waitslater"]
        }
        try await mend(pair)
        #expect(try await pair.values("SELECT \"crmNotes\" FROM \(Self.table) WHERE \"bookingId\" = 'b-1'") == ["lost", "lost"])
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    /// Both slots at once, as on one server whose disk was full.
    @Test func slotsThatTheServerGaveUpAreRenewedOneAfterTheOther() async throws {
        let server = try await PostgresCluster.start(settings: ["max_slot_wal_keep_size": "1MB"])
        let pair = try await scene(on: server)
        try await set("crmNotes", "lost", "b-1", on: pair.bot)
        try await set("status", "lost", "b-2", on: pair.sync)
        try await waitUntil("both slots are lost") {
            _ = try await pair.bot.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 9000000)), pg_switch_wal()")
            _ = try await pair.bot.execute("CHECKPOINT")
            return try await pair.bot.execute("SELECT FROM pg_replication_slots WHERE wal_status = 'lost'").rows.count == 2
        }
        let checked = try await pair.command(["check"])
        #expect(checked.exitCode == 2 && checked.output.contains("lindero slot renew bot") && checked.output.contains("lindero slot renew sync"))
        for side in ["bot", "sync"] {
            #expect(try await refusal(pair).contains("lindero slot renew \(side)"))
            _ = try await renew(pair, [side])
        }
        let worker = try await pair.startStreaming()
        try await mend(pair)
        let values = "SELECT \"crmNotes\" || (SELECT status FROM \(Self.table) WHERE \"bookingId\" = 'b-2') FROM \(Self.table) WHERE \"bookingId\" = 'b-1'"
        #expect(try await pair.values(values) == ["lostlost", "lostlost"])
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
        server.remove()
    }

    /// What meets after the renewal is decided as ever, on both sides alike.
    @Test func writesThatMeetAfterwardsAreDecidedAlike() async throws {
        let pair = try await scene()
        _ = try await pair.sync.execute(Self.dropSlots)
        _ = try await renew(pair, ["sync"])
        for (side, word) in [(pair.bot, "bot"), (pair.sync, "sync")] {
            try await set("phone", word, "b-1", on: side)
            _ = try await side.execute("UPDATE \(Self.table) SET visits = visits + 10 WHERE \"bookingId\" = 'b-1'")
        }
        _ = try await pair.bot.execute("DELETE FROM \(Self.table) WHERE \"bookingId\" = 'b-2'")
        _ = try await pair.sync.execute("UPDATE \(Self.table) SET phone = 'gone' WHERE \"bookingId\" = 'b-2'")
        let worker = try await pair.startStreaming()
        try await waitUntil("both have met") {
            try await pair.values("SELECT phone || visits FROM \(Self.table) WHERE \"bookingId\" = 'b-1'") == ["sync20", "sync20"]
        }
        try await pair.waitUntilEqual(Self.all)
        #expect(try await pair.values("SELECT count(*) FROM \(Self.table) WHERE \"bookingId\" = 'b-2'") == ["0", "0"])
        // Each loser once, on the side where it arrived.
        try await waitUntil("the losers are in the log") {
            try await pair.values("SELECT string_agg(column_name || ' ' || kind, ', ' ORDER BY kind) FROM lindero.conflict")
                == ["phone update_delete", "phone column"]
        }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    /// Slots go while both services write, what differs is mended under their writes, and from then on both sides end alike again.
    @Test func bothSidesEndAlikeAgainAfterSlotsWereLostUnderLoad() async throws {
        let pair = try await SplitPair(schema: SplitWorkerTests.schema, tables: SplitWorkerTests.tables)
        var worker = try await pair.startStreaming()
        for side in ["sync", "bot", "sync"] {
            _ = try await pair.whileWritten(SplitPair.anything) {
                worker.kill9()
                _ = try await worker.wait()
                try await pair.waitUntilSlotsAreFree()
                _ = try await (side == "bot" ? pair.bot : pair.sync).execute(Self.dropSlots)
                _ = try await renew(pair, [side])
                worker = try await pair.startStreaming()
            }
            try await waitUntil("nothing is left to mend", timeoutSeconds: 120) {
                try await pair.command(["verify", "--repair", "--take", side, "--execute"], timeoutSeconds: 120).exitCode == 0
            }
            try await pair.waitUntilEqual(Self.all)
        }
        let busy = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE relname = 'Reservas'"
        let before = try await pair.values(busy).compactMap { $0.flatMap { Int($0) } }
        _ = try await pair.whileWritten(SplitPair.anything) {
            try await waitUntil("both have gone on") {
                zip(try await pair.values(busy).compactMap { $0.flatMap { Int($0) } }, before).allSatisfy { $0 > $1 + 100 }
            }
        }
        try await pair.waitUntilEqual(Self.all)
        #expect(try await pair.command(["verify"], timeoutSeconds: 120).exitCode == 0)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    @Test func killedBetweenAnyTwoStepsItIsDoneAgain() async throws {
        let pair = try await scene()
        try await set("crmNotes", "waits", "b-1", on: pair.bot)
        let settings = try await settings(pair)
        for step in 0..<3 {
            _ = try await pair.sync.execute(Self.dropSlots)
            var renewal = SlotRenewal(settings: settings, database: "sync", logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let left = Mutex(step)
            renewal.afterStep = {
                let isKilled = left.withLock { left in
                    left -= 1
                    return left < 0
                }
                if isKilled { throw Killed() }
            }
            await #expect(throws: Killed.self) { _ = try await renewal.renew(givesUp: false) }
            #expect(try await refusal(pair).contains("lindero slot renew sync"), "killed after step \(step)")
        }
        _ = try await renew(pair, ["sync"])
        try await set("status", "later", "b-2", on: pair.sync)
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        #expect(try await pair.values("SELECT \"crmNotes\" FROM \(Self.table) WHERE \"bookingId\" = 'b-1'") == ["waits", "waits"])
        try await waitUntil("what comes later arrives") {
            try await pair.values("SELECT status FROM \(Self.table) WHERE \"bookingId\" = 'b-2'") == ["later", "later"]
        }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    /// Where a side went back, the other one's slot seems to be ahead: no new slot helps.
    @Test func aSideThatWentBackIsToldFromASlotThatIsGone() async throws {
        let pair = try await scene()
        _ = try await pair.sync.execute(Self.dropSlots)
        // More than bot has ever written.
        _ = try await pair.sync.execute("UPDATE lindero.direction SET applied_lsn = 'FF/0' WHERE name = 'bot->sync'")
        for arguments in [["run", "--http", "none"], ["slot", "renew", "sync"], ["slot", "renew", "sync", "--execute"]] {
            let refused = try await pair.command(arguments)
            #expect(refused.exitCode == 2)
            #expect(refused.errors.contains("bot") && refused.errors.contains("older copy or a failed-over standby"), "\(refused.errors)")
            #expect(refused.errors.contains("lindero rollback --lost bot"), "\(refused.errors)")
        }
        #expect(try await pair.sync.execute("SELECT FROM pg_replication_slots WHERE database = current_database()").rows.isEmpty)
        await pair.remove()
    }

    @Test func aSlotThatHasAllIsKeptUnlessItIsGivenUp() async throws {
        let pair = try await scene()
        try await set("status", "waits", "b-1", on: pair.sync)
        let plan = try await pair.command(["slot", "renew", "sync"])
        #expect(plan.exitCode == 0)
        #expect(plan.output.contains("nothing is lost"))
        let kept = try await pair.command(["slot", "renew", "sync", "--execute"])
        #expect(kept.exitCode == 2)
        #expect(kept.errors.contains("--give-up"))
        let nobody = try await pair.command(["slot", "renew", "snyc"])
        #expect(nobody.exitCode == 2)
        #expect(nobody.errors.contains("did you mean \"sync\"?"))

        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        // What a running worker confirms has arrived.
        for _ in 0..<5 {
            _ = try await pair.sync.execute("UPDATE \(Self.table) SET status = status || 'x'")
            #expect(try await pair.command(["slot", "renew", "sync"]).output.contains("nothing is lost"))
        }
        let busy = try await pair.command(["slot", "renew", "sync", "--give-up", "--execute"])
        #expect(busy.exitCode == 2)
        #expect(busy.errors.contains("in use"))
        worker.terminate()
        #expect(try await worker.wait() == 0)

        // A TRUNCATE names no rows; the way past it is without what came after.
        _ = try await pair.bot.execute("TRUNCATE \(Self.table)")
        _ = try await pair.bot.execute("INSERT INTO \(Self.table) (\"bookingId\") VALUES ('after')")
        let stopped = try await pair.command(["run", "--http", "none"])
        #expect(stopped.exitCode == 1)
        #expect(stopped.errors.contains("lindero slot renew bot --give-up"))
        _ = try await renew(pair, ["bot", "--give-up"])
        worker = try await pair.startStreaming()
        try await mend(pair, ["--take", "bot"])
        #expect(try await pair.values("SELECT string_agg(\"bookingId\", ' ') FROM \(Self.table)") == ["after", "after"])
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    /// Rows of a table that one side alone writes go in bulk: one that is not there stops the stream, which `verify` needs.
    @Test func rowsThatWereLostOfATableOfOneSideArePassedIfAsked() async throws {
        let tables = """
              Reservas:
                match: [bookingId]
                insert: sync
                delete: sync
                columns:
                  sync: "*"

            """
        let pair = try await SplitPair(schema: SplitWorkerTests.schema, tables: tables)
        var worker = try await pair.startStreaming()
        worker.kill9()
        _ = try await worker.wait()
        try await pair.waitUntilSlotsAreFree()
        _ = try await pair.sync.execute("INSERT INTO \(Self.table) (\"bookingId\") VALUES ('lost')")
        _ = try await pair.sync.execute(Self.dropSlots)
        _ = try await renew(pair, ["sync"])
        try await set("status", "later", "lost", on: pair.sync)
        let stopped = try await pair.command(["run", "--http", "none"])
        #expect(stopped.exitCode == 1)
        #expect(stopped.errors.contains("missing_row: count"))
        try pair.write(tables: tables, replication: "missing_row: count")
        worker = try await pair.startStreaming()
        try await mend(pair)
        #expect(try await pair.values("SELECT status FROM \(Self.table)") == ["later", "later"])
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    private func settings(_ pair: SplitPair) async throws -> SplitSettings {
        let options = try ["DATABASE_URL", "SYNC_DATABASE_URL"].map { ConnectionOptions(try #require(pair.environment[$0])) }
        func direction(_ source: Int, _ target: Int, recordedOn side: PostgresConnection) async throws -> DirectionSettings {
            let names = ["bot", "sync"]
            let name = "\(names[source])->\(names[target])"
            let slot = try #require(try await side.execute("SELECT slot FROM lindero.direction WHERE name = '\(name)'").firstValue)
            return DirectionSettings(
                sourceName: names[source], targetName: names[target], source: options[source], target: options[target], slot: slot, publication: slot,
                backend: .split, replication: ReplicationSettings(), policy: nil)
        }
        return SplitSettings(
            origin: try await direction(0, 1, recordedOn: pair.sync), other: try await direction(1, 0, recordedOn: pair.bot), gates: Gates())
    }
}
