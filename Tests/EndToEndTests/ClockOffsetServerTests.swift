import Foundation
import PostgresClient
import TestSupport
import Testing

/// Two servers of which one's clock is seven seconds ahead.
@Suite struct ClockOffsetServerTests {
    private static let schema = """
        CREATE TABLE public.guest (id int PRIMARY KEY, phone text);
        ALTER TABLE public.guest REPLICA IDENTITY FULL;
        """

    private func pair(policy: String, second: PostgresCluster) async throws -> SplitPair {
        try await SplitPair(
            schema: Self.schema,
            tables: """
                  guest:
                    match: [id]
                    insert: bot
                    delete: bot
                    columns: { shared: { phone: { policy: \(policy) } } }

                """, gates: "max_clock_offset: 250ms", second: second)
    }

    private func finding(_ check: LinderoProcess.Outcome) throws -> CheckDocument.Finding? {
        try JSONDecoder().decode(CheckDocument.self, from: Data(check.output.utf8)).findings.first { $0.code == "clock_offset" }
    }

    /// Seven seconds, but for what the question took.
    private static func tellsOffset(_ text: String) -> Bool { text.contains(/(69|70)[0-9][0-9]\.[0-9] ms ahead/) }

    @Test func theLaterWriteIsNotJudgedByClocksThatAreApart() async throws {
        let ahead = try await PostgresCluster.start(clockSeconds: 7)
        let pair = try await pair(policy: "last_write", second: ahead)
        let check = try await pair.command(["check", "--json"])
        #expect(check.exitCode == 2, "\(check.output)")
        #expect(try finding(check)?.severity == "blocker", "\(check.output)")

        let run = try await pair.command(["run", "--http", "none"])
        #expect(run.exitCode == 2, "\(run.errors)")
        #expect(Self.tellsOffset(run.errors) && run.errors.contains("max_clock_offset"), "\(run.errors)")
        #expect(run.errors.contains("NTP"), "\(run.errors)")
        await pair.remove()
        try await ahead.stop()
    }

    @Test func aClockThatIsSetWhileTheWorkerRunsEndsTheSplitUntilItIsRight() async throws {
        let second = try await PostgresCluster.start(clockSeconds: 0)
        let pair = try await pair(policy: "last_write", second: second)
        let worker = try await pair.startStreaming()
        try await second.setClock(secondsAhead: 7)
        #expect(try await worker.wait() == 2, "\(worker.errors)")
        #expect(Self.tellsOffset(worker.errors) && worker.errors.contains("max_clock_offset"), "\(worker.errors)")
        _ = try await pair.bot.execute("INSERT INTO public.guest VALUES (1, '600 1')")

        try await second.setClock(secondsAhead: 0)
        var again: RunningLindero?
        try await waitUntil("the server's processes have the clock, and the worker stays") {
            do { again = try await pair.startStreaming() } catch is RunningLindero.EndedEarly {}
            return again != nil
        }
        try await pair.waitUntilEqual("SELECT phone FROM public.guest")
        #expect(try await pair.sync.execute("SELECT phone FROM public.guest").firstValue == "600 1")
        again?.terminate()
        #expect(try await again?.wait() == 0, "\(again?.errors ?? "")")
        await pair.remove()
        try await second.stop()
    }

    @Test func whereNoClockDecidesTheOffsetIsShownAndTheWorkerRuns() async throws {
        let ahead = try await PostgresCluster.start(clockSeconds: 7)
        let pair = try await pair(policy: "queue", second: ahead)
        let check = try await pair.command(["check", "--json"])
        #expect(try finding(check)?.severity == "warning", "\(check.output)")
        let worker = try await pair.startStreaming()
        try await waitUntil("the status knows the offset") {
            Self.tellsOffset(try await pair.command(["status"]).output)
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
        try await ahead.stop()
    }
}
