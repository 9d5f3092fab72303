import Foundation
import PostgresClient
import TestSupport
import Testing

/// Two databases that are both written, and the worker between them.
@Suite struct SplitWorkerTests {
    static let schema = """
        CREATE TABLE public."Reservas" (
          "bookingId" text PRIMARY KEY, status text DEFAULT 'new', "crmNotes" text, "beds24Status" text, "apiData" text,
          phone text, "guestName" text, "arrivalDate" date, "updatedAt" timestamptz, visits int DEFAULT 0);
        ALTER TABLE public."Reservas" REPLICA IDENTITY FULL;
        """
    static let tables = """
          Reservas:
            match: [bookingId]
            insert: [bot, sync]
            delete: [bot, sync]
            columns:
              bot: [crmNotes]
              sync: [status, beds24Status, apiData]
              shared:
                phone: { policy: last_write }
                guestName: { policy: queue }
                arrivalDate: { policy: prefer, side: sync }
                updatedAt: { policy: max }
                visits: { policy: delta }

        """

    static let all = """
        SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY "bookingId"), '') FROM public."Reservas" r
        """

    func scene() async throws -> SplitPair {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables)
        _ = try await pair.bot.execute(
            "INSERT INTO public.\"Reservas\" (\"bookingId\", phone) SELECT 'b-' || i, '+34' || i FROM generate_series(1, 100) i")
        return pair
    }

    @Test func bothSidesWriteAndBothSidesHaveEverything() async throws {
        let pair = try await scene()
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        #expect(try await pair.values("SELECT count(*) FROM public.\"Reservas\"") == ["100", "100"])

        _ = try await pair.bot.execute("UPDATE public.\"Reservas\" SET \"crmNotes\" = repeat('n', 9000) WHERE \"bookingId\" = 'b-1'")
        _ = try await pair.sync.execute("UPDATE public.\"Reservas\" SET \"apiData\" = repeat('a', 9000) WHERE \"bookingId\" = 'b-1'")
        _ = try await pair.sync.execute("INSERT INTO public.\"Reservas\" (\"bookingId\", phone, visits) VALUES ('s-1', '+49', 3)")
        _ = try await pair.bot.execute("UPDATE public.\"Reservas\" SET visits = visits + 2 WHERE \"bookingId\" = 'b-2'")
        _ = try await pair.sync.execute("UPDATE public.\"Reservas\" SET visits = visits + 5 WHERE \"bookingId\" = 'b-2'")
        _ = try await pair.bot.execute("DELETE FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-3'")
        _ = try await pair.sync.execute("UPDATE public.\"Reservas\" SET \"bookingId\" = 'b-four' WHERE \"bookingId\" = 'b-4'")
        try await waitUntil("bot has the new row") {
            try await pair.bot.execute("SELECT 1 FROM public.\"Reservas\" WHERE \"bookingId\" IN ('s-1', 'b-four')").rowCount == 2
        }
        try await pair.waitUntilEqual(Self.all)
        #expect(
            try await pair.values(
                "SELECT length(\"crmNotes\") || ' ' || length(\"apiData\") FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-1'")
                == ["9000 9000", "9000 9000"])
        #expect(try await pair.values("SELECT visits FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-2'") == ["7", "7"])
        #expect(try await pair.values("SELECT count(*) FROM public.\"Reservas\"") == ["100", "100"])
        #expect(try await pair.values("SELECT count(*) FROM lindero.conflict") == ["0", "0"])
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// A combination of tables that comes again may go another way to the target than the first time.
    @Test func theSameSmallTransactionArrivesEachTimeWithoutABreak() async throws {
        let pair = try await scene()
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        let begun = worker.errors
        for number in 1...5 {
            for (side, column, row) in [(pair.bot, "crmNotes", "b-1"), (pair.sync, "status", "b-2")] {
                _ = try await side.execute(
                    "UPDATE public.\"Reservas\" SET \"\(column)\" = 'n\(number)' WHERE \"bookingId\" = '\(row)'")
            }
            // One at a time: together they would be one group.
            try await waitUntil("both have arrived") {
                try await pair.values(
                    "SELECT \"crmNotes\" || (SELECT status FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-2') "
                        + "FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-1'") == Array(repeating: "n\(number)n\(number)", count: 2)
            }
        }
        // A direction that fails begins anew, and has forgotten what came before.
        #expect(worker.errors == begun)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    @Test func whatWasWrittenOnBothSidesWhileTheWorkerWasAwayIsResolvedAlike() async throws {
        let pair = try await scene()
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        worker.kill9()
        _ = try await worker.wait()
        let row = "WHERE \"bookingId\" = 'b-1'"
        let before = try await pair.values(Self.moment)
        for (side, word) in [(pair.bot, "bot"), (pair.sync, "sync")] {
            _ = try await side.execute(
                "UPDATE public.\"Reservas\" SET phone = '\(word)', \"guestName\" = '\(word)', visits = visits + 10 \(row)")
            _ = try await side.execute(
                "UPDATE public.\"Reservas\" SET \"arrivalDate\" = '\(word == "bot" ? "2027-01-01" : "2026-12-24")', "
                    + "\"updatedAt\" = '\(word == "bot" ? "2026-07-01" : "2026-06-01")' \(row)")
            _ = try await side.execute("INSERT INTO public.\"Reservas\" (\"bookingId\", phone) VALUES ('twice', '\(word)')")
        }
        _ = try await pair.bot.execute("UPDATE public.\"Reservas\" SET phone = 'gone' WHERE \"bookingId\" = 'b-9'")
        _ = try await pair.sync.execute("DELETE FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-9'")
        let after = try await pair.values(Self.moment)
        worker = try await pair.startStreaming()
        try await waitUntil("both directions have caught up") {
            try await pair.values("SELECT phone FROM public.\"Reservas\" \(row)") == ["sync", "sync"]
        }
        try await pair.waitUntilEqual(Self.all)
        let found = try await pair.values(
            "SELECT concat_ws(' ', phone, \"guestName\", \"arrivalDate\", \"updatedAt\"::date, visits) FROM public.\"Reservas\" \(row)")
        #expect(found == Array(repeating: "sync bot 2026-12-24 2026-07-01 20", count: 2))
        #expect(try await pair.values("SELECT phone FROM public.\"Reservas\" WHERE \"bookingId\" = 'twice'") == ["sync", "sync"])
        #expect(try await pair.values("SELECT count(*) FROM public.\"Reservas\" WHERE \"bookingId\" = 'b-9'") == ["0", "0"])
        let log = "SELECT string_agg(concat_ws(' ', column_name, kind, policy, loser, state), ', ' ORDER BY column_name, kind, row_key) FROM lindero.conflict"
        // The bot's last two writes change nothing that could be waited for.
        try await waitUntil("every loser is in the log") { try await pair.values("SELECT count(*) FROM lindero.conflict") == ["2", "4"] }
        let logs = try await pair.values(log)
        #expect(logs[0] == "guestName column queue sync open, updatedAt column max sync settled")
        #expect(
            logs[1] == "arrivalDate column prefer bot settled, phone column last_write bot settled, "
                + "phone insert_insert last_write bot settled, phone update_delete row_ended bot settled")
        for (side, column, other) in [(0, "guestName", 1), (1, "arrivalDate", 0)] {
            let (kept, lost) = (Self.names[side], Self.names[other])
            let record = try await (side == 0 ? pair.bot : pair.sync).execute("""
                SELECT concat_ws(' ', direction, schema_name, table_name, row_key, winner, loser, kept_value, lost_value),
                  \(Self.lies("kept", within: before[side], after[side])) AND \(Self.lies("lost", within: before[other], after[other]))
                FROM lindero.conflict WHERE column_name = '\(column)' AND kind = 'column'
                """).rows[0]
            let values = side == 0 ? "bot sync" : "2026-12-24 2027-01-01"
            #expect(record[0] == "\(lost)->\(kept) public Reservas {\"bookingId\": \"b-1\"} \(kept) \(lost) \(values)")
            #expect(record[1] == "t", "both commits, where and when they were")
        }
        await pair.remove()
    }

    private static let names = ["bot", "sync"]
    /// Where a side's log ends, and when that is.
    private static let moment = "SELECT pg_current_wal_insert_lsn() || ' ' || clock_timestamp()"

    /// Whether what is recorded of a write, `kept` or `lost`, is a commit between two moments of its side.
    private static func lies(_ which: String, within first: String?, _ last: String?) -> String {
        let moments = [first, last].map { ($0 ?? "").split(separator: " ", maxSplits: 1).map(String.init) }
        return "\(which)_lsn BETWEEN '\(moments[0][0])' AND '\(moments[1][0])' AND \(which)_at BETWEEN '\(moments[0][1])' AND '\(moments[1][1])'"
    }
}

extension SplitWorkerTests {
    /// The way back waits for the backlog to be read, which waits for it: its history is full.
    @Test func aBacklogThatIsLargerThanTheHistoryMeetsAWriteOfTheOtherSide() async throws {
        let pair = try await scene()
        try pair.write(tables: Self.tables, replication: " memory_limit: 8MB ")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        worker.kill9()
        _ = try await worker.wait()
        for round in 1...150 {
            _ = try await pair.bot.execute(
                "UPDATE public.\"Reservas\" SET phone = 'round \(round)', \"crmNotes\" = repeat('n', 300)")
        }
        _ = try await pair.sync.execute("UPDATE public.\"Reservas\" SET phone = 'sync' WHERE \"bookingId\" = 'b-1'")
        worker = try pair.run()
        try await waitUntil("the backlog has arrived") {
            try await pair.values("SELECT count(*) FROM public.\"Reservas\" WHERE phone = 'round 150'") == ["99", "99"]
        }
        try await pair.waitUntilEqual(Self.all)
        worker.kill9()
        await pair.remove()
    }

    @Test func lagAndStatusTellOfBothDirections() async throws {
        let pair = try await scene()
        let worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        try await waitUntil("both directions stream") {
            let outcome = try await pair.command(["lag", "--json"])
            let document = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any]
            let directions = document?["directions"] as? [[String: Any]] ?? []
            return directions.map { "\($0["name"] ?? "") \($0["state"] ?? "")" } == ["bot->sync streaming", "sync->bot streaming"]
        }
        let status = try await pair.command(["status"])
        #expect(status.exitCode == 0 && status.output.contains("sync->bot max_lag"), "\(status.output)\(status.errors)")
        worker.interrupt()
        #expect(try await worker.wait() == 0)
        try await pair.waitUntilSlotsAreFree()
        let stopped = try await pair.command(["lag", "--json"])
        #expect(stopped.output.contains("not_running"), "\(stopped.output)")
        // One side is down: what is known of the other direction is told all the same.
        let half = try await pair.command(["lag"], with: ["SYNC_DATABASE_URL": "postgresql://sync@127.0.0.1:1/hotel"])
        #expect(half.exitCode == 0 && half.output.contains("bot->sync") && half.output.contains("127.0.0.1:1"), "\(half.output)\(half.errors)")
        #expect(half.output.contains("retained"), "\(half.output)")
        await pair.remove()
    }

    /// Where a worker died before it had made the slot, or is about to, nothing has been lost.
    @Test func aSlotThatWasNeverMadeIsNotALostOne() async throws {
        let pair = try await scene()
        let worker = try await pair.startStreaming()
        worker.kill9()
        _ = try await worker.wait()
        func states() async throws -> [String] {
            let document = try JSONSerialization.jsonObject(with: Data(try await pair.command(["lag", "--json"]).output.utf8)) as? [String: Any]
            return (document?["directions"] as? [[String: Any]] ?? []).map { "\($0["name"] ?? "") \($0["state"] ?? "")" }
        }
        try await pair.waitUntilSlotsAreFree()
        _ = try await pair.sync.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
        #expect(try await states() == ["bot->sync not_running", "sync->bot stopped"])
        // As it is before the split has begun.
        _ = try await pair.bot.execute("UPDATE lindero.direction SET prepared_at = NULL WHERE name = 'sync->bot'")
        #expect(try await states() == ["bot->sync not_running", "sync->bot not_started"])
        await pair.remove()
    }

    /// Commit times are in the stream: no policy asks the servers to keep them.
    @Test func theLaterWriteIsKnownWhereServersKeepNoCommitTimes() async throws {
        let server = try await PostgresCluster.start(settings: ["track_commit_timestamp": "off"])
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables, first: server, second: server)
        _ = try await pair.bot.execute("INSERT INTO public.\"Reservas\" (\"bookingId\") VALUES ('one'), ('two')")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        worker.kill9()
        _ = try await worker.wait()
        for (side, word, key) in [(pair.sync, "sync", "one"), (pair.bot, "bot", "one"), (pair.bot, "bot", "two"), (pair.sync, "sync", "two")] {
            _ = try await side.execute("UPDATE public.\"Reservas\" SET phone = '\(word)' WHERE \"bookingId\" = '\(key)'")
        }
        #expect(try await !pair.command(["check"]).output.contains("track_commit_timestamp"))
        worker = try await pair.startStreaming()
        let phones = "SELECT string_agg(phone, ' ' ORDER BY \"bookingId\") FROM public.\"Reservas\""
        try await waitUntil("the later ones stand") { try await pair.values(phones) == ["bot sync", "bot sync"] }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
        try await server.stop()
    }

    @Test func aTruncationStopsTheSplitBeforeIt() async throws {
        let pair = try await scene()
        let worker = try await pair.startStreaming()
        _ = try await pair.sync.execute("TRUNCATE public.\"Reservas\"")
        #expect(try await worker.wait() == 1)
        #expect(worker.errors.contains("Reservas was truncated"), "\(worker.errors)")
        #expect(try await pair.values("SELECT count(*) FROM public.\"Reservas\"") == ["100", "0"])
        await pair.remove()
    }
}
