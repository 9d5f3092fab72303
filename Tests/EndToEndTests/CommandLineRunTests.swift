import Foundation
import PostgresClient
import TestSupport
import Testing

@Suite struct CommandLineRunTests {
    @Test func sharedModeNeedsOnlyDatabaseURLAndStopsCleanlyOnSIGTERM() async throws {
        let url = try await PostgresCluster.shared("source").createDatabase(prefix: "shared")
        let worker = try LinderoProcess.start(["run"], environment: ["DATABASE_URL": url])
        try await worker.waitForErrors("following changes")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        #expect(worker.output.contains("Stopped cleanly"))
    }

    @Test func sharedModeStopsCleanlyOnCtrlC() async throws {
        let url = try await PostgresCluster.shared("source").createDatabase(prefix: "shared")
        let worker = try LinderoProcess.start(["run", "--json"], environment: ["DATABASE_URL": url])
        try await worker.waitForErrors("following changes")
        worker.interrupt()
        #expect(try await worker.wait() == 0)
        #expect(worker.output.contains("\"stopped\": true"))
    }

    @Test func secondCtrlCEndsAtOnceWith130() async throws {
        let pair = try await AdoptedPair()
        let worker = try pair.start()
        try await worker.waitForErrors("streaming")
        // A lock on the target holds the applier up, so that draining takes long.
        let blocker = try await pair.connect(pair.targetURL)
        _ = try await blocker.execute("BEGIN; LOCK TABLE guest IN ACCESS EXCLUSIVE MODE")
        _ = try await pair.source.execute("INSERT INTO guest VALUES (1, 'Ana')")
        try await waitUntil("the applier waits for the lock") {
            try await pair.target.execute(
                "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT granted "
                    + "AND datname = current_database()"
            ).rowCount > 0
        }
        worker.interrupt()
        try await worker.waitForErrors("stopping")
        worker.interrupt()
        #expect(try await worker.wait() == 130)
        #expect(worker.errors.contains("Progress is safe"))
        _ = try await blocker.execute("ROLLBACK")
    }

    @Test func sharedModeWithoutLogicalWALSaysWhatToSetAndGoesOn() async throws {
        let cluster = try await PostgresCluster.start(settings: ["wal_level": "replica"])
        defer { cluster.remove() }
        let worker = try LinderoProcess.start(["run"], environment: ["DATABASE_URL": cluster.conninfo()])
        try await worker.waitForErrors("ALTER SYSTEM SET wal_level = logical")
        #expect(worker.child.exitCode == nil)
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    @Test func adoptedSlotAndPublicationStreamRows() async throws {
        let pair = try await AdoptedPair()
        _ = try await pair.source.execute("INSERT INTO guest SELECT n, 'guest ' || n FROM generate_series(1, 500) n")
        let worker = try pair.start()
        try await pair.waitUntilEqual()
        _ = try await pair.source.execute("UPDATE guest SET name = 'x' WHERE id <= 10; DELETE FROM guest WHERE id > 490")
        try await pair.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    @Test func killedWorkerGoesOnWhereItWas() async throws {
        let pair = try await AdoptedPair()
        for round in 0..<3 {
            let worker = try pair.start()
            try await worker.waitForErrors("streaming")
            _ = try await pair.source.execute(
                "INSERT INTO guest SELECT n, 'r' FROM generate_series(\(round * 2_000), \(round * 2_000 + 1_999)) n")
            worker.kill9()
            #expect(try await worker.wait() == 128 + SIGKILL)
        }
        let worker = try pair.start()
        // A worker that was killed may have applied everything already: equality alone doesn't show that this one runs.
        try await worker.waitForErrors("streaming")
        try await pair.waitUntilEqual()
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    @Test func stoppedWhileItStillStartsItEndsCleanly() async throws {
        let pair = try await AdoptedPair()
        for _ in 0..<10 {
            let worker = try pair.start()
            try await worker.waitUntilSignalsAreHandled()
            worker.terminate()
            #expect(try await worker.wait() == 0, "\(worker.errors)")
        }
    }

    @Test func secondWorkerIsToldThatTheSlotIsInUse() async throws {
        let pair = try await AdoptedPair()
        let first = try pair.start()
        try await first.waitForErrors("streaming")
        let scripted = try pair.start(["--json"])
        let second = try pair.start()
        #expect(try await second.wait(timeoutSeconds: 90) == 2)
        #expect(second.errors.contains("Replication slot \(pair.slot) on source"))
        #expect(second.errors.contains("where: source->target"))
        #expect(second.errors.contains("next: Run `lindero status`"))
        let code = try await scripted.wait(timeoutSeconds: 90)
        let outcome = LinderoProcess.Outcome(exitCode: code, output: scripted.output, errors: scripted.errors)
        #expect(code == 2)
        #expect(try failure(outcome).code == "slot_in_use")
        // What is known of the first one stays so.
        let target = try await pair.connect(pair.targetURL)
        #expect(try await target.execute("SELECT count(*) FROM lindero.direction WHERE problem IS NULL AND state <> 'stopped'").firstValue == "1")
        await target.close()
        first.terminate()
        #expect(try await first.wait() == 0)
    }

    @Test func workerThatLosesItsServerBeforeItStreamsFailsAndSaysWhy() async throws {
        let pair = try await AdoptedPair()
        let blocker = try await pair.connect(pair.targetURL)
        _ = try await blocker.execute("BEGIN; CREATE SCHEMA lindero")
        let worker = try pair.start()
        try await waitUntil("its session was ended") {
            try await pair.target.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    + "AND wait_event_type = 'Lock'"
            ).rowCount > 0
        }
        #expect(try await worker.wait() == 1)
        #expect(worker.errors.contains("57P01"), "\(worker.errors)")
        #expect(!worker.output.contains("Stopped cleanly"))
        _ = try await blocker.execute("ROLLBACK")
    }

    @Test func missingSlotIsABlocker() async throws {
        let pair = try await AdoptedPair()
        _ = try await pair.source.execute("SELECT pg_drop_replication_slot('\(pair.slot)')")
        let outcome = try pair.start()
        #expect(try await outcome.wait() == 2)
        #expect(outcome.errors.contains("Replication slot \(pair.slot) does not exist"))
    }

    @Test func missingPublicationIsABlocker() async throws {
        let pair = try await AdoptedPair()
        _ = try await pair.source.execute("DROP PUBLICATION p")
        let worker = try pair.start()
        #expect(try await worker.wait() == 2)
        #expect(worker.errors.contains("Publication p does not exist"))
    }
}

/// A table on two clusters, and a slot and a publication that a worker adopts.
final class AdoptedPair: Sendable {
    let sourceURL: String
    let targetURL: String
    let source: PostgresConnection
    let target: PostgresConnection
    let slot = "s" + String(UInt64.random(in: 0...UInt64.max), radix: 36)

    /// - Parameter target: a cluster that the test may stop; the shared one otherwise.
    init(target cluster: PostgresCluster? = nil) async throws {
        sourceURL = try await PostgresCluster.shared("source").createDatabase(prefix: "es")
        if let cluster {
            targetURL = try await cluster.createDatabase(prefix: "et")
        } else {
            targetURL = try await PostgresCluster.shared("target").createDatabase(prefix: "et")
        }
        source = try await Self.connect(sourceURL)
        target = try await Self.connect(targetURL)
        for connection in [source, target] {
            _ = try await connection.execute("CREATE TABLE guest (id int PRIMARY KEY, name text)")
        }
        _ = try await source.execute("CREATE PUBLICATION p FOR ALL TABLES")
        _ = try await source.execute("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
    }

    func connect(_ url: String) async throws -> PostgresConnection { try await Self.connect(url) }

    private static func connect(_ url: String) async throws -> PostgresConnection {
        var options = ConnectionOptions(url)
        options.usesPinnedSettings = false
        return try await PostgresConnection.connect(options)
    }

    func start(_ more: [String] = []) throws -> RunningLindero {
        try LinderoProcess.start(
            ["run", "--source", sourceURL, "--target", targetURL, "--slot", slot, "--publication", "p"] + more)
    }

    /// Waits until both tables hold the same rows.
    func waitUntilEqual() async throws {
        let sql = "SELECT count(*)::text || md5(coalesce(string_agg(g::text, ',' ORDER BY id), '')) FROM guest g"
        try await waitUntil("both tables are equal") {
            let there = try await target.execute(sql).rows.first?[0]
            return try await source.execute(sql).rows.first?[0] == there
        }
    }
}
