import PostgresClient
import TestSupport
import Testing

/// A table that gets another name while two databases are written: nothing of it passes by, under either name.
@Suite struct SplitRenamedTests {
    private static func tables(_ name: String) -> String {
        """
              \(name):
                match: [id]
                insert: [bot, sync]
                delete: [bot, sync]
                columns:
                  bot: [id, mine]
                  sync: [theirs]

            """
    }

    private static func create(_ table: String) -> String {
        "CREATE TABLE public.\(table) (id int PRIMARY KEY, mine text, theirs text); ALTER TABLE public.\(table) REPLICA IDENTITY FULL; "
    }

    private static func all(_ table: String) -> String { "SELECT string_agg(t::text, ' ' ORDER BY id) FROM public.\(table) t" }

    private func pair() async throws -> SplitPair {
        let pair = try await SplitPair(schema: Self.create("guest"), tables: Self.tables("guest"))
        _ = try await pair.bot.execute("INSERT INTO public.guest VALUES (1, 'a', 'b')")
        return pair
    }

    private func rename(_ pair: SplitPair, to name: String) async throws {
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE IF EXISTS public.guest RENAME TO \(name)") }
        try pair.write(tables: Self.tables(name))
    }

    /// A split that has begun, and that nobody carries for the moment.
    private func pairAtRest() async throws -> SplitPair {
        let pair = try await pair()
        let worker = try await pair.startStreaming()
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        return pair
    }

    /// Renamed on both sides while a row of sync's was on its way under the old name.
    private func pairWithAnOldName() async throws -> SplitPair {
        let pair = try await pairAtRest()
        _ = try await pair.sync.execute("INSERT INTO public.guest VALUES (2, 'old name', 'n')")
        try await rename(pair, to: "visitor")
        return pair
    }

    private func end(_ pair: SplitPair, _ worker: RunningLindero) async throws {
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    @Test(arguments: ["bot", "sync"]) func theNewNameWaitsForTheRulesAndTheOtherSide(side: String) async throws {
        let pair = try await pair()
        let writer = side == "bot" ? pair.bot : pair.sync
        let worker = try await pair.startStreaming()
        _ = try await writer.execute("ALTER TABLE public.guest RENAME TO visitor; UPDATE public.visitor SET mine = mine || '1', theirs = theirs || '2'")
        #expect(try await worker.wait() == 2)
        #expect(worker.errors.contains("Table guest of the split is called \(side == "bot" ? "visitor on bot and guest" : "guest on bot and visitor") on sync"), "\(worker.errors)")
        try await rename(pair, to: "visitor")
        let next = try await pair.startStreaming()
        try await pair.waitUntilEqual("SELECT \(side == "bot" ? "mine" : "theirs") FROM public.visitor")
        _ = try await writer.execute("INSERT INTO public.visitor VALUES (2, 'c', 'd')")
        try await pair.waitUntilEqual("SELECT count(*)::text FROM public.visitor")
        try await end(pair, next)
    }

    @Test func whatIsOnItsWayUnderTheOldNameArrives() async throws {
        let pair = try await pairWithAnOldName()
        _ = try await pair.bot.execute("INSERT INTO public.visitor VALUES (3, 'new name', 'n')")
        let worker = try await pair.startStreaming()
        try await waitUntil("both arrive") {
            let theirs = try await pair.bot.execute("SELECT theirs FROM public.visitor WHERE id = 2").firstValue
            let mine = try await pair.sync.execute("SELECT mine FROM public.visitor WHERE id = 3").firstValue
            return theirs == "n" && mine == "new name"
        }
        #expect(try await pair.sync.execute("SELECT table_name FROM lindero.split_table").rows.map { $0[0] } == ["visitor"])
        try await end(pair, worker)
    }

    @Test func aNewNameThatTheRulesLackIsAskedFor() async throws {
        let pair = try await pair()
        let first = try await pair.startStreaming()
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.guest RENAME TO visitor") }
        #expect(try await first.wait() == 2)
        #expect(first.errors.contains("is called visitor on both sides by now, and what lindero.yaml said at the start was guest"), "\(first.errors)")
        let check = try await pair.command(["check"])
        #expect(check.exitCode == 2, "\(check.output) \(check.errors)")
        try pair.write(tables: Self.tables("visitor"))
        let worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("INSERT INTO public.visitor VALUES (2, 'c', 'd')")
        try await pair.waitUntilEqual("SELECT count(*)::text FROM public.visitor")
        try await end(pair, worker)
    }

    /// One that has left under one name does not come back whole under another.
    @Test func whatHasLeftIsKnownUnderItsNewName() async throws {
        let pair = try await pairAtRest()
        for side in [pair.bot, pair.sync] { _ = try await side.execute(Self.create("stays")) }
        try pair.write(tables: Self.tables("stays"))
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2 && refused.errors.contains("was no part of the split"), "\(refused.errors)")
        try await pair.publish(as: refused.errors)
        let first = try await pair.startStreaming()
        _ = try await pair.sync.execute("INSERT INTO public.guest VALUES (2, 'missed', 'n')")
        try await waitUntil("it has passed by") {
            try await pair.sync.execute("SELECT 1 FROM lindero.split_table WHERE table_name = 'guest' AND left_at IS NOT NULL").rowCount == 1
        }
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        for side in [pair.bot, pair.sync] { _ = try await side.execute("ALTER TABLE public.guest RENAME TO visitor") }
        try pair.write(tables: Self.tables("stays") + Self.tables("visitor"))
        let back = try await pair.command(["run", "--http", "none"])
        #expect(back.exitCode == 2 && back.errors.contains("has run without visitor since"), "\(back.errors)")
        await pair.remove()
    }

    // MARK: two tables that change places

    private static let twoTables = tables("guest") + tables("visitor")
    private static let swap = """
        ALTER TABLE public.guest RENAME TO other; ALTER TABLE public.visitor RENAME TO guest; ALTER TABLE public.other RENAME TO visitor;
        """

    private func pairOfTwo() async throws -> SplitPair {
        let pair = try await SplitPair(schema: Self.create("guest") + Self.create("visitor"), tables: Self.twoTables)
        for table in ["guest", "visitor"] { _ = try await pair.bot.execute("INSERT INTO public.\(table) VALUES (1, '\(table)', '\(table)')") }
        return pair
    }

    /// Each change would go to the other table, and nothing would say so.
    @Test(arguments: ["bot", "sync"]) func tablesThatChangePlacesOnOneSideStopUntilTheyHaveTheirNamesBack(side: String) async throws {
        let pair = try await pairOfTwo()
        let first = try await pair.startStreaming()
        let (here, there) = side == "bot" ? (pair.bot, pair.sync) : (pair.sync, pair.bot)
        let (own, others) = side == "bot" ? ("mine", "theirs") : ("theirs", "mine")
        // Both sides write at once: what the other one has sent has the old names, and finds the new ones here.
        _ = try await here.execute("\(Self.swap) UPDATE public.guest SET \(own) = 'visitor after'; INSERT INTO public.visitor (id, \(own)) VALUES (3, 'guest')")
        _ = try await there.execute(
            "UPDATE public.guest SET \(others) = 'guest before'; INSERT INTO public.visitor (id, \(others)) VALUES (2, 'visitor')")
        #expect(try await first.wait() == 2, "\(first.errors)")
        let said = "On \(side) the split's tables have changed names: guest is the one that was visitor."
        #expect(first.errors.contains(said), "\(first.errors)")
        for command in [["run", "--http", "none"], ["check"], ["verify", "--repair", "--execute"], ["slot", "renew", side, "--give-up", "--execute"]] {
            let refused = try await pair.command(command)
            #expect(refused.exitCode == 2 && (refused.output + refused.errors).contains("tables have changed names"), "\(command) \(refused.errors)")
        }
        _ = try await here.execute(Self.swap)
        let worker = try await pair.startStreaming()
        let written = "SELECT string_agg(id || ' ' || coalesce(\(own), '-') || ' ' || coalesce(\(others), '-'), ', ' ORDER BY id) FROM public."
        for database in [here, there] {
            for (table, rows) in [("guest", "1 guest guest before, 3 guest -"), ("visitor", "1 visitor after visitor, 2 - visitor")] {
                try await waitUntil("\(table) has what was written to it under either name") {
                    try await database.execute(written + table).firstValue == rows
                }
            }
        }
        try await end(pair, worker)
    }

    @Test func aTableThatWasMadeAnewOnOneSideWaitsForAPerson() async throws {
        let pair = try await pairAtRest()
        _ = try await pair.sync.execute("INSERT INTO public.guest (id, theirs) VALUES (2, 'late')")
        _ = try await pair.sync.execute(
            """
            CREATE TABLE public.rebuilt (LIKE public.guest INCLUDING ALL); ALTER TABLE public.rebuilt REPLICA IDENTITY FULL;
            INSERT INTO public.rebuilt SELECT * FROM public.guest; DROP TABLE public.guest; ALTER TABLE public.rebuilt RENAME TO guest;
            DO $$ BEGIN EXECUTE format('ALTER PUBLICATION %I ADD TABLE public.guest', (SELECT pubname FROM pg_publication)); END $$
            """)
        let refused = try await pair.command(["run", "--http", "none"])
        #expect(refused.exitCode == 2 && refused.errors.contains("On sync another table has the name of guest than took part in the split, which is gone."), "\(refused.errors)")
        let sql = try #require(refused.errors.firstMatch(of: /run on sync: (UPDATE.*;) Then/)?.1)
        _ = try await pair.sync.execute(String(sql))
        let worker = try await pair.startStreaming()
        _ = try await pair.sync.execute("INSERT INTO public.guest (id, theirs) VALUES (3, 'new')")
        try await pair.waitUntilEqual(Self.all("guest"))
        #expect(try await pair.bot.execute("SELECT count(*)::text FROM public.guest").firstValue == "3", "what was on its way before arrives, too")
        try await end(pair, worker)
    }

    /// The new one is filled beside the old one, which is kept for a while.
    @Test func aTableThatWasRebuiltBesideTheOldOneTakesItsPlace() async throws {
        let pair = try await pairAtRest()
        for side in [pair.bot, pair.sync] {
            _ = try await side.execute(
                """
                BEGIN; CREATE TABLE public.rebuilt (LIKE public.guest INCLUDING ALL); ALTER TABLE public.rebuilt REPLICA IDENTITY FULL;
                INSERT INTO public.rebuilt SELECT * FROM public.guest; ALTER TABLE public.guest RENAME TO guest_old;
                ALTER TABLE public.rebuilt RENAME TO guest;
                DO $$ BEGIN EXECUTE format('ALTER PUBLICATION %I ADD TABLE public.guest', (SELECT pubname FROM pg_publication)); END $$;
                COMMIT
                """)
        }
        for side in ["bot", "sync"] {
            let refused = try await pair.command(["run", "--http", "none"])
            #expect(refused.exitCode == 2 && refused.errors.contains("On \(side) another table has the name of guest"), "\(refused.errors)")
            let sql = try #require(refused.errors.firstMatch(of: /run on sync: (UPDATE.*;) Then/)?.1)
            _ = try await pair.sync.execute(String(sql))
        }
        let worker = try await pair.startStreaming()
        _ = try await pair.bot.execute("INSERT INTO public.guest (id, mine) VALUES (2, 'new'); UPDATE public.guest SET mine = 'c' WHERE id = 1")
        try await pair.waitUntilEqual(Self.all("guest"))
        #expect(try await pair.sync.execute(Self.all("guest")).firstValue == "(1,c,b) (2,new,)")
        try await end(pair, worker)
    }

    /// Its rows are the new table's: they became its first partition.
    @Test func aTableThatIsMadePartitionedGoesOn() async throws {
        let pair = try await pairAtRest()
        // What an owner has alone would be lost where a row moves to another partition.
        let rules = "guest: { match: [id], insert: [bot, sync], delete: [bot, sync], columns: { shared: { mine: { policy: last_write }, theirs: { policy: last_write } } } }\n"
        try pair.write(tables: "      " + rules)
        _ = try await pair.bot.execute("UPDATE public.guest SET mine = 'before'")
        _ = try await pair.bot.execute(
            """
            BEGIN; ALTER TABLE public.guest RENAME TO guest_0;
            CREATE TABLE public.guest (id int PRIMARY KEY, mine text, theirs text) PARTITION BY RANGE (id);
            ALTER TABLE public.guest ATTACH PARTITION public.guest_0 FOR VALUES FROM (0) TO (10);
            CREATE TABLE public.guest_1 PARTITION OF public.guest FOR VALUES FROM (10) TO (20);
            ALTER TABLE public.guest REPLICA IDENTITY FULL; ALTER TABLE public.guest_1 REPLICA IDENTITY FULL;
            DO $$ BEGIN EXECUTE format('ALTER PUBLICATION %I ADD TABLE public.guest', (SELECT pubname FROM pg_publication)); END $$;
            COMMIT
            """)
        let worker = try await pair.startStreaming()
        for round in 0..<3 {
            _ = try await pair.bot.execute("INSERT INTO public.guest (id, mine) VALUES (\(2 + round), 'first'), (\(11 + round), 'second')")
            _ = try await pair.sync.execute("UPDATE public.guest SET theirs = 'round \(round)' WHERE id = 1")
        }
        try await pair.waitUntilEqual(Self.all("guest"))
        #expect(try await pair.sync.execute("SELECT mine FROM public.guest WHERE id = 1").firstValue == "before")
        try await end(pair, worker)
    }

    /// Who refers to a row by the other side's number asks for it by the table's name.
    @Test func aTableThatIsReferredToIsNotTakenForAnother() async throws {
        let create = ["parent", "stranger"].map {
            "CREATE TABLE public.\($0) (number bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, code text NOT NULL UNIQUE); ALTER TABLE public.\($0) REPLICA IDENTITY FULL;"
        }
        let rules = ["parent", "stranger"].map {
            "      \($0): { match: [code], insert: [bot, sync], delete: [bot, sync] }\n"
        }.joined()
        let child = """
                  child:
                    match: [id]
                    insert: [bot, sync]
                    delete: [bot, sync]
                    references: { parent_number: parent }
                    columns: { bot: [parent_number] }

            """
        let pair = try await SplitPair(
            schema: create.joined(separator: " ")
                + " CREATE TABLE public.child (id int PRIMARY KEY, parent_number bigint); ALTER TABLE public.child REPLICA IDENTITY FULL;",
            tables: rules + child)
        let worker = try await pair.startStreaming()
        for table in ["parent", "stranger"] {
            _ = try await pair.bot.execute("INSERT INTO public.\(table) (code) VALUES ('\(table) of 1'), ('\(table) of 2')")
            try await pair.waitUntilEqual("SELECT count(*)::text FROM public.\(table)")
        }
        _ = try await pair.bot.execute("INSERT INTO public.child SELECT 1, number FROM public.parent WHERE code = 'parent of 1'")
        try await pair.waitUntilEqual("SELECT count(*)::text FROM public.child")
        // At once: no look at the catalogs comes in between.
        _ = try await pair.sync.execute(Self.swap.replacing("guest", with: "parent").replacing("visitor", with: "stranger"))
        _ = try await pair.bot.execute("INSERT INTO public.child SELECT 2, number FROM public.parent WHERE code = 'parent of 2'")
        #expect(try await worker.wait() == 2, "\(worker.errors)")
        #expect(worker.errors.contains("On sync the split's tables have changed names"), "\(worker.errors)")
        #expect(try await pair.sync.execute("SELECT count(*)::text FROM public.child").firstValue == "1", "nothing of it went by the wrong table")
        _ = try await pair.sync.execute(Self.swap.replacing("guest", with: "parent").replacing("visitor", with: "stranger"))
        let next = try await pair.startStreaming()
        try await waitUntil("it refers to the same row") {
            try await pair.sync.execute("SELECT code FROM public.child JOIN public.parent ON number = parent_number WHERE id = 2").firstValue == "parent of 2"
        }
        try await end(pair, next)
    }
}
