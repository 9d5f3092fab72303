import Foundation
import PostgresClient
import TestSupport
import Testing

@Suite struct CommandLineLagTests {
    @Test func lagOfAStreamingReplicaIsSmallAndComplete() async throws {
        let pair = try await AdoptedPair()
        let worker = try pair.start()
        _ = try await pair.source.execute("INSERT INTO guest SELECT n, 'x' FROM generate_series(1, 1000) n")
        try await pair.waitUntilEqual()
        try await waitUntil("lag is told as streaming, in bytes and seconds") {
            let lag = try await pair.lag()
            return lag.state == "streaming" && lag.slotActive == true && lag.appliedLsn != nil
                && (lag.lagBytes ?? .max) < 200_000 && (lag.lagSeconds ?? 99) < 5
        }
        let lag = try await pair.lag()
        #expect(lag.name == "source->target")
        #expect(lag.slot == pair.slot)
        #expect(lag.retainedWalBytes != nil)
        worker.terminate()
        #expect(try await worker.wait() == 0)
        #expect(try await pair.lag().state == "not_running")
    }

    @Test func lagOfAPausedWorkerGrowsInBytesAndSeconds() async throws {
        let pair = try await AdoptedPair()
        let worker = try pair.start()
        _ = try await pair.source.execute("INSERT INTO guest VALUES (1, 'x')")
        try await pair.waitUntilEqual()
        // Paused before its first heartbeat arrives, nobody could tell its lag in seconds.
        try await waitUntil("a heartbeat is seen") {
            try await pair.target.query("SELECT 1 FROM lindero.heartbeat").rowCount > 0
        }
        worker.pause()
        _ = try await pair.source.execute("INSERT INTO guest SELECT n, repeat('x', 500) FROM generate_series(2, 5000) n")
        try await waitUntil("lag is seen") {
            let lag = try await pair.lag()
            // After wal_sender_timeout the server gives a silent worker up.
            let isBehind = lag.state == "catching_up" || lag.state == "not_running"
            return (lag.lagBytes ?? 0) > 1_000_000 && (lag.lagSeconds ?? 0) > 2 && isBehind
        }
        worker.resume()
        try await pair.waitUntilEqual()
        try await waitUntil("lag is gone") { (try await pair.lag().lagSeconds ?? 99) < 2 }
    }

    @Test func lagGrowsWhileTheTargetIsStoppedAndIsGoneOnceItIsBack() async throws {
        let cluster = try await PostgresCluster.start()
        defer { cluster.remove() }
        let pair = try await AdoptedPair(target: cluster)
        let worker = try pair.start()
        _ = try await pair.source.execute("INSERT INTO guest VALUES (1, 'x')")
        try await pair.waitUntilEqual()
        try await cluster.stop(mode: "immediate")
        _ = try await pair.source.execute("INSERT INTO guest SELECT n, repeat('x', 500) FROM generate_series(2, 5000) n")
        let stopped = try await pair.lag()
        #expect((stopped.lagBytes ?? 0) > 1_000_000)
        // How old its data is only the target can tell: unknown is not 0.
        #expect(stopped.lagSeconds == nil)
        try await waitUntil("the worker has let the stream go") { try await pair.lag().state == "not_running" }
        try await cluster.restart()
        try await waitUntil("lag is gone") {
            let lag = try await pair.lag()
            return lag.state == "streaming" && (lag.lagSeconds ?? 99) < 2 && (lag.lagBytes ?? .max) < 200_000
        }
        let back = try await pair.connect(pair.targetURL)
        #expect(try await back.execute("SELECT count(*)::text FROM guest").rows.first?[0] == "5000")
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    @Test func lagIsToldWhenTheTargetIsDown() async throws {
        let pair = try await AdoptedPair()
        // Something to be behind by: with nothing after the slot's position the lag would rightly be 0.
        _ = try await pair.source.execute("INSERT INTO guest VALUES (1, 'x')")
        let nowhere = "postgresql://postgres@127.0.0.1:1/nowhere"
        let outcome = try await LinderoProcess.run(
            ["lag", "--json", "--source", pair.sourceURL, "--target", nowhere, "--slot", pair.slot])
        #expect(outcome.exitCode == 0)
        let lag = try JSONDecoder().decode(LagDocument.self, from: Data(outcome.output.utf8)).directions[0]
        #expect(outcome.errors.contains("127.0.0.1:1"))
        #expect(lag.lagBytes != nil)
        #expect(lag.lagSeconds == nil)
    }

    @Test func lagOfTheSharedFeedIsMeasured() async throws {
        let url = try await PostgresCluster.shared("source").createDatabase(prefix: "shared")
        let before = try await LinderoProcess.run(["lag", "--json"], environment: ["DATABASE_URL": url])
        #expect(before.output.contains("\"not_started\""))
        let worker = try LinderoProcess.start(["run"], environment: ["DATABASE_URL": url])
        try await worker.waitForErrors("following changes")
        try await waitUntil("the feed is streaming") {
            let outcome = try await LinderoProcess.run(["lag", "--json"], environment: ["DATABASE_URL": url])
            let document = try JSONDecoder().decode(LagDocument.self, from: Data(outcome.output.utf8))
            return document.backend == "shared" && document.phase == "shared" && document.directions[0].state == "streaming"
                && (document.directions[0].lagSeconds ?? 99) < 5
        }
    }

    @Test func watchRepeatsUntilCtrlC() async throws {
        let pair = try await AdoptedPair()
        let watch = try LinderoProcess.start(["lag", "--watch", "--json"] + pair.lagArguments)
        try await waitUntil("three documents are printed") {
            watch.output.split(separator: "\n").count >= 3
        }
        watch.interrupt()
        #expect(try await watch.wait() == 0)
        for line in watch.output.split(separator: "\n") {
            #expect(throws: Never.self) { try JSONDecoder().decode(LagDocument.self, from: Data(line.utf8)) }
        }
    }

    @Test func documentHasExactlyThePromisedKeys() async throws {
        let pair = try await AdoptedPair()
        let outcome = try await LinderoProcess.run(["lag", "--json"] + pair.lagArguments)
        let document = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any]
        #expect(Set(document?.keys.map { $0 } ?? []) == ["backend", "phase", "directions"])
        let direction = (document?["directions"] as? [[String: Any]])?.first
        let keys: Set = [
            "name", "state", "receivedLsn", "appliedLsn", "sourceLsn", "lagBytes", "lagSeconds", "endToEnd",
            "retainedWalBytes", "safeWalBytes", "slot", "slotActive", "rowsPerSecond", "etaSeconds",
        ]
        #expect(Set(direction?.keys.map { $0 } ?? []) == keys)
        #expect(Set((direction?["endToEnd"] as? [String: Any])?.keys.map { $0 } ?? []) == ["p50Ms", "p95Ms", "p99Ms"])
    }
}

struct LagDocument: Decodable {
    struct Direction: Decodable {
        var name: String
        var state: String
        var receivedLsn: String?
        var appliedLsn: String?
        var lagBytes: Int?
        var lagSeconds: Double?
        var retainedWalBytes: Int?
        var slot: String?
        var slotActive: Bool?
    }
    var backend: String
    var phase: String
    var directions: [Direction]
}

extension AdoptedPair {
    var lagArguments: [String] { ["--source", sourceURL, "--target", targetURL, "--slot", slot] }

    func lag() async throws -> LagDocument.Direction {
        let outcome = try await LinderoProcess.run(["lag", "--json"] + lagArguments)
        return try JSONDecoder().decode(LagDocument.self, from: Data(outcome.output.utf8)).directions[0]
    }
}
