import PostgresClient
import TestSupport
import Testing

/// What comes of two operations that meet, for each pair that Split.md documents, in either order, on two servers.
@Suite struct SplitOutcomeTests {
    private static let schema = """
        CREATE TABLE public.guests (id text PRIMARY KEY, a text, b text, s text, n int DEFAULT 0);
        ALTER TABLE public.guests REPLICA IDENTITY FULL;
        """
    private static let tables = """
          guests:
            match: [id]
            insert: [bot, sync]
            delete: [bot, sync]
            columns:
              bot: [a]
              sync: [b]
              shared: { s: { policy: last_write }, n: { policy: delta } }

        """

    /// What one side does to the row `k`. `own` is its own column, `me` its name.
    private enum Operation: String {
        case insert = "INSERT INTO public.guests (id, own, s, n) VALUES ('k', 'me', 'me', 1);"
        case update = "UPDATE public.guests SET own = 'me', s = 'me', n = n + 1 WHERE id = 'k';"
        case delete = "DELETE FROM public.guests WHERE id = 'k';"
        case insertOther = "INSERT INTO public.guests (id, own, s, n) VALUES ('k-new', 'me', 'me', 1);"
        case changeKey = "UPDATE public.guests SET id = 'k-new' WHERE id = 'k';"
        case changeKeyToOwn = "UPDATE public.guests SET id = 'k-me' WHERE id = 'k';"

        func sql(_ key: String, by side: String) -> String {
            rawValue.replacing("own", with: side == "bot" ? "a" : "b").replacing("'me'", with: "'\(side)'")
                .replacing("'k-me'", with: "'\(key)-\(side)'").replacing("'k-new'", with: "'\(key)-new'").replacing("'k'", with: "'\(key)'")
        }
    }

    /// `F` acts first, `S` second; `f` and `s` are what the row held before in their own columns.
    private struct Meeting {
        var name: String
        var first: [Operation]
        var second: [Operation]
        /// Rows in the end: key, own columns of `F` and `S`, the shared value and the counter.
        var rows: [String]
        /// Who lost what.
        var log: String
        /// What its own side ended with the row, and may be in the log all the same.
        var ended = ""
    }

    private static let meetings = [
        Meeting(name: "insert-insert", first: [.insert], second: [.insert], rows: ["k F S S 2"], log: "F s"),
        Meeting(name: "insert-own-delete", first: [.insert], second: [.insert, .delete], rows: [], log: "F own, F s, F n"),
        Meeting(name: "own-delete-insert", first: [.insert, .delete], second: [.insert], rows: [], log: "S own, S s, S n", ended: "F s"),
        Meeting(name: "again-delete", first: [.delete, .insert], second: [.delete], rows: ["k F - F 1"], log: ""),
        Meeting(name: "delete-again", first: [.delete], second: [.delete, .insert], rows: ["k - S S 1"], log: ""),
        Meeting(name: "insert-key", first: [.insertOther], second: [.changeKey], rows: ["k-new F s old 11"], log: "F s"),
        Meeting(name: "key-insert", first: [.changeKey], second: [.insertOther], rows: ["k-new f S S 11"], log: "F s"),
        Meeting(name: "update-update", first: [.update], second: [.update], rows: ["k F S S 12"], log: "F s"),
        Meeting(name: "update-delete", first: [.update], second: [.delete], rows: [], log: "F own, F s, F n"),
        Meeting(name: "delete-update", first: [.delete], second: [.update], rows: [], log: "S own, S s, S n"),
        Meeting(name: "update-key", first: [.update], second: [.changeKey], rows: ["k-new F s old 10"], log: "F own, F s, F n"),
        Meeting(name: "key-update", first: [.changeKey], second: [.update], rows: ["k-new f S old 10"], log: "S own, S s, S n"),
        Meeting(name: "delete-delete", first: [.delete], second: [.delete], rows: [], log: ""),
        Meeting(name: "delete-key", first: [.delete], second: [.changeKey], rows: ["k-new - s old 10"], log: ""),
        Meeting(name: "key-delete", first: [.changeKey], second: [.delete], rows: ["k-new f - old 10"], log: ""),
        Meeting(
            name: "key-key", first: [.changeKeyToOwn], second: [.changeKeyToOwn], rows: ["k-F f - old 10", "k-S - s old 10"], log: ""),
        Meeting(name: "again-again", first: [.delete, .insert], second: [.delete, .insert], rows: ["k F S S 2"], log: "F s"),
        Meeting(name: "again-update", first: [.delete, .insert], second: [.update], rows: ["k F - F 1"], log: "S own, S s, S n"),
        Meeting(name: "update-again", first: [.update], second: [.delete, .insert], rows: ["k - S S 1"], log: "F own, F s, F n"),
    ]

    @Test func eachPairOfOperationsEndsAsDocumentedInEitherOrder() async throws {
        let pair = try await SplitPair(schema: Self.schema, tables: Self.tables)
        let orders = [("bot", "sync"), ("sync", "bot")]
        let all = "SELECT coalesce(string_agg(concat_ws(' ', id, coalesce(a, '-'), coalesce(b, '-'), s, n), E'\\n' ORDER BY id), '') FROM public.guests"
        for meeting in Self.meetings where meeting.first[0] != .insert {
            for (first, _) in orders {
                _ = try await pair.bot.execute("INSERT INTO public.guests VALUES ('\(meeting.name)-by-\(first)', 'a', 'b', 'old', 10)")
            }
        }
        var worker = try await pair.startStreaming()
        try await pair.waitUntilEqual(all)
        worker.kill9()
        _ = try await worker.wait()
        for meeting in Self.meetings {
            for (first, second) in orders {
                for (name, operations) in [(first, meeting.first), (second, meeting.second)] {
                    let side = name == "bot" ? pair.bot : pair.sync
                    for operation in operations { _ = try await side.execute(operation.sql("\(meeting.name)-by-\(first)", by: name)) }
                }
            }
        }
        worker = try await pair.startStreaming()
        for (side, name) in [(pair.bot, "bot"), (pair.sync, "sync")] {
            _ = try await side.execute("INSERT INTO public.guests (id) VALUES ('last of \(name)')")
        }
        try await waitUntil("everything has arrived") {
            try await pair.values("SELECT count(*) FROM public.guests WHERE id LIKE 'last of %'") == ["2", "2"]
        }
        try await pair.waitUntilEqual(all)
        let rows = (try await pair.bot.execute("\(all) WHERE id NOT LIKE 'last of %'").firstValue ?? "").split(separator: "\n").map(String.init)
        var lost: [String: Set<String>] = [:]
        for side in [pair.bot, pair.sync] {
            for row in try await side.execute("SELECT row_key ->> 'id', loser, column_name FROM lindero.conflict").rows {
                lost[row[0] ?? "", default: []].insert("\(row[1] ?? "") \(row[2] ?? "")")
            }
        }
        for meeting in Self.meetings {
            for (first, second) in orders {
                let key = "\(meeting.name)-by-\(first)"
                #expect(rows.filter { $0.hasPrefix(key) } == Self.rows(of: meeting, key, first, second), "\(key)")
                let found = lost.filter { $0.key.hasPrefix(key) }.values.reduce(Set()) { $0.union($1) }
                #expect(
                    found.subtracting(Self.losses(meeting.ended, first, second)) == Self.losses(meeting.log, first, second), "\(key)")
            }
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
    }

    private static func own(_ side: String) -> String { side == "bot" ? "a" : "b" }

    /// As the query tells them: bot's column comes first.
    private static func rows(of meeting: Meeting, _ key: String, _ first: String, _ second: String) -> [String] {
        let words = ["F": first, "S": second, "f": own(first), "s": own(second)]
        return meeting.rows.map { row in
            let parts = row.split(separator: " ").map(String.init)
            let id = key + parts[0].dropFirst().replacing("F", with: first).replacing("S", with: second)
            let owned = [parts[1], parts[2]].map { words[$0] ?? $0 }
            return ([id] + (first == "bot" ? owned : owned.reversed()) + [words[parts[3]] ?? parts[3], parts[4]]).joined(separator: " ")
        }.sorted()
    }

    private static func losses(_ log: String, _ first: String, _ second: String) -> Set<String> {
        Set(
            log.split(separator: ", ").map { loss in
                let side = loss.hasPrefix("F") ? first : second
                return "\(side) \(loss.hasSuffix("own") ? own(side) : String(loss.suffix(1)))"
            })
    }
}
