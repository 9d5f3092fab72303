import Foundation
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import lindero

/// `lindero verify` beside a running worker.
@Suite struct VerifyCommandTests {
    private static let schema = "CREATE TABLE public.guest (id int PRIMARY KEY, name text, note text);"

    private static let rule = "private: [note], columns: { bot: \"*\" }"

    private func makePair(rows: Int = 3_000) async throws -> (GuestPair, RunningLindero) {
        let pair = try await GuestPair(
            schema: Self.schema + "INSERT INTO public.guest SELECT n, 'Guest ' || n, 'x' FROM generate_series(1, \(rows)) n;",
            rule: Self.rule)
        let worker = try pair.run()
        try await worker.waitForErrors("streaming")
        return (pair, worker)
    }

    private func document(_ outcome: LinderoProcess.Outcome) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
    }

    @Test func differencesAreListedByKeyMendedOnlyWhenAskedAndOnRecord() async throws {
        let (pair, worker) = try await makePair()
        let before = try await pair.command(["status", "--json"])
        #expect(before.output.contains("\"bot->sync verify_age\""))
        let equal = try await pair.command(["verify", "--json"])
        #expect(equal.exitCode == 0, "\(equal.errors)")
        let table = try #require((try document(equal)["tables"] as? [[String: Any]])?.first)
        #expect(table["table"] as? String == "guest" && table["rows"] as? Int == 3_000)
        #expect(table["differences"] as? Int == 0 && table["rechecked"] as? Int == 0)
        #expect((table["sourceLsn"] as? String)?.contains("/") == true && table["sourceLsn"] as? String != "0/0")
        let open = try await pair.command(["status"])
        #expect(open.output.contains("verify: bot->sync equal, 3,000 rows of 1 tables"))

        // What is private to the source is none of the target's business.
        _ = try await pair.target.execute("""
            SET session_replication_role = replica;
            UPDATE public.guest SET name = 'planted-secret', note = 'own' WHERE id = 7; DELETE FROM public.guest WHERE id = 2999;
            INSERT INTO public.guest VALUES (-1, 'extra')
            """)
        let found = try await pair.command(["verify"])
        #expect(found.exitCode == 3)
        #expect(found.output.contains("guest (id = 7): differs in name"))
        #expect(found.output.contains("guest (id = 2999): is on bot alone"))
        #expect(found.output.contains("guest (id = -1): is on sync alone"))
        #expect(found.output.contains("Next: lindero verify --repair"))
        #expect(!found.output.contains("planted-secret") && !found.errors.contains("planted-secret"))
        let shown = try await pair.command(["verify", "guest", "--show-values", "--json"])
        #expect(shown.exitCode == 3)
        let json = try document(shown)
        #expect(json["differences"] as? Int == 3)
        let details = (json["tables"] as? [[String: Any]])?.first?["details"] as? [[String: Any]]
        let changed = try #require(details?.first { $0["kind"] as? String == "changed" })
        #expect((changed["key"] as? [String: String]) == ["id": "7"])
        #expect((changed["values"] as? [String: [String: String]])?["name"] == ["source": "Guest 7", "target": "planted-secret"])

        let dry = try await pair.command(["verify", "--repair"])
        #expect(dry.exitCode == 3)
        #expect(dry.output.contains("would be updated") && dry.output.contains("would be inserted") && dry.output.contains("would be deleted"))
        #expect(try await pair.target.execute("SELECT name FROM public.guest WHERE id = 7").firstValue == "planted-secret")
        let closed = try await pair.command(["status", "--json"])
        #expect(closed.output.contains("\"result\": \"different\""))
        let mended = try await pair.command(["verify", "--repair", "--execute"])
        #expect(mended.exitCode == 0, "\(mended.output) \(mended.errors)")
        #expect(mended.output.contains("3 mended"))
        #expect(try await pair.target.execute("SELECT name || note FROM public.guest WHERE id = 7").firstValue == "Guest 7own")
        #expect(try await pair.command(["verify"]).exitCode == 0)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    @Test func killedComparisonGoesOnWhereItWas() async throws {
        let (pair, worker) = try await makePair(rows: 30_000)
        try pair.append("verify: { chunk_rows: 50, rate_limit: 100kB }")
        let first = try pair.start(["verify", "--json"])
        try await waitUntil("a position is kept", timeoutSeconds: 60) {
            let rows = try await pair.target.execute("SELECT rows FROM lindero.verification_table WHERE position IS NOT NULL")
            return rows.rowCount > 0
        }
        first.kill9()
        _ = try await first.wait()
        _ = try await pair.target.execute("UPDATE public.guest SET name = 'x' WHERE id = 29999")
        try await waitUntil("its session is gone") {
            try await pair.target.execute("SELECT pg_try_advisory_lock(hashtextextended('lindero.verify bot->sync', 0))").firstValue == "t"
        }
        _ = try await pair.target.execute("SELECT pg_advisory_unlock(hashtextextended('lindero.verify bot->sync', 0))")
        try pair.write(rule: Self.rule)
        try pair.append("verify: { chunk_rows: 50 }")
        let second = try pair.start(["verify", "--json"])
        try await second.waitForErrors("taken up where the last comparison ended")
        #expect(try await second.wait(timeoutSeconds: 120) == 3)
        let json = try document(LinderoProcess.Outcome(exitCode: 3, output: second.output, errors: second.errors))
        #expect((json["tables"] as? [[String: Any]])?.first?["rows"] as? Int == 30_000)
        #expect(try await pair.target.execute("SELECT 1 FROM lindero.verification").rowCount == 1)
        worker.terminate()
        _ = try await worker.wait()
        try await pair.remove()
    }

    /// The stream stands still, comes back, and sends again what it had sent: none of it is a difference.
    @Test func workerThatDiesMeanwhileMakesNoDifference() async throws {
        let (pair, first) = try await makePair(rows: 5_000)
        try pair.append("verify: { chunk_rows: 200 }")
        let writer = Task {
            var count = 0
            while !Task.isCancelled {
                _ = try? await pair.source.execute("""
                    UPDATE public.guest SET name = name || '.' WHERE id % 97 = \(count % 97);
                    DELETE FROM public.guest WHERE id = \(5_001 + count % 10);
                    INSERT INTO public.guest VALUES (\(5_001 + (count + 3) % 10), 'x', 'y') ON CONFLICT DO NOTHING
                    """)
                count += 1
            }
            return count
        }
        var worker = first
        for round in 0..<4 {
            let verify = try pair.start(["verify", "--json"])
            worker.kill9()
            _ = try await worker.wait()
            worker = try pair.run()
            #expect(try await verify.wait(timeoutSeconds: 120) == 0, "round \(round): \(verify.output) \(verify.errors)")
        }
        writer.cancel()
        #expect(await writer.value > 0)
        worker.terminate()
        _ = try await worker.wait()
        try await pair.remove()
    }

    @Test func progressIsOneLineWithABarAndTheTimeThatIsLeft() {
        var progress = VerifyProgress()
        progress.tablesTotal = 4
        progress.tablesDone = 1
        progress.rowsTotal = 2_000_000
        progress.rowsDone = 500_000
        #expect(VerifyLine.text("bot->sync", progress, elapsedSeconds: 10)
            == "bot->sync comparing [#####...............] 25%, 1/4 tables, 500,000 rows, 50,000/s, 30.0 s left")
        progress.differences = 3
        progress.tablesDone = 4
        #expect(VerifyLine.text("bot->sync", progress, elapsedSeconds: 10)
            == "bot->sync comparing [####################] 100%, 4/4 tables, 500,000 rows, 50,000/s, 3 differences")
    }

    @Test func whatCannotBeComparedIsBlockedWithItsFix() async throws {
        let pair = try await GuestPair(schema: Self.schema, targetSchema: Self.schema, rule: "columns: { bot: \"*\" }")
        let early = try await pair.command(["verify"])
        #expect(early.exitCode == 2)
        #expect(early.errors.contains("lindero migrate"))
        #expect(try await pair.command(["migrate"]).exitCode == 0)
        let unprepared = try await pair.command(["verify", "--json"])
        #expect(unprepared.exitCode == 2)
        #expect(unprepared.output.contains("its initial copy is not done"))
        #expect(try await pair.command(["verify", "gest"]).errors.contains("did you mean \"guest\"?"))
        #expect(try await pair.command(["verify", "--execute"]).exitCode == 2)
        _ = try await pair.source.execute("CREATE TABLE public.other (id int PRIMARY KEY)")
        try await pair.remove()
    }
}
