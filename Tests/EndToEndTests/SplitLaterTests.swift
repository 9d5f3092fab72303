import PostgresClient
import Replicator
import TestSupport
import Testing

/// What becomes of a split whose configuration is changed later, or lacks what keeps it going.
@Suite struct SplitLaterTests {
    private static let schema = """
        CREATE TABLE public.notes (id int PRIMARY KEY, mine text, theirs text);
        CREATE TABLE public.later (id int PRIMARY KEY, mine text, theirs text);
        ALTER TABLE public.notes REPLICA IDENTITY FULL;
        ALTER TABLE public.later REPLICA IDENTITY FULL;
        """
    private static func table(_ name: String, bot: String, sync: String) -> String {
        """
          \(name):
            match: [id]
            insert: bot
            delete: bot
            columns:
              bot: [\(bot)]
        \(sync.isEmpty ? "" : "      sync: [\(sync)]\n")

        """
    }

    @Test func aColumnThatGetsAnotherOwnerLaterTravelsTheOtherWay() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.table("notes", bot: "mine, theirs", sync: ""))
        _ = try await pair.bot.execute("INSERT INTO public.notes VALUES (1, 'a', 'b')")
        var worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try pair.write(tables: Self.table("notes", bot: "mine", sync: "theirs"))
        worker = try await pair.startStreaming()
        _ = try await pair.sync.execute("UPDATE public.notes SET theirs = 'c' WHERE id = 1")
        try await waitUntil("it travels", timeoutSeconds: 20) {
            try await pair.bot.execute("SELECT theirs FROM public.notes WHERE id = 1").firstValue == "c"
        }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }

    @Test func aTableThatIsNamedLaterIsNotPassedOverInSilence() async throws {
        let notes = Self.table("notes", bot: "mine", sync: "theirs")
        let pair = try await SplitPair(schema: Self.schema, tables: notes)
        var worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try pair.write(tables: notes + Self.table("later", bot: "mine", sync: "theirs"))
        worker = try pair.run()
        #expect(try await worker.wait() == 2, "\(worker.errors)")
        #expect(worker.errors.contains("later"), "\(worker.errors)")
        // It was refused, not carried: to leave it out for a while and do as told then is no return.
        try pair.write(tables: notes)
        try await stream(pair)
        try await pair.publish(as: worker.errors)
        try pair.write(tables: notes + Self.table("later", bot: "mine", sync: "theirs"))
        try await stream(pair, bot: "INSERT INTO public.later (id, mine) VALUES (1, 'a')")
        try await pair.waitUntilEqual("SELECT string_agg(l::text, ' ') FROM public.later l")
        await pair.remove()
    }

    /// Runs the worker while `script` is written on a side, and until a row of each side's own that follows it is on both.
    private func stream(_ pair: SplitPair, bot: String = "", sync: String = "") async throws {
        let worker = try await pair.startStreaming()
        let id = try await pair.bot.execute("SELECT coalesce(max(id), 0) + 1 FROM public.notes").firstValue ?? ""
        _ = try await pair.sync.execute(sync)
        _ = try await pair.bot.execute("\(bot); INSERT INTO public.notes (id, mine) VALUES (\(id), 'last')")
        try await waitUntil("bot's row is there", timeoutSeconds: 20) {
            try await pair.sync.execute("SELECT 1 FROM public.notes WHERE id = \(id)").rowCount == 1
        }
        _ = try await pair.sync.execute("UPDATE public.notes SET theirs = 'last' WHERE id = \(id)")
        try await pair.waitUntilEqual("SELECT string_agg(theirs, ',' ORDER BY id) FROM public.notes", timeoutSeconds: 20)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    /// Refused with the commands that mend it, which are carried out.
    private func mend(_ pair: SplitPair, _ code: String, says words: [String]) async throws {
        let check = try await pair.command(["check", "--json"])
        #expect(check.exitCode == 2 && check.output.contains(code), "\(check.output)")
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2, "\(refused.errors)")
        for word in words { #expect(refused.errors.contains(word), "\(refused.errors)") }
        let again = try await pair.command(["run", "--http", "none"])
        #expect(again.exitCode == 2, "asking mends nothing")
        let advice = try #require(refused.errors.components(separatedBy: "Run on sync: ").last?.components(separatedBy: " Then `").first)
        _ = try await pair.sync.execute(advice)
    }

    private func repair(_ pair: SplitPair, _ table: String) async throws {
        let worker = try await pair.startStreaming()
        let repair = try await pair.command(["verify", table, "--repair", "--execute"])
        #expect(repair.exitCode == 0, "\(repair.output)\(repair.errors)")
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        #expect(try await pair.command(["verify"]).exitCode == 0)
    }

    @Test func aTableThatWasOutOfTheFileIsRefusedUntilBothSidesAreMadeAlike() async throws {
        let notes = Self.table("notes", bot: "mine", sync: "theirs")
        let both = notes + Self.table("later", bot: "mine", sync: "theirs")
        let pair = try await SplitPair(schema: Self.schema, tables: both)
        _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b'), (2, 'a', 'b')")
        try await stream(pair)
        try pair.write(tables: notes)
        try await stream(
            pair, bot: "UPDATE public.later SET mine = 'c' WHERE id = 1; INSERT INTO public.later (id, mine) VALUES (3, 'new')",
            sync: "UPDATE public.later SET theirs = 'd' WHERE id = 2")
        #expect(try await pair.command(["check"]).exitCode == 0)
        try pair.write(tables: both)
        try await mend(pair, "table_left", says: ["later", "tables:", "lindero verify later --repair"])
        try await repair(pair, "later")
        #expect(
            try await pair.values("SELECT string_agg(l::text, ' ' ORDER BY id) FROM public.later l")
                == Array(repeating: "(1,c,b) (2,a,d) (3,new,)", count: 2))
        await pair.remove()
    }

    @Test func aColumnThatWasPrivateIsRefusedUntilItsOlderValuesAreBrought() async throws {
        let open = Self.table("notes", bot: "mine", sync: "theirs") + Self.table("later", bot: "mine", sync: "theirs")
        func closed(_ column: String) -> String { open.replacing("later:\n", with: "later:\n    private: [\(column)]\n") }
        // The origin's never came, the other side's came with the copy and is written there alone since.
        for (column, owner) in [("mine", "bot"), ("theirs", "sync")] {
            let pair = try await SplitPair(schema: Self.schema, tables: closed(column))
            _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b')")
            let write = "UPDATE public.later SET \(column) = 'c' WHERE id = 1"
            try await stream(pair, bot: owner == "bot" ? write : "", sync: owner == "bot" ? "" : write)
            try pair.write(tables: open)
            try await mend(pair, "column_left", says: ["column \"\(column)\" of later", "lindero verify later --repair"])
            try await repair(pair, "later")
            #expect(try await pair.values("SELECT \(column) FROM public.later") == ["c", "c"])
            await pair.remove()
        }
    }

    /// Its values have never travelled: its new owner's side has old ones, and would have them stand.
    @Test func aPrivateColumnDoesNotGoToTheOtherSide() async throws {
        func tables(_ columns: String, _ kept: String = "private: [theirs], ") -> String {
            "  later: { match: [id], insert: bot, delete: bot, \(kept)columns: { \(columns) } }\n" + Self.table("notes", bot: "mine", sync: "theirs")
        }
        let pair = try await SplitPair(schema: Self.schema, tables: tables("bot: [id, mine], sync: [theirs]"))
        _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b')")
        try await stream(pair, sync: "UPDATE public.later SET theirs = 'c' WHERE id = 1")
        let scene = MovingServices(pair)
        for kept in ["private: [theirs], ", ""] {
            try pair.write(tables: tables("bot: [id, mine, theirs]", kept))
            let check = try await pair.command(["check", "--json"])
            #expect(check.exitCode == 2 && check.output.contains("column_left"), "\(check.output)")
            let refused = try await pair.command(["run", "--http", "none"])
            #expect(refused.exitCode == 2 && refused.errors.contains("\"theirs\" of later has its values on sync"), "\(refused.errors)")
            let home = SplitTransition(settings: try await scene.settings(), logger: MovingServices.logger)
            await #expect(throws: ReplicationFailure.self) { _ = try await home.bringPrivateColumnsHome() }
        }
        #expect(try await pair.values("SELECT theirs FROM public.later") == ["b", "c"])
        // Copied by hand, and said so.
        let refused = try await pair.command(["run", "--http", "none"])
        let advice = try #require(refused.errors.components(separatedBy: "run on sync: ").last?.components(separatedBy: " Then `").first)
        try pair.write(tables: tables("bot: [id, mine, theirs]"))
        _ = try await pair.bot.execute("UPDATE public.later SET theirs = 'c' WHERE id = 1")
        _ = try await pair.sync.execute(advice)
        try await stream(pair, bot: "UPDATE public.later SET theirs = 'd' WHERE id = 1")
        #expect(try await pair.values("SELECT theirs FROM public.later") == ["d", "c"])
        await pair.remove()
    }

    /// What is not listed any more is `*`'s: what its former owner writes meanwhile stays behind.
    @Test func aColumnThatIsNotListedForAWhileIsRefusedUntilBothSidesAreMadeAlike() async throws {
        for line in ["sync: [theirs]", "shared: { theirs: { policy: max } }"] {
            let notes = Self.table("notes", bot: "mine", sync: "theirs")
            let unlisted = notes + "  later: { match: [id], insert: bot, delete: bot, columns: { bot: \"*\" } }\n"
            let listed = unlisted.replacing("bot: \"*\"", with: "bot: \"*\", \(line)")
            let pair = try await SplitPair(schema: Self.schema + "ALTER TABLE public.later REPLICA IDENTITY FULL;", tables: listed)
            _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b'), (2, 'a', 'b')")
            try await stream(pair)
            // One whose values nothing has passed by has missed nothing.
            try pair.write(tables: unlisted)
            try pair.write(tables: listed)
            try await stream(pair, sync: "UPDATE public.later SET theirs = 'c' WHERE id = 1")
            try pair.write(tables: unlisted)
            // What was shared stays so until nothing from before is on its way.
            let passing = try await pair.startStreaming()
            try await waitUntil("it is its owner's") {
                try await pair.sync.execute("SELECT FROM lindero.split_policy WHERE policy = 'owner'").rows.isEmpty
            }
            passing.terminate()
            #expect(try await passing.wait() == 0, "\(passing.errors)")
            try await stream(pair, sync: "UPDATE public.later SET theirs = 'd' WHERE id = 2")
            #expect(try await pair.values("SELECT string_agg(theirs, ' ' ORDER BY id) FROM public.later") == ["c b", "c d"], "\(line)")
            #expect(try await pair.command(["check"]).exitCode == 0)
            try pair.write(tables: listed)
            try await mend(pair, "column_left", says: ["column \"theirs\" of later", "sync", "lindero verify later --repair"])
            try await repair(pair, "later")
            #expect(
                try await pair.values("SELECT string_agg(theirs, ' ' ORDER BY id) FROM public.later") == ["c d", "c d"], "\(line)")
            try await stream(pair, sync: "UPDATE public.later SET theirs = 'e' WHERE id = 2")
            try await pair.waitUntilEqual("SELECT string_agg(theirs, ' ' ORDER BY id) FROM public.later")
            await pair.remove()
        }
    }

    /// Who may make and delete rows is for each side's guard to keep: what is made or deleted all the same travels, so that
    /// a side that gets the right back has missed nothing. Also where it has no column of its own, so that nothing else of it leaves.
    @Test(arguments: ["bot: [id, mine], sync: [theirs]", "bot: \"*\""])
    func rowsTravelWhileTheirSideMayNotMakeThem(columns: String) async throws {
        let notes = Self.table("notes", bot: "mine", sync: "theirs")
        func later(_ sides: String) -> String {
            notes + "  later: { match: [id], insert: \(sides), delete: \(sides), columns: { \(columns) } }\n"
        }
        let pair = try await SplitPair(schema: Self.full, tables: later("[bot, sync]"))
        _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b'), (2, 'a', 'b')")
        try await stream(pair)
        try pair.write(tables: later("bot"))
        try await stream(pair, sync: "DELETE FROM public.later WHERE id = 1; INSERT INTO public.later (id, theirs) VALUES (3, 'new')")
        let ids = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM public.later"
        #expect(try await pair.values(ids) == ["2 3", "2 3"])
        try pair.write(tables: later("[bot, sync]"))
        #expect(try await pair.command(["check"]).exitCode == 0)
        try await stream(pair, sync: "DELETE FROM public.later WHERE id = 2; INSERT INTO public.later (id, theirs) VALUES (4, 'new')")
        #expect(try await pair.values(ids) == ["3 4", "3 4"])
        if columns.contains("sync") { #expect(try await pair.values("SELECT string_agg(theirs, ' ') FROM public.later") == ["new new", "new new"]) }
        await pair.remove()
    }

    /// Without a `*` a column that nobody owns stops everything, so that nothing passes it by.
    @Test func aColumnThatNobodyOwnsAnyMoreStopsTheSplit() async throws {
        let tables = Self.table("notes", bot: "mine", sync: "theirs")
        let pair = try await SplitPair(schema: Self.schema, tables: tables)
        try await stream(pair)
        try pair.write(tables: Self.table("notes", bot: "mine", sync: ""))
        for command in [["check"], ["run", "--http", "none"]] {
            let refused = try await pair.command(command)
            #expect(refused.exitCode == 2 && (refused.output + refused.errors).contains("theirs"), "\(refused.output)\(refused.errors)")
        }
        try pair.write(tables: tables)
        try await stream(pair)
        await pair.remove()
    }

    // MARK: from a replica, and back to one

    private static let full = schema + "CREATE TABLE public.gone (id int PRIMARY KEY, mine text, theirs text); ALTER TABLE public.gone REPLICA IDENTITY FULL;"
        + ["notes", "later", "gone"].map { "ALTER TABLE public.\($0) REPLICA IDENTITY FULL;" }.joined()
    private static let (notes, later) = (table("notes", bot: "mine", sync: "theirs"), table("later", bot: "mine", sync: "theirs"))
    private static let closed = later.replacing("later:\n", with: "later:\n    private: [mine]\n")

    /// As `stream`, in a replica.
    private func replicate(_ pair: SplitPair, _ tables: String, _ script: String = "") async throws {
        try pair.write(tables: tables, backend: "replica")
        let worker = try pair.run()
        try await worker.waitForErrors("streaming direction=bot->sync", timeoutSeconds: 60)
        _ = try await pair.bot.execute(
            "\(script); INSERT INTO public.notes (id, mine) SELECT coalesce(max(id), 0) + 1, 'last' FROM public.notes")
        try await pair.waitUntilEqual("SELECT max(id) FROM public.notes", timeoutSeconds: 20)
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
    }

    private func split(_ pair: SplitPair, _ tables: String, bot: String = "", sync: String = "") async throws {
        try pair.write(tables: tables)
        try await stream(pair, bot: bot, sync: sync)
    }

    private func end(_ pair: SplitPair) async throws {
        _ = try await SplitEnd(settings: try await MovingServices(pair).settings(), logger: MovingServices.logger).run()
        #expect(try await pair.sync.execute("SELECT count(*) FROM lindero.split_table").firstValue == "0")
    }

    private func refused(_ pair: SplitPair, _ tables: String, says words: [String]) async throws {
        try pair.write(tables: tables, backend: "replica")
        let outcome = try await pair.command(["run", "--http", "none"])
        #expect(outcome.exitCode == 2, "\(outcome.errors)")
        for word in words { #expect(outcome.errors.contains(word), "\(outcome.errors)") }
    }

    @Test func aTableThatTheReplicaLeftIsRefusedInTheSplitAndWholeAfterItIsMadeGood() async throws {
        let both = Self.notes + Self.later
        let pair = try await SplitPair(schema: Self.full, tables: both, backend: "replica")
        _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b')")
        try await replicate(pair, both)
        try await replicate(pair, Self.notes, "UPDATE public.later SET mine = 'c'; INSERT INTO public.later (id, mine) VALUES (2, 'new')")
        try await split(pair, Self.notes)
        try pair.write(tables: both)
        try await mend(pair, "table_left", says: ["later", "tables:", "lindero verify later --repair"])
        let unknown = try await pair.command(["run", "--http", "none"])
        #expect(unknown.exitCode == 2 && unknown.errors.contains("no part of the split"), "\(unknown.errors)")
        try await pair.publish(as: unknown.errors)
        try await repair(pair, "later")
        try await split(pair, both, bot: "UPDATE public.later SET mine = 'd' WHERE id = 1", sync: "UPDATE public.later SET theirs = 'e' WHERE id = 1")
        try await end(pair)
        try await replicate(pair, both, "UPDATE public.later SET mine = 'f' WHERE id = 2")
        let rows = "SELECT string_agg(l::text, ' ' ORDER BY id) FROM public.later l"
        #expect(try await pair.values(rows).first == "(1,d,e) (2,f,)")
        try await pair.waitUntilEqual(rows)
        // And into it again.
        try await split(pair, both, bot: "UPDATE public.later SET mine = 'g' WHERE id = 1", sync: "UPDATE public.later SET theirs = 'h' WHERE id = 2")
        try await pair.waitUntilEqual(rows)
        #expect(try await pair.values(rows).first == "(1,g,e) (2,f,h)")
        await pair.remove()
    }

    @Test func aColumnThatWasMadeGoodInTheSplitTravelsInTheReplicaAfterIt() async throws {
        let open = Self.notes + Self.later
        let pair = try await SplitPair(schema: Self.full, tables: open, backend: "replica")
        _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b')")
        try await replicate(pair, Self.notes + Self.closed)
        try await split(pair, Self.notes + Self.closed, bot: "UPDATE public.later SET mine = 'c'")
        try pair.write(tables: open)
        try await mend(pair, "column_left", says: ["column \"mine\" of later", "lindero verify later --repair"])
        try await repair(pair, "later")
        try await end(pair)
        try await replicate(pair, open, "UPDATE public.later SET theirs = 'd'")
        #expect(try await pair.values("SELECT string_agg(l::text, ' ') FROM public.later l") == ["(1,c,d)", "(1,c,d)"])
        await pair.remove()
    }

    @Test func whatTheSplitHasLeftIsRefusedInTheReplicaAfterIt() async throws {
        let gone = Self.table("gone", bot: "mine", sync: "theirs")
        let pair = try await SplitPair(schema: Self.full, tables: Self.notes)
        _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1, 'a', 'b'); INSERT INTO public.gone VALUES (1, 'a', 'b')")
        try await split(pair, Self.notes + Self.later + gone)
        try await split(pair, Self.notes + Self.closed, bot: "UPDATE public.later SET mine = 'c'; UPDATE public.gone SET mine = 'c'")
        try await end(pair)
        try await refused(pair, Self.notes + Self.later, says: ["\"mine\" of later", "private"])
        try await refused(pair, Self.notes + Self.closed + gone, says: ["gone", "TRUNCATE", "lindero.table_copy"])
        // What stayed behind is in nobody's way.
        try await replicate(pair, Self.notes + Self.closed, "UPDATE public.later SET theirs = 'd'")
        #expect(try await pair.values("SELECT string_agg(l::text, ' ') FROM public.later l") == ["(1,c,d)", "(1,a,d)"])
        await pair.remove()
    }

    @Test func withoutHeartbeatsSlotsMoveOnAllTheSame() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.table("notes", bot: "mine", sync: "theirs"))
        try pair.write(tables: Self.table("notes", bot: "mine", sync: "theirs"), replication: "heartbeat: off")
        let worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("INSERT INTO public.notes VALUES (1, 'a', 'b')")
        let lsn = try await pair.bot.execute("SELECT pg_current_wal_lsn()::text").firstValue ?? ""
        try await waitUntil("the slot is past it", timeoutSeconds: 20) {
            try await pair.bot.execute(
                "SELECT 1 FROM pg_replication_slots WHERE database = current_database() AND confirmed_flush_lsn > '\(lsn)'").rowCount == 1
        }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }
}
