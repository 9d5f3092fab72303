import PostgresClient
import TestSupport
import Testing

/// Two workers of one split.
@Suite struct SplitSecondWorkerTests {
    @Test func aSecondWorkerLeavesTheFirstOnesRecordAlone() async throws {
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.notes (id int PRIMARY KEY, mine int, theirs int); CREATE TABLE public.later (id int PRIMARY KEY)",
            tables: "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id, mine], sync: [theirs] } }\n")
        let first = try await pair.startStreaming()
        let recorded = "SELECT concat_ws(' ', state, problem) FROM lindero.direction ORDER BY state LIMIT 1"
        try await waitUntil("it streams") { try await pair.sync.execute(recorded).firstValue == "streaming" }

        let second = try await pair.command(["run", "--http", "none"], timeoutSeconds: 120)
        #expect(second.exitCode == 2 && second.errors.contains("is in use by another session"), "\(second.errors)")
        #expect(try await pair.sync.execute(recorded).firstValue == "streaming")

        // Neither one that another file stops.
        try pair.write(
            tables: "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id, mine], sync: [theirs] } }\n"
                + "  later: { match: [id], insert: bot, delete: bot, columns: { bot: '*' } }\n")
        let third = try await pair.command(["run", "--http", "none"], timeoutSeconds: 120)
        #expect(third.exitCode == 2 && third.errors.contains("later"), "\(third.errors)")
        #expect(try await pair.sync.execute(recorded).firstValue == "streaming")
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        await pair.remove()
    }

    /// What it would let travel is nobody's business while it does not run: the first one would find that columns had stayed behind.
    @Test(arguments: [
        "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id, mine, theirs] } }\n",
        "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id], sync: [theirs, mine] }, private: [mine] }\n",
        "  later: { match: [id], insert: bot, delete: bot, columns: { bot: '*' } }\n",
    ])
    func anotherFileOfASecondWorkerChangesNothing(tables: String) async throws {
        let own = "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id, mine], sync: [theirs] } }\n"
            + "  later: { match: [id], insert: bot, delete: bot, columns: { bot: '*' } }\n"
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.notes (id int PRIMARY KEY, mine int, theirs int); CREATE TABLE public.later (id int PRIMARY KEY)",
            tables: own)
        let first = try await pair.startStreaming()
        let noted = """
            SELECT concat_ws(' ', (SELECT string_agg(concat_ws(' ', column_name, owner, left_sides), ',' ORDER BY table_name, column_name)
              FROM lindero.split_column), (SELECT string_agg(concat_ws(' ', table_name, private_columns, left_at), ',' ORDER BY 1) FROM lindero.split_table))
            """
        let before = try await pair.sync.execute(noted).firstValue
        #expect(before?.contains("mine bot {}") == true)
        try pair.write(tables: tables)
        let second = try await pair.command(["run", "--http", "none"], timeoutSeconds: 180)
        #expect(second.exitCode == 2 && second.errors.contains("is in use by another session"), "\(second.errors)")
        #expect(try await pair.sync.execute(noted).firstValue == before)
        // It reconnects, and finds nothing amiss.
        _ = try await pair.bot.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active")
        _ = try await pair.bot.execute("INSERT INTO public.notes VALUES (1, 1, 1)")
        try await waitUntil("it goes on: \(first.errors)") { try await pair.sync.execute("SELECT FROM public.notes").rowCount == 1 }
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        await pair.remove()
    }

    /// Nor does a replica's worker add what its file names.
    @Test func aReplicasWorkerAltersNothingOfASplit() async throws {
        let notes = "  notes: { match: [id], insert: bot, delete: bot, columns: { bot: [id, mine], sync: [theirs] } }\n"
        let pair = try await SplitPair(
            schema: "CREATE TABLE public.notes (id int PRIMARY KEY, mine int, theirs int); CREATE TABLE public.later (id int PRIMARY KEY)",
            tables: notes)
        let first = try await pair.startStreaming()
        let published = "SELECT string_agg(tablename, ',' ORDER BY 1) FROM pg_publication_tables"
        let before = try await pair.bot.execute(published).firstValue
        try pair.write(tables: notes + "  later: { match: [id], insert: bot, delete: bot, columns: { bot: '*' } }\n", backend: "replica")
        let second = try await pair.command(["run", "--http", "none"], timeoutSeconds: 180)
        #expect(second.exitCode == 2 && second.errors.contains("is one direction of a split"), "\(second.errors)")
        #expect(try await pair.bot.execute(published).firstValue == before)
        // It is no replica that could be taken down: the second database alone has what the split has not brought home.
        let check = try await pair.command(["check", "--json"])
        #expect(check.exitCode == 2 && check.output.contains("split_begun"), "\(check.output)")
        let preview = try await pair.command(["rollback"])
        #expect((preview.output + preview.errors).contains("is one direction of a split"), "\(preview.output)\(preview.errors)")
        let back = try await pair.command(["rollback", "--execute"])
        #expect(back.exitCode == 2 && (back.output + back.errors).contains("`backend: split` back"), "\(back.exitCode): \(back.output)\(back.errors)")
        // Nor one whose rows a replica's rules could mend, or that could go on to a split.
        let role = "second_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        _ = try await pair.bot.execute("CREATE ROLE \(role)_bot LOGIN")
        _ = try await pair.sync.execute("CREATE ROLE \(role)_sync LOGIN")
        try pair.write(tables: notes, backend: "replica", roles: ["\(role)_bot", "\(role)_sync"])
        for arguments in [["verify"], ["verify", "--repair", "--execute"], ["advance", "--to", "split", "--execute"]] {
            let refused = try await pair.command(arguments, timeoutSeconds: 180)
            #expect(
                refused.exitCode == 2 && (refused.output + refused.errors).contains("is one direction of a split"),
                "\(arguments): \(refused.exitCode) \(refused.output)\(refused.errors)")
        }
        _ = try await pair.bot.execute("DROP ROLE \(role)_bot")
        _ = try await pair.sync.execute("DROP ROLE \(role)_sync")
        // Nor while the second database can't be asked, nor as a beginning.
        var environment = pair.environment
        environment["SYNC_DATABASE_URL"] = "postgres://nobody@127.0.0.1:1/nowhere"
        let alone = try await LinderoProcess.run(["rollback", "--execute"], environment: environment, folder: pair.folder)
        #expect(alone.exitCode == 2 && (alone.output + alone.errors).contains("is one direction of a split"), "\(alone.output)\(alone.errors)")
        try pair.write(tables: notes, backend: "shared")
        let anew = try await pair.command(["advance", "--to", "replica", "--execute"])
        #expect(anew.exitCode == 2 && (anew.output + anew.errors).contains("is one direction of a split"), "\(anew.output)\(anew.errors)")
        #expect(try await pair.bot.execute("SELECT to_regclass('lindero.phase') IS NULL OR NOT EXISTS (SELECT FROM lindero.phase)").firstValue == "t")
        #expect(try await pair.values("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == ["1", "1"])
        _ = try await pair.bot.execute("INSERT INTO public.later VALUES (1); INSERT INTO public.notes VALUES (1, 1, 1)")
        try await waitUntil("it goes on: \(first.errors)") { try await pair.sync.execute("SELECT FROM public.notes").rowCount == 1 }
        first.terminate()
        #expect(try await first.wait() == 0, "\(first.errors)")
        await pair.remove()
    }
}
