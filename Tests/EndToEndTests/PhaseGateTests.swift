import Foundation
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import lindero

/// Gates in front of the next step of a move.
@Suite struct PhaseGateTests {
    enum Gate: String, CaseIterable, Sendable {
        case maxLag = "max_lag"
        case maxLagBytes = "max_lag_bytes"

        /// So that this one alone closes.
        var settings: String {
            switch self {
            case .maxLag: "observe: 0s, max_lag: 2s, max_lag_bytes: 10GB"
            case .maxLagBytes: "observe: 0s, max_lag: 10h, max_lag_bytes: 200kB"
            }
        }
    }

    /// Whether a gate holds, as `status --json` says; `nil` when its value is unknown.
    private func holds(_ gate: String, _ document: [String: Any]) throws -> Bool? {
        let gates = try #require(document["gates"] as? [[String: Any]])
        let found = try #require(gates.first { $0["name"] as? String == gate }, "\(gates)")
        return found["holds"] as? Bool
    }

    /// What is not known is no better than what is too much.
    @Test func everyGateIsOpenOnlyWhileItsValueIsKnownAndWithinItsLimit() {
        var gates = Gates()
        (gates.maxLagMilliseconds, gates.maxLagBytes, gates.maxRetainedWALBytes) = (2_000, 200_000, 5_000_000)
        func closed(_ lagSeconds: Double?, _ lagBytes: UInt64?, _ retained: Int64?) -> [String] {
            var report = LagReport(name: "a->b")
            (report.lagSeconds, report.retainedWALBytes) = (lagSeconds, retained)
            if let lagBytes { (report.sourceLSN, report.appliedLSN) = (LSN(lagBytes), .zero) }
            return StatusReport.gates(gates, report).compactMap(\.closedWords)
        }
        #expect(closed(2, 200_000, 5_000_000).isEmpty)
        #expect(closed(nil, nil, nil) == [
            "gate a->b max_lag is closed: unknown, limit 2.0 s", "gate a->b max_lag_bytes is closed: unknown, limit 200.0 kB",
            "gate a->b max_retained_wal is closed: unknown, limit 5.0 MB",
        ])
        #expect(closed(2.1, 200_001, 5_000_001).count == 3)
    }

    /// The worker stands still, as a machine without time for it would have it.
    @Test(arguments: Gate.allCases) func aClosedGateStopsTheMoveUntilItOpens(_ gate: Gate) async throws {
        let move = try await HeldMove(gates: gate.settings)
        let process = try await move.lead(["advance", "--to", "replica"], to: "gates")
        let name = "bot->sync \(gate.rawValue)"
        // Before the first heartbeat nothing is known, and stays so while the worker stands.
        try await waitUntil("the gate is open") { try holds(name, try await move.status().document) == true }
        move.worker.pause()
        _ = try await move.pair.bot.execute("UPDATE public.\"Reservas\" SET phone = repeat('1', 2000)")
        try await waitUntil("the gate is closed") { try holds(name, try await move.status().document) == false }
        try await move.release()
        try await expectStandsBefore(name, move, process, after: "gates", kind: "is closed: ")
        move.worker.resume()
        try await move.end(process)
        #expect(try await move.lastRecord() == "settle true")
        move.startServices()
        try await move.finish()
    }

    /// Writes in another database of the first server, more at once than the gate allows, until it is cancelled.
    private func neighbour() async throws -> Task<Int, any Error> {
        let url = try await PostgresCluster.shared("source").createDatabase(prefix: "neighbour")
        return Task {
            try await PostgresConnection.with(ConnectionOptions(url)) { connection in
                var count = 0
                while !Task.isCancelled {
                    do {
                        _ = try await connection.execute("SELECT pg_logical_emit_message(false, 'neighbour', repeat('x', 200000))")
                    } catch PostgresError.cancelled {
                        // In the middle of one.
                        break
                    }
                    count += 1
                    try? await Task.sleep(for: .milliseconds(10))
                }
                return count
            }
        }
    }

    /// The limits have to hold all the time: one that does not meanwhile begins `observe` anew. What is on its way for a moment,
    /// be it another database's, is nothing to begin anew for.
    @Test func whatIsObservedHoldsWithoutABreak() async throws {
        let neighbour = try await neighbour()
        defer { neighbour.cancel() }
        let move = try await HeldMove(gates: "observe: 3s, max_lag: 10h, max_lag_bytes: 100kB")
        let process = try await move.lead(["advance", "--to", "replica"], to: "observe")
        try await move.release()
        try await process.waitForErrors("waits: the limits hold since", timeoutSeconds: 60)
        // Else it might be over before the gate is closed.
        process.pause()
        move.worker.pause()
        _ = try await move.pair.bot.execute("UPDATE public.\"Reservas\" SET phone = repeat('1', 2000)")
        process.resume()
        try await process.waitForErrors("waits: gate bot->sync max_lag_bytes is closed", timeoutSeconds: 60)
        #expect(try await move.lastRecord() == "observe false")
        let resumed = try #require(try await move.pair.bot.execute("SELECT clock_timestamp()::text").firstValue)
        move.worker.resume()
        try await move.end(process)
        let sooner = "SELECT count(*) FROM lindero.phase WHERE work = 'observe' AND ended_at < timestamptz '\(resumed)' + interval '3 seconds'"
        #expect(try await move.pair.bot.execute(sooner).firstValue == "0")
        neighbour.cancel()
        #expect(try await neighbour.value > 10)
        move.startServices()
        try await move.finish()
    }

    /// The other database can't be asked, so what it shows is not known.
    @Test func anUnknownLagIsAClosedGate() async throws {
        let move = try await HeldMove(gates: "observe: 0s, max_lag: 2s, max_lag_bytes: 10GB", secondDies: true)
        let process = try await move.lead(["advance", "--to", "replica"], to: "gates")
        move.startServices()
        try await move.killSecond()
        try await move.release()
        try await expectStandsBefore("bot->sync max_lag", move, process, after: "gates", kind: "is closed: unknown, limit 2.0 s")
        try await move.restartSecond()
        try await move.end(process)
        try await move.finish()
    }

    /// The move waits: nothing after the gate is begun, and `status` says which one it is, for people and for scripts.
    private func expectStandsBefore(
        _ gate: String, _ move: HeldMove, _ process: RunningLindero, after work: String, kind: String
    ) async throws {
        try await process.waitForErrors("waits: gate \(gate) \(kind)", timeoutSeconds: 60)
        let (text, document) = try await move.status()
        #expect(text.contains("the move waits: gate \(gate) \(kind)"), "\(text)")
        #expect(text.contains("catching_up (gates, 7 of 10)"), "\(text)")
        let waits = document["waitsFor"] as? [String] ?? []
        #expect(waits.count == 1 && waits[0].hasPrefix("gate \(gate) \(kind)"), "\(waits)")
        #expect(try holds(gate, document) != true)
        #expect(process.child.exitCode == nil)
        #expect(try await move.lastRecord() == "\(work) false")
    }

    @Test func aDifferenceStopsTheMoveUntilItIsMended() async throws {
        let move = try await HeldMove()
        let process = try await move.lead(["advance", "--to", "replica"], to: "verify")
        _ = try await move.pair.sync.execute("UPDATE public.\"Reservas\" SET status = 'planted' WHERE id = 7")
        try await move.release()
        #expect(try await process.wait() == 3, "\(process.errors)")
        #expect(process.errors.contains("1 row differs.") && process.errors.contains("next: Run `lindero verify`"), "\(process.errors)")
        #expect(try await move.lastRecord() == "verify false")
        let (text, document) = try await move.status()
        #expect(text.contains("the move waits: gate bot->sync verify_age is closed: "), "\(text)")
        #expect(text.contains("different, limit 24.0 h") || text.contains("different, limit 1.0 d"), "\(text)")
        #expect(try holds("bot->sync verify_age", document) == false)
        let again = try await move.pair.command(["advance", "--to", "replica", "--execute"])
        #expect(again.exitCode == 3, "\(again.errors)")
        _ = try await move.pair.sync.execute("UPDATE public.\"Reservas\" SET status = 'new' WHERE id = 7")
        try await move.succeed(["advance", "--to", "replica"])
        move.startServices()
        try await move.finish()
    }

    /// Within `verify_age` nothing is compared again; past it, everything is.
    @Test(arguments: [true, false]) func aComparisonThatIsTooOldIsMadeAnew(_ isYoung: Bool) async throws {
        let move = try await HeldMove(gates: "observe: 0s, verify_age: \(isYoung ? "10h" : "1s")")
        let process = try await move.lead(["advance", "--to", "replica"], to: "verify")
        #expect(try await move.pair.command(["verify"]).exitCode == 0)
        if !isYoung {
            try await waitUntil("the comparison is too old") { try holds("bot->sync verify_age", try await move.status().document) == false }
        }
        try await move.release()
        try await move.end(process)
        let document = try await move.status().document
        let steps = try #require((document["move"] as? [String: Any])?["steps"] as? [[String: Any]])
        let figures = try #require(steps.first { $0["work"] as? String == "verify" }?["figures"] as? [String: Any], "\(steps)")
        #expect((figures["ageSeconds"] != nil) == isYoung && (figures["differences"] != nil) != isYoung, "\(figures)")
        move.startServices()
        try await move.finish()
    }
}
