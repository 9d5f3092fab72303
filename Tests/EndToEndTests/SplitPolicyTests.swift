import Foundation
import PostgresClient
import TestSupport
import Testing

/// A shared column gets another policy while writes of both sides are on their way.
@Suite struct SplitPolicyTests {
    private static let schema = """
        CREATE TABLE public.guests (id int PRIMARY KEY, phone int, visits int, spare int);
        ALTER TABLE public.guests REPLICA IDENTITY FULL;
        """
    private static func tables(phone: String, visits: String = "delta") -> String {
        """
          guests:
            match: [id]
            insert: bot
            delete: bot
            columns:
              bot: [spare]
              shared:
                phone: { policy: \(phone) }
                visits: { policy: \(visits) }

        """
    }
    private static let all = "SELECT string_agg(concat_ws(' ', id, phone, visits), ', ' ORDER BY id) FROM public.guests WHERE id < 100"

    /// A row of bot's that is held keeps one direction from deciding while the other one has decided.
    @Test func twoWritesThatMetAreJudgedByTheirOwnPolicyOnBothSides() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables(phone: "last_write"))
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 1, 10), (2, 1, 10)")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute("UPDATE public.guests SET phone = 20, visits = 11 WHERE id = 1")
        _ = try await pair.sync.execute("UPDATE public.guests SET phone = 30, visits = 15 WHERE id = 1")
        let holder = try await PostgresConnection.connect(ConnectionOptions(pair.environment["DATABASE_URL"] ?? ""))
        _ = try await holder.execute("BEGIN; SELECT FROM public.guests WHERE id = 1 FOR UPDATE")
        worker = try await pair.startStreaming()
        try await waitUntil("bot's write has been judged: the later one stands") {
            try await pair.sync.execute("SELECT count(*) FROM lindero.conflict WHERE lost_value = '20'").firstValue == "1"
        }
        try await waitUntil("sync's write waits for the row") { try await !pair.bot.execute("SELECT \(SplitPair.waiting)").rows.isEmpty }
        try await pair.cutOff(worker, waitingOn: pair.bot)

        try pair.write(tables: Self.tables(phone: "prefer, side: bot", visits: "max"))
        worker = try pair.run()
        try await worker.waitForErrors("streaming direction=sync->bot", timeoutSeconds: 60)
        await holder.close()
        try await waitUntil("sync's write has arrived") {
            try await pair.bot.execute("SELECT visits FROM public.guests WHERE id = 1").firstValue == "16"
        }
        #expect(try await pair.values(Self.all) == Array(repeating: "1 30 16, 2 1 10", count: 2), "as the policies of then say")

        // And by the new ones afterwards.
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute("UPDATE public.guests SET phone = 40, visits = 30 WHERE id = 2")
        _ = try await pair.sync.execute("UPDATE public.guests SET phone = 50, visits = 40 WHERE id = 2")
        worker = try await pair.startStreaming()
        try await waitUntil("both have them") {
            try await pair.values(Self.all) == Array(repeating: "1 30 16, 2 40 40", count: 2)
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// While the split runs, too.
    @Test func aFormerPolicyEndsBeneathARunningSplit() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables(phone: "last_write"))
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 1)")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try pair.write(tables: Self.tables(phone: "max"))
        worker = try await pair.startStreaming()
        #expect(try await pair.sync.execute("SELECT count(*) FROM lindero.split_policy").firstValue == "3")
        try await worker.waitForErrors("former policies have nothing more to decide", timeoutSeconds: 60)
        try await waitUntil("it is forgotten") {
            try await pair.sync.execute("SELECT count(*) FROM lindero.split_policy").firstValue == "2"
        }
        for (side, phone) in [(pair.bot, 5), (pair.sync, 6)] { _ = try await side.execute("UPDATE public.guests SET phone = \(phone)") }
        try await waitUntil("the greater one stands") { try await pair.values("SELECT phone FROM public.guests") == ["6", "6"] }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        #expect(worker.errors.components(separatedBy: "former policies have nothing more").count == 2, "once: \(worker.errors)")
        await pair.remove()
    }

    /// Whatever its places in the logs look like as text.
    @Test func theLatestPolicyIsTheLastOne() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables(phone: "max"))
        var worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        // Long ago.
        _ = try await pair.sync.execute(
            """
            DELETE FROM lindero.split_policy WHERE column_name = 'phone';
            INSERT INTO lindero.split_policy
            SELECT direction, 'public', 'guests', 'phone', lsn::pg_lsn, lsn::pg_lsn, policy FROM lindero.direction,
              (VALUES ('0/9F00', 'last_write'), ('0/10A00', 'max')) AS known (lsn, policy), LATERAL (SELECT name AS direction) named
            WHERE name = 'bot->sync'
            """)
        worker = try await pair.startStreaming()
        let kept = "SELECT string_agg(concat_ws(' ', origin_lsn, policy), ', ') FROM lindero.split_policy WHERE column_name = 'phone'"
        #expect(try await pair.sync.execute(kept).firstValue == "0/10A00 max")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// What every write that is still on its way was made after is no more known of.
    @Test func aFormerPolicyIsForgottenOnceBothSidesAreThroughWithIt() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables(phone: "last_write"))
        let count = "SELECT count(*) FROM lindero.split_policy"
        for (policy, terms) in [("last_write", "2"), ("max", "3")] {
            try pair.write(tables: Self.tables(phone: policy))
            let worker = try await pair.startStreaming()
            #expect(try await pair.sync.execute(count).firstValue == terms)
            _ = try await pair.bot.execute("INSERT INTO public.guests SELECT 1 + count(*), 1 FROM public.guests")
            try await pair.waitUntilEqual(Self.all)
            let end = try await pair.bot.execute("SELECT pg_current_wal_insert_lsn()").firstValue ?? ""
            let otherEnd = try await pair.sync.execute("SELECT pg_current_wal_insert_lsn()").firstValue ?? ""
            try await waitUntil("each side has what the other has, and knows it") {
                for (side, here, there) in [(pair.sync, end, otherEnd), (pair.bot, otherEnd, end)] {
                    let seen = "SELECT bool_and(applied_lsn >= '\(here)' AND causal_lsn >= '\(there)') FROM lindero.direction"
                    if try await side.execute(seen).firstValue != "t" { return false }
                }
                return true
            }
            worker.terminate()
            #expect(try await worker.wait() == 0, "\(worker.errors)")
        }
        let worker = try await pair.startStreaming()
        #expect(try await pair.sync.execute(count).firstValue == "2")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// The number that it was may be nobody's any more when it would have to be written back.
    @Test func aReferenceOfARunningSplitKeepsItsPolicy() async throws {
        func tables(_ policy: String) -> String {
            """
              hotels: { match: [code], insert: [bot, sync], delete: [bot, sync], columns: { bot: "*" } }
              rooms:
                match: [code]
                insert: [bot, sync]
                delete: [bot, sync]
                references: { hotel: hotels }
                on_delete: delete
                columns: { bot: "*", shared: { hotel: { policy: \(policy) } } }

            """
        }
        let pair = try await SplitPair(
            schema: """
                CREATE TABLE public.hotels (id serial PRIMARY KEY, code text NOT NULL UNIQUE);
                CREATE TABLE public.rooms (id serial PRIMARY KEY, code text NOT NULL UNIQUE, hotel int REFERENCES public.hotels DEFERRABLE INITIALLY DEFERRED);
                ALTER TABLE public.hotels REPLICA IDENTITY FULL; ALTER TABLE public.rooms REPLICA IDENTITY FULL;
                """, tables: tables("last_write"))
        let worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try pair.write(tables: tables("prefer, side: bot"))
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2 && refused.errors.contains("rooms.hotel is a reference, and is to get another policy"), "\(refused.errors)")
        try pair.write(tables: tables("prefer, side: bot").replacingOccurrences(of: ", shared: { hotel: { policy: prefer, side: bot } }", with: ""))
        let owned = try await pair.command(["run", "--http", "none"])
        #expect(owned.exitCode == 2 && owned.errors.contains("rooms.hotel is a reference, and is to get another owner"), "\(owned.errors)")
        await pair.remove()
    }

    /// Of a value that was set, and a difference that is added, no order makes the same on both sides.
    @Test func aColumnOfARunningSplitDoesNotBecomeACounter() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables(phone: "last_write"))
        let worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        try pair.write(tables: Self.tables(phone: "delta"))
        for command in [["run", "--http", "none"], ["check"]] {
            let outcome = try await pair.command(command)
            #expect(outcome.exitCode == 2, "\(outcome.output)\(outcome.errors)")
            #expect((outcome.output + outcome.errors).contains("guests.phone is to become a counter"), "\(outcome.output)\(outcome.errors)")
        }
        try pair.write(tables: Self.tables(phone: "last_write"))
        let again = try await pair.startStreaming()
        again.terminate()
        #expect(try await again.wait() == 0, "\(again.errors)")
        await pair.remove()
    }

    private static func owned(_ phone: String, visits: String = "delta") -> String {
        """
          guests:
            match: [id]
            insert: bot
            delete: bot
            columns: { \(phone == "bot" ? "bot: [spare, phone]" : "bot: [spare], sync: [phone]"), shared: { visits: { policy: \(visits) } } }

        """
    }

    /// What both had written before is judged as then; one side has decided already.
    @Test(arguments: ["bot", "sync"], [("last_write", 30), ("prefer, side: bot", 20)])
    func aSharedColumnThatGetsAnOwnerIsSharedUntilItsWritesHaveArrived(owner: String, policy: (String, Int)) async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables(phone: policy.0))
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 1, 10), (2, 1, 10), (3, 1, 10)")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        worker.kill9()
        _ = try await worker.wait()
        _ = try await pair.bot.execute("BEGIN; UPDATE public.guests SET phone = 20 WHERE id = 1; UPDATE public.guests SET spare = 5 WHERE id = 2; COMMIT")
        _ = try await pair.sync.execute("UPDATE public.guests SET phone = 30 WHERE id = 1")
        _ = try await pair.sync.execute("UPDATE public.guests SET phone = 7 WHERE id = 2")
        let holder = try await PostgresConnection.connect(ConnectionOptions(pair.environment["SYNC_DATABASE_URL"] ?? ""))
        _ = try await holder.execute("BEGIN; SELECT FROM public.guests WHERE id = 2 FOR UPDATE")
        worker = try await pair.startStreaming()
        try await waitUntil("sync's writes have been judged") {
            try await pair.bot.execute("SELECT phone FROM public.guests WHERE id = 2").firstValue == "7"
        }
        try await pair.cutOff(worker, waitingOn: pair.sync)
        // Of this one nobody has heard when the column gets its owner.
        _ = try await pair.sync.execute("UPDATE public.guests SET phone = 8 WHERE id = 3")
        try pair.write(tables: Self.owned(owner))
        worker = try await pair.startStreaming()
        await holder.close()
        try await waitUntil("bot's have arrived") {
            try await pair.sync.execute("SELECT spare FROM public.guests WHERE id = 2").firstValue == "5"
        }
        try await waitUntil("sync's has arrived") {
            try await pair.bot.execute("SELECT phone FROM public.guests WHERE id = 3").firstValue == "8"
        }
        #expect(try await pair.values(Self.all) == Array(repeating: "1 \(policy.1) 10, 2 7 10, 3 8 10", count: 2))
        #expect(try await pair.sync.execute("SELECT DISTINCT left_sides::text FROM lindero.split_column").rows.map { $0[0] } == ["{}"])
        try await worker.waitForErrors("former policies have nothing more to decide", timeoutSeconds: 60)
        try await waitUntil("they are forgotten") {
            try await pair.sync.execute("SELECT FROM lindero.split_policy WHERE column_name = 'phone'").rows.isEmpty
        }
        // From then on it is its owner's alone.
        let (mine, others) = owner == "bot" ? (pair.bot, pair.sync) : (pair.sync, pair.bot)
        _ = try await others.execute("UPDATE public.guests SET phone = 50 WHERE id = 2")
        _ = try await mine.execute("UPDATE public.guests SET phone = 40 WHERE id = 1")
        _ = try await pair.bot.execute("UPDATE public.guests SET visits = 11 WHERE id = 2")
        _ = try await pair.sync.execute("UPDATE public.guests SET visits = 12 WHERE id = 1")
        try await waitUntil("what was written has arrived") {
            let visits = try await pair.values("SELECT string_agg(visits::text, ' ' ORDER BY id) FROM public.guests")
            let phone = try await others.execute("SELECT phone FROM public.guests WHERE id = 1").firstValue
            return visits == ["12 11 10", "12 11 10"] && phone == "40"
        }
        #expect(try await mine.execute("SELECT phone FROM public.guests WHERE id = 2").firstValue == "7")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// Old rows were needed while it was shared: who has taken them away already does without what they are for.
    @Test func aColumnWithAnOwnerNeedsNoOldRows() async throws {
        func tables(_ columns: String) -> String { "  guests: { match: [id], insert: bot, delete: bot, columns: { \(columns) } }\n" }
        let pair = try await SplitPair(
            schema: Self.schema, tables: tables("bot: [spare, visits], shared: { phone: { policy: last_write } }"))
        _ = try await pair.bot.execute("INSERT INTO public.guests VALUES (1, 1, 10)")
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(Self.all)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.guests REPLICA IDENTITY DEFAULT") }
        try pair.write(tables: tables("bot: [spare, visits, phone]"))
        _ = try await pair.bot.execute("UPDATE public.guests SET phone = 5, visits = 11")
        worker = try await pair.startStreaming()
        try await waitUntil("bot's write arrives: \(worker.errors)") { try await pair.values(Self.all) == ["1 5 11", "1 5 11"] }
        #expect(worker.errors.contains("columns are their owners' before all has arrived"), "\(worker.errors)")
        worker.kill9()
        _ = try await worker.wait()
        worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    /// Long after it was shared it may be again, under any policy.
    @Test func aColumnThatWasSharedOnceIsNotJudgedByThat() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables(phone: "last_write"))
        let terms = "SELECT string_agg(policy, ' ' ORDER BY origin_lsn) FROM lindero.split_policy WHERE column_name = 'phone'"
        func run(_ tables: String, passes: Bool = false, _ expected: String?) async throws {
            try pair.write(tables: tables)
            let worker = try await pair.startStreaming()
            #expect(try await pair.sync.execute(terms).firstValue == expected)
            let end = try await pair.bot.execute("SELECT pg_current_wal_insert_lsn()").firstValue ?? ""
            let otherEnd = try await pair.sync.execute("SELECT pg_current_wal_insert_lsn()").firstValue ?? ""
            try await waitUntil("what was written before is there") {
                let seen = "SELECT bool_and(applied_lsn >= '\(end)' AND causal_lsn >= '\(otherEnd)') FROM lindero.direction WHERE name = 'bot->sync'"
                return try await pair.sync.execute(seen).firstValue == "t"
            }
            worker.terminate()
            #expect(try await worker.wait() == 0, "\(worker.errors)")
        }
        let hidden = Self.owned("bot") + "    private: [phone]\n"
        try await run(Self.tables(phone: "last_write"), "last_write")
        try await run(hidden, "last_write none")
        try await run(hidden, nil)
        // What did not travel meanwhile a person has to look at.
        try pair.write(tables: Self.tables(phone: "delta"))
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2 && refused.errors.contains("column \"phone\" of guests was private"), "\(refused.errors)")
        _ = try await pair.sync.execute("UPDATE lindero.split_table SET private_columns = '{}'; UPDATE lindero.split_column SET left_sides = '{}'")
        try await run(Self.tables(phone: "delta"), "delta")
        await pair.remove()
    }
}
