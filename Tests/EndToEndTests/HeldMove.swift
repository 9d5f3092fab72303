import Foundation
import PostgresClient
import TestSupport
import Testing

/// A move that a test stops before a work of its choice, with two services that write all the time.
final class HeldMove {
    private(set) var pair: SplitPair
    let worker: RunningLindero
    let bot: LiveService
    let sync: LiveService
    private var hold: PhaseHold?
    /// The second database's, where it is to die.
    private let second: PostgresCluster?

    /// - Parameters:
    ///   - http: where the worker serves its status.
    ///   - gates: what lindero.yaml says under `gates:`.
    ///   - asOperator: whether Lindero connects as a plain role.
    ///   - cutover: what it says under `cutover:`.
    init(
        http: String = "none", gates: String = "observe: 0s", secondDies: Bool = false, asOperator: Bool = false,
        cutover: (inout SplitPair) async throws -> String = { _ in "" }
    ) async throws {
        second = secondDies ? try await PostgresCluster.start() : nil
        pair = try await PhaseTests.pair(roles: true, second: second, asOperator: asOperator)
        let moving = try await cutover(&pair)
        try pair.write(tables: PhaseTests.tables, backend: "shared", gates: gates, cutover: moving, roles: ["bot_app", "sync_app"])
        (bot, sync) = LiveService.both(of: pair)
        worker = try pair.run(http: http)
        try await worker.waitForErrors("following changes")
    }

    func startServices() {
        bot.start()
        sync.start()
    }

    /// The service `sync` goes on there from its next write on, whenever a move asks for it.
    func moveSync(to side: String) async throws {
        sync.move(to: pair.url(side, as: "sync_app"))
        let before = sync.acknowledged
        try await waitUntil("sync writes to \(side)") { sync.acknowledged > before + 1 }
    }

    /// Runs a command until it is about to record that a work begins; then it waits.
    ///
    /// - Parameters:
    ///   - side: where `sync` goes on once it is asked to move.
    ///   - before: happens then, before it does.
    func lead(
        _ arguments: [String], to work: String, movingTo side: String? = nil, before: () async throws -> Void = {}
    ) async throws -> RunningLindero {
        let plan = try await pair.command(arguments + ["--json"])
        let document = try JSONSerialization.jsonObject(with: Data(plan.output.utf8)) as? [String: Any]
        let moves = try #require(document?["moves"] as? [[String: Any]], "\(plan.output)\(plan.errors)")
        let works = (moves.first?["steps"] as? [[String: Any]] ?? []).map { $0["work"] as? String }
        let number = try #require(works.firstIndex(of: work), "\(works)") + 1
        let hold = try await PhaseHold(pair)
        self.hold = hold
        let process = try pair.start(arguments + ["--execute"])
        while true {
            let moment = try await hold.next(process, "\(work) of \(arguments)")
            if moment == .begin(number) { return process }
            if case .exit = moment { throw Ended(errors: process.errors + worker.errors) }
            try await hold.pass()
            if let side, case .begin(let index) = moment, works[index - 1] == "move_services" {
                try await before()
                sync.move(to: pair.url(side, as: "sync_app"))
            }
        }
    }

    struct Ended: Error { var errors: String }

    /// The move goes on, and nobody holds it any more.
    func release() async throws {
        try await hold?.end()
        hold = nil
    }

    /// The move is killed where it waits.
    func kill(_ process: RunningLindero) async throws {
        try await hold?.kill(process)
        try await release()
    }

    /// Runs a command to its good end; `sync` moves when it asks for that.
    func succeed(_ arguments: [String], movingTo side: String? = nil) async throws {
        try await end(try pair.start(arguments + ["--execute"]), movingTo: side)
    }

    func end(_ process: RunningLindero, movingTo side: String? = nil) async throws {
        if let side {
            try await waitUntil("the service is to move; it said \(process.errors)", timeoutSeconds: 120) {
                try await pair.bot.execute("SELECT 1 FROM lindero.phase WHERE work = 'move_services' AND ended_at IS NULL").rowCount > 0
                    || process.child.exitCode != nil
            }
            sync.move(to: pair.url(side, as: "sync_app"))
        }
        #expect(try await process.wait(timeoutSeconds: 240) == 0, "it said \(process.errors); the worker: \(worker.errors)")
    }

    /// What the last record says: work, and whether it has ended.
    func lastRecord() async throws -> String? {
        try await pair.bot.execute(
            "SELECT work || ' ' || (ended_at IS NOT NULL) FROM lindero.phase ORDER BY move DESC, number DESC LIMIT 1").firstValue
    }

    func status() async throws -> (text: String, document: [String: Any]) {
        let text = try await pair.command(["status"])
        let json = try await pair.command(["status", "--json"])
        #expect(text.exitCode == 0 && json.exitCode == 0, "\(text.errors)\(json.errors)")
        let document = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        return (text.output, try #require(document, "\(json.output)"))
    }

    /// The second database's server dies, as in a power cut.
    func killSecond() async throws { try await second?.stop(mode: "immediate") }

    func removeSecond() { second?.remove() }

    func restartSecond() async throws {
        try await second?.restart()
        try await pair.reconnectSync()
    }

    /// Services end; everything that was acknowledged is on the origin once, and both sides are equal.
    ///
    /// - Parameter isMeant: whether a write of `sync` was meant to fail so; it was tried again.
    func finish(sparing isMeant: (String) -> Bool = { _ in false }) async throws {
        await bot.end()
        await sync.end()
        let failures = bot.failures + sync.failures.filter { !isMeant($0) }
        #expect(failures.isEmpty, "\(failures)")
        let all = "SELECT md5(string_agg(id || \"bookingId\" || coalesce(status, '') || coalesce(\"crmNotes\", ''), ',' ORDER BY id)) FROM public.\"Reservas\""
        try await pair.waitUntilEqual(all)
        let made = try await pair.bot.execute(
            "SELECT count(*), count(DISTINCT \"bookingId\"), count(DISTINCT id) FROM public.\"Reservas\" WHERE status = 'made'").rows[0]
        #expect(made[0] == "\(sync.acknowledged)" && made[1] == made[0] && made[2] == made[0])
        for (column, last) in [("status", sync.acknowledged), ("\"crmNotes\"", bot.acknowledged)] {
            let wrong = try await pair.bot.execute("""
                SELECT count(*) FROM generate_series(\(max(1, last - 99)), \(last)) n
                JOIN public."Reservas" r ON r."bookingId" = 'b' || (n % 100 + 1) WHERE r.\(column) IS DISTINCT FROM n::text
                """).firstValue
            #expect(wrong == "0", "\(column)")
        }
        worker.terminate()
        #expect(try await worker.wait() == 0, "\(worker.errors)")
        await pair.remove()
        second?.remove()
    }
}
