import Foundation
import PostgresClient
import Synchronization
import TestSupport
import Testing

/// The one who leads a move is killed at every boundary of the steps and at places all over each; the worker, too. A run of
/// all tests has one place inside each step, and the boundary where it is recorded that it begins; `LINDERO_STEP_KILLS=all` has
/// all of them.
@Suite struct PhaseStepKillTests {
    private static let isWhole = ProcessInfo.processInfo.environment["LINDERO_STEP_KILLS"] == "all"

    /// Takes a system along one command's moves, killing whoever leads and the worker in every step.
    final class Gauntlet {
        let pair: SplitPair
        let hold: PhaseHold
        var worker: RunningLindero
        /// Steps inside which the leader was killed, and the worker.
        var struck: Set<String> = []
        var workerStruck: Set<String> = []
        var kills = 0
        /// A person's part, once a step is recorded: moving a service.
        var begun: (String) -> Void = { _ in }

        init(_ pair: SplitPair) async throws {
            self.pair = pair
            hold = try await PhaseHold(pair)
            worker = try pair.run()
        }

        /// The steps that the dry run names: number and work.
        private func plan(_ arguments: [String]) async throws -> [[String]] {
            let outcome = try await pair.command(arguments + ["--json"])
            let document = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any]
            let moves = try #require(document?["moves"] as? [[String: Any]], "\(outcome.output)\(outcome.errors)")
            return moves.map { move in
                (move["steps"] as? [[String: Any]] ?? []).map { "\(move["to"] ?? "") \($0["number"] ?? "") \($0["work"] ?? "")" }
            }
        }

        private func restartWorker(in step: String) async throws {
            worker.kill9()
            _ = try await worker.wait()
            worker = try pair.run()
            workerStruck.insert(step)
        }

        private func kill(_ process: RunningLindero, in step: String?) async throws {
            try await hold.kill(process)
            kills += 1
            if let step { struck.insert(step) }
        }

        func run(_ arguments: [String]) async throws {
            let command = arguments + ["--execute"]
            for move in try await plan(arguments) {
                if PhaseStepKillTests.isWhole { try await killAllOver(command, move) } else { try await killOnce(command, move) }
                for step in move { #expect(struck.contains(step) && workerStruck.contains(step), "\(step)") }
            }
        }

        /// Behind the record that a step begins, and once inside it; whoever ends a step is killed in the next.
        private func killOnce(_ command: [String], _ move: [String]) async throws {
            var process = try pair.start(command)
            for (index, step) in move.enumerated() {
                try await hold.expect(.begin(index + 1), process, step)
                process.pause()
                try await hold.pass()
                try await kill(process, in: step)
                begun(step)
                try await restartWorker(in: step)
                if try await !strike(command, step, at: [1, 4, 16, 64][index % 4]) { _ = try await strike(command, step, at: 1) }
                process = try pair.start(command)
                try await hold.expect(.end(index + 1), process, step)
                try await hold.pass()
            }
            #expect(try await process.wait() == 0, "\(process.errors)")
        }

        private func killAllOver(_ command: [String], _ move: [String]) async throws {
            for (index, step) in move.enumerated() {
                let number = index + 1
                // It is recorded, and nothing of it done.
                var process = try pair.start(command)
                try await hold.expect(.begin(number), process, step)
                process.pause()
                try await hold.pass()
                try await kill(process, in: step)
                begun(step)
                try await restartWorker(in: step)
                // Somewhere inside, further and further on, until it is through before it is struck.
                var message = 1
                while try await strike(command, step, at: message) { message *= 4 }
                // All of it is done, and it is not recorded that it ended.
                process = try pair.start(command)
                try await hold.expect(.end(number), process, step)
                try await kill(process, in: step)
                // It is, and the one who recorded it does not know.
                process = try pair.start(command)
                try await hold.expect(.end(number), process, step)
                process.pause()
                try await hold.pass()
                try await kill(process, in: nil)
            }
        }

        /// - Returns: whether the leader was struck before it was through.
        private func strike(_ command: [String], _ step: String, at message: Int) async throws -> Bool {
            let count = MessageCount()
            defer { count.close() }
            let environment = try count.environment(pair)
            let victim = Mutex<RunningLindero?>(nil)
            count.at(message) { victim.withLock { $0?.kill9() } }
            let process = try LinderoProcess.start(command, environment: environment, folder: pair.folder)
            victim.withLock { $0 = process }
            var isThrough = false
            try await waitUntil("\(step) is struck at message \(message), or through; it said \(process.errors)", timeoutSeconds: 120) {
                if process.child.exitCode != nil { return true }
                isThrough = try await hold.isWaiting()
                return isThrough
            }
            guard !isThrough else {
                try await kill(process, in: nil)
                return false
            }
            let code = try await process.wait()
            guard code == 137 else { throw PhaseHold.Astray(what: "\(step) ended by itself with \(code): \(process.errors)") }
            try await kill(process, in: step)
            return true
        }

        /// Run again where it was to get to, it says so.
        func expectThere(_ arguments: [String], _ phase: String) async throws {
            let again = try await pair.command(arguments + ["--execute"])
            #expect(again.exitCode == 0 && again.output.contains("already there: \(phase)"), "\(again.output)\(again.errors)")
        }

        func finish(moves: Int) async throws {
            try await hold.end()
            worker.terminate()
            #expect(try await worker.wait() == 0, "\(worker.errors)")
            // Each work stands in the record once, in order, and ended.
            let rows = try await pair.bot.execute(
                "SELECT move, count(*), max(number), bool_and(ended_at IS NOT NULL) FROM lindero.phase GROUP BY move ORDER BY move"
            ).rows
            #expect(rows.count == moves)
            for row in rows { #expect(row[1] == row[2] && row[3] == "t") }
            print("killed the leader \(kills) times in \(struck.count) steps, the worker in \(workerStruck.count)")
        }
    }

    @Test func killedInsideEveryStepAReplicaComesAndGoes() async throws {
        let pair = try await PhaseTests.pair()
        let gauntlet = try await Gauntlet(pair)
        try await gauntlet.run(["advance", "--to", "replica"])
        try await gauntlet.expectThere(["advance", "--to", "replica"], "replica")
        #expect(try await pair.sync.execute("SELECT count(*) FROM public.\"Reservas\"").firstValue == "500")
        try await gauntlet.run(["rollback", "--to", "shared"])
        try await gauntlet.expectThere(["rollback", "--to", "shared"], "shared")
        try await gauntlet.finish(moves: 2)
        await pair.remove()
    }

    /// Both services write all the time, and one of them moves there and back.
    @Test func killedInsideEveryStepASplitComesAndGoes() async throws {
        let pair = try await PhaseTests.pair(roles: true)
        let (bot, sync) = LiveService.both(of: pair)
        let start = try pair.run()
        let replica = try await pair.command(["advance", "--to", "replica", "--execute"], timeoutSeconds: 120)
        #expect(replica.exitCode == 0, "\(replica.errors)\(start.errors)")
        start.terminate()
        #expect(try await start.wait() == 0)
        bot.start()
        sync.start()
        let gauntlet = try await Gauntlet(pair)
        gauntlet.begun = { if $0.hasSuffix("move_services") { sync.move(to: pair.url("sync", as: "sync_app")) } }
        try await gauntlet.run(["advance", "--to", "split"])
        try await gauntlet.expectThere(["advance", "--to", "split"], "split")
        gauntlet.begun = { if $0.hasSuffix("move_services") { sync.move(to: pair.url("bot", as: "sync_app")) } }
        try await gauntlet.run(["rollback", "--to", "replica"])
        try await gauntlet.expectThere(["rollback", "--to", "replica"], "replica")
        await bot.end()
        await sync.end()
        #expect(bot.failures.isEmpty && sync.failures.isEmpty, "\(bot.failures) \(sync.failures)")
        let made = try await pair.bot.execute(
            "SELECT count(*), count(DISTINCT \"bookingId\"), count(DISTINCT id) FROM public.\"Reservas\" WHERE status = 'made'").rows[0]
        #expect(made[0] == "\(sync.acknowledged)" && made[1] == made[0] && made[2] == made[0])
        for (column, last) in [("status", sync.acknowledged), ("\"crmNotes\"", bot.acknowledged)] {
            let wrong = try await pair.bot.execute("""
                SELECT count(*) FROM generate_series(\(last - 99), \(last)) n
                JOIN public."Reservas" r ON r."bookingId" = 'b' || (n % 100 + 1) WHERE r.\(column) IS DISTINCT FROM n::text
                """).firstValue
            #expect(wrong == "0", "\(column)")
        }
        try await pair.waitUntilEqual("SELECT md5(string_agg(id || \"bookingId\" || coalesce(status, ''), ',' ORDER BY id)) FROM public.\"Reservas\"")
        try await gauntlet.finish(moves: 3)
        await pair.remove()
    }
}
