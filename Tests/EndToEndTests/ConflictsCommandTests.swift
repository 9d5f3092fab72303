import Foundation
import PostgresClient
import TestSupport
import Testing

/// `lindero conflicts`, over rows as the worker would record them.
@Suite struct ConflictsCommandTests {
    private static let schema = """
        CREATE TABLE public."Reservas" ("bookingId" text PRIMARY KEY, phone text, "crmNotes" text, status text);
        INSERT INTO public."Reservas" VALUES ('guest-key-1', 'kept-secret', NULL, NULL);
        """

    private func record(
        _ side: PostgresConnection, column: String = "phone", lsn: String = "0/10", state: String = "open",
        key: String = "guest-key-1"
    ) async throws {
        _ = try await side.query(
            """
            INSERT INTO lindero.conflict (direction, schema_name, table_name, row_key, column_name, kind, policy, winner,
              loser, kept_value, lost_value, lost_at, lost_lsn, state)
            VALUES ('bot->sync', 'public', 'Reservas', jsonb_build_object('bookingId', $4::text), $1, 'column', 'queue',
              'sync', 'bot', 'kept-secret', 'lost-secret', now(), $2::text::pg_lsn, $3)
            """, [.text(column), .text(lsn), .text(state), .text(key)])
    }

    private func secrets(_ outcome: LinderoProcess.Outcome) -> [String] {
        ["kept-secret", "lost-secret", "guest-key"].filter { outcome.output.contains($0) || outcome.errors.contains($0) }
    }

    /// A table that inherits from it may have a row with the same key.
    @Test func aRowOfAChildTableIsNotResolved() async throws {
        let pair = try await SplitPair(schema: Self.schema)
        try await record(pair.sync)
        _ = try await pair.sync.execute(
            "CREATE TABLE public.older () INHERITS (public.\"Reservas\"); INSERT INTO public.older VALUES ('guest-key-1', 'kept-secret', NULL, NULL)")
        #expect(try await pair.command(["conflicts", "resolve", "sync:1", "--take", "bot"]).exitCode == 0)
        #expect(try await pair.sync.execute("SELECT phone FROM ONLY public.\"Reservas\"").firstValue == "lost-secret")
        #expect(try await pair.sync.execute("SELECT phone FROM public.older").firstValue == "kept-secret")
        await pair.remove()
    }

    @Test func openConflictsAreListedCountedAndResolvedByName() async throws {
        let pair = try await SplitPair(schema: Self.schema)
        let none = try await pair.command(["conflicts", "list"])
        #expect(none.exitCode == 0)
        #expect(none.output.contains("No conflicts are on record."))
        try await record(pair.sync)
        try await record(pair.bot, lsn: "0/11", state: "settled")
        let list = try await pair.command(["conflicts", "list"])
        #expect(list.exitCode == 3)
        #expect(list.output.contains("sync:1") && !list.output.contains("bot:1"))
        #expect(list.output.contains("Reservas.phone"))
        #expect(secrets(list) == [])
        let json = try await pair.command(["conflicts", "list", "--all", "--json"])
        #expect(json.exitCode == 3)
        let document = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        #expect(document["open"] as? Int == 1)
        #expect((document["conflicts"] as? [[String: Any]])?.compactMap { $0["id"] as? String } == ["bot:1", "sync:1"])
        let counts = try #require(document["counts"] as? [[String: Any]])
        #expect(
            Set(counts.map { count in ["table", "column", "policy", "state", "count"].map { "\(count[$0] ?? "-")" }.joined(separator: " ") })
                == ["Reservas phone queue open 1", "Reservas phone queue settled 1"])
        #expect(secrets(json) == [])
        // Of another table or column there is nothing to find.
        #expect(try await pair.command(["conflicts", "list", "--table", "Leads"]).exitCode == 0)
        #expect(try await pair.command(["conflicts", "list", "--column", "status"]).exitCode == 0)
        #expect(try await pair.command(["conflicts", "list", "--state", "settled"]).exitCode == 3)

        let status = try await pair.command(["status"])
        #expect(status.output.contains("1 conflict on sync waits for a person"))
        let statusJSON = try await pair.command(["status", "--json"])
        #expect(statusJSON.output.contains("\"open\": 1"))
        #expect(status.output.contains("clocks: sync's clock"))
        #expect(statusJSON.output.contains("\"offsetMilliseconds\""))

        let resolved = try await pair.command(["conflicts", "resolve", "sync:1", "--take", "bot", "--json"])
        #expect(resolved.exitCode == 0 && secrets(resolved) == [])
        let answer = try JSONSerialization.jsonObject(with: Data(resolved.output.utf8)) as? [String: Any]
        #expect(answer?["resolved"] as? String == "sync:1" && answer?["written"] as? Bool == true)
        #expect(try await pair.sync.execute("SELECT phone FROM public.\"Reservas\"").firstValue == "lost-secret")
        #expect(try await pair.bot.execute("SELECT phone FROM public.\"Reservas\"").firstValue == "kept-secret")
        #expect(try await pair.command(["conflicts", "list"]).exitCode == 0)
        #expect(try await pair.command(["conflicts", "resolve", "sync:1", "--take", "bot"]).exitCode == 2)
        await pair.remove()
    }

    @Test func keyAndValuesShowOnlyWhenAskedFor() async throws {
        let pair = try await SplitPair(schema: Self.schema)
        try await record(pair.sync)
        let hidden = try await pair.command(["conflicts", "show", "1"])
        #expect(hidden.exitCode == 0)
        #expect(secrets(hidden) == [])
        let json = try await pair.command(["conflicts", "show", "sync:1", "--json"])
        let document = try #require(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        let shape = document["conflict"] as? [String: Any]
        #expect(shape?["table"] as? String == "Reservas" && shape?["column"] as? String == "phone", "\(json.output)")
        #expect(secrets(json) == [])
        let shown = try await pair.command(["conflicts", "show", "sync:1", "--show-values"])
        #expect(secrets(shown).count == 3)
        #expect(shown.output.contains("lindero conflicts resolve sync:1 --take bot"))
        // The number alone must mean one conflict.
        try await record(pair.bot)
        let both = try await pair.command(["conflicts", "show", "1"])
        #expect(both.exitCode == 2)
        #expect(both.errors.contains("bot:1 or sync:1"))
        for missing in ["9", "sync:9", "crm:1", "x", "sync:1:2"] {
            #expect(try await pair.command(["conflicts", "show", missing]).exitCode == 2, "\(missing)")
        }
        await pair.remove()
    }

    @Test func aValueComesFromTheArgumentAFileOrStdinAndNeverIntoAMessage() async throws {
        let pair = try await SplitPair(schema: Self.schema)
        for number in 1...5 { try await record(pair.sync, lsn: "0/1\(number)") }
        func phone() async throws -> String? { try await pair.sync.execute("SELECT phone FROM public.\"Reservas\"").firstValue }
        #expect(try await pair.command(["conflicts", "resolve", "sync:1", "--take", "argument"]).exitCode == 0)
        #expect(try await phone() == "argument")
        // The row has another value now than the second conflict kept.
        let moved = try await pair.command(["conflicts", "resolve", "sync:2", "--take", "bot"])
        #expect(moved.exitCode == 2)
        #expect(moved.errors.contains("--force"))
        #expect(secrets(moved) == [])
        let fromStdin = try await pair.command(
            ["conflicts", "resolve", "sync:2", "--value-from", "-", "--force"], input: Array("two\nlines\n".utf8))
        #expect(fromStdin.exitCode == 0)
        #expect(try await phone() == "two\nlines")
        // A value that is spelt like a side.
        try "bot".write(toFile: pair.folder + "/value", atomically: true, encoding: .utf8)
        #expect(try await pair.command(["conflicts", "resolve", "sync:3", "--value-from", "value", "--force"]).exitCode == 0)
        #expect(try await phone() == "bot")
        #expect(try await pair.command(["conflicts", "resolve", "sync:4", "--null", "--force"]).exitCode == 0)
        #expect(try await phone() == nil)
        _ = try await pair.sync.execute("ALTER TABLE public.\"Reservas\" ADD CHECK (phone <> 'private-number')")
        let refused = try await pair.command(["conflicts", "resolve", "sync:5", "--take", "private-number", "--force"])
        #expect(refused.exitCode == 1)
        #expect(!refused.errors.contains("private-number") && secrets(refused) == [])
        #expect(try await pair.command(["conflicts", "resolve", "sync:5", "--take", "a", "--null"]).exitCode == 2)
        await pair.remove()
    }

    @Test func aColumnThatIsNotSharedAnyMoreIsLeftToItsOwner() async throws {
        let pair = try await SplitPair(schema: Self.schema)
        _ = try await pair.sync.execute("UPDATE public.\"Reservas\" SET \"crmNotes\" = 'kept-secret'")
        try await record(pair.sync, column: "crmNotes")
        let outcome = try await pair.command(["conflicts", "resolve", "sync:1", "--take", "bot"])
        #expect(outcome.exitCode == 2)
        #expect(outcome.errors.contains("neither shared nor"))
        #expect(try await pair.sync.execute("SELECT \"crmNotes\" FROM public.\"Reservas\"").firstValue == "kept-secret")
        await pair.remove()
    }
}
