import Foundation
import PostgresClient
import TestSupport
import Testing

/// A standby that PostgreSQL itself keeps, made by `pg_basebackup`: measured, never written.
@Suite struct PhysicalStandbyTests {
    @Test func lagOfAStandbyIsZeroOnAnIdlePrimaryAndGrowsWhileItsReplayIsPaused() async throws {
        let scene = try await StandbyScene()
        defer { scene.remove() }
        try await scene.waitForLag("an idle standby is not behind") {
            $0.state == "streaming" && $0.lagSeconds == 0 && $0.lagBytes == 0 && $0.slotActive == true
        }
        let idle = try await scene.lag()
        #expect(idle.name == "main->copy")
        #expect(idle.slot?.hasPrefix("lindero_pg_") == true)
        #expect(idle.appliedLsn != nil && idle.receivedLsn != nil && idle.retainedWalBytes != nil)

        // Of a standby that has replayed no commit since it started, only the bytes are known.
        try await scene.primary.execute("INSERT INTO guest VALUES (0, 'first')")
        try await scene.waitForLag("the first commit is shown") { $0.lagSeconds == 0 }
        try await scene.standby.execute("SELECT pg_wal_replay_pause()")
        try await scene.primary.execute("INSERT INTO guest SELECT n, repeat('x', 500) FROM generate_series(1, 5000) n")
        try await scene.waitForLag("a paused standby falls behind in bytes and seconds") {
            $0.state == "paused" && ($0.lagBytes ?? 0) > 1_000_000 && ($0.lagSeconds ?? 0) > 1
        }
        let outcome = try await scene.lindero(["lag"])
        #expect(outcome.output.contains("pg_wal_replay_resume()"))
        try await scene.standby.execute("SELECT pg_wal_replay_resume()")
        try await scene.waitForLag("it catches up") { $0.state == "streaming" && ($0.lagSeconds ?? 99) < 1 }
        #expect(try await scene.standby.execute("SELECT count(*)::text FROM guest").rows.first?[0] == "5001")
    }

    @Test func stoppedStandbyIsToldAndSoIsItsReturn() async throws {
        let scene = try await StandbyScene()
        defer { scene.remove() }
        try await scene.waitForLag("it streams") { $0.state == "streaming" }
        try await scene.standby.stop()
        let outcome = try await scene.lindero(["lag", "--json"])
        #expect(outcome.exitCode == 0)
        #expect(outcome.errors.contains("main->copy"))
        #expect(try await scene.lag().state == "not_running")
        #expect(try await scene.lag().lagSeconds == nil)
        try await scene.primary.execute("INSERT INTO guest SELECT n, 'x' FROM generate_series(1, 100) n")
        try await scene.standby.restart()
        try await scene.waitForLag("it is back") { $0.state == "streaming" && $0.lagBytes == 0 }
    }

    @Test func promotedStandbyIsToldToBeNoStandby() async throws {
        let scene = try await StandbyScene()
        defer { scene.remove() }
        try await scene.waitForLag("it streams") { $0.state == "streaming" }
        try await scene.standby.execute("SELECT pg_promote()")
        try await scene.waitForLag("it is no standby any more") { $0.state == "stopped" && $0.lagSeconds == nil }
        #expect(try await scene.lindero(["lag"]).output.contains("copy is no standby: it is not in recovery"))
    }

    @Test func runMeasuresAStandbyAndCopiesNothing() async throws {
        let scene = try await StandbyScene()
        defer { scene.remove() }
        #expect(try await scene.lindero(["check"]).exitCode == 0)
        let worker = try scene.start()
        try await worker.waitForErrors("standby is measured, nothing is copied to it")
        try await worker.waitForErrors("state=streaming")
        // The heartbeat's commits reach the standby: its data is never older than an interval or two.
        try await scene.waitForLag("the worker's own writes arrive") { $0.state == "streaming" && ($0.lagSeconds ?? 99) < 1 }
        // The change feed begins on its own time.
        try await waitUntil("the feed has its slot, and the standby its tables") {
            let slots = try await scene.primary.execute("SELECT DISTINCT slot_type FROM pg_replication_slots ORDER BY 1")
            let table = try await scene.standby.execute("SELECT to_regclass('lindero.direction')::text")
            return slots.rows.map { $0[0] } == ["logical", "physical"] && table.rows.first?[0] != nil
        }
        #expect(try await scene.standby.execute("SELECT to_regclass('lindero.direction')::text, count(*)::text FROM lindero.direction").rows.first?[1] == "0")
        try await scene.standby.stop()
        try await worker.waitForErrors("state=disconnected")
        try await scene.standby.restart()
        try await waitUntil("the worker sees it again") {
            worker.errors.components(separatedBy: "state=disconnected").last?.contains("state=streaming") == true
        }
        let status = try await scene.lindero(["status", "--json"])
        #expect(status.exitCode == 0)
        #expect(status.output.contains("\"main->copy\""))
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    @Test func standbyThatIsNotDeclaredIsABlockerWithItsFix() async throws {
        let scene = try await StandbyScene(isDeclared: false)
        defer { scene.remove() }
        let worker = try scene.start()
        #expect(try await worker.wait() == 2)
        #expect(worker.errors.contains("copy is a physical standby, which nobody can write to"))
        #expect(worker.errors.contains("physical_standby: true"))
        #expect(try await scene.primary.execute("SELECT 1 FROM pg_replication_slots WHERE slot_type = 'logical'").rowCount == 0)
    }
}

/// A primary, its standby, and a configuration that names both.
private struct StandbyScene {
    let primary: PostgresCluster
    let standby: PostgresCluster
    let folder: ConfigurationFolder

    init(isDeclared: Bool = true) async throws {
        primary = try await PostgresCluster.start()
        try await primary.execute("CREATE TABLE guest (id int PRIMARY KEY, name text)")
        standby = try await PostgresCluster.startStandby(of: primary)
        folder = try ConfigurationFolder(
            """
            version: 1
            backend: replica
            databases:
              main: { url: env:DATABASE_URL }
              copy: { url: env:STANDBY_URL\(isDeclared ? ", physical_standby: true" : "") }
            origin: main
            tables: { guest: { columns: { main: "*" } } }

            """)
    }

    func remove() {
        standby.remove()
        primary.remove()
    }

    private var environment: [String: String] {
        ["DATABASE_URL": primary.conninfo(), "STANDBY_URL": standby.conninfo()]
    }

    func start() throws -> RunningLindero {
        try LinderoProcess.start(["run", "--http", "none"], environment: environment, folder: folder.path)
    }

    func lindero(_ arguments: [String]) async throws -> LinderoProcess.Outcome {
        try await LinderoProcess.run(arguments, environment: environment, folder: folder.path)
    }

    func lag() async throws -> LagDocument.Direction {
        let outcome = try await lindero(["lag", "--json"])
        let document = try JSONDecoder().decode(LagDocument.self, from: Data(outcome.output.utf8))
        return try #require(document.directions.first { $0.name == "main->copy" })
    }

    func waitForLag(_ what: String, _ condition: (LagDocument.Direction) -> Bool) async throws {
        try await waitUntil(what) { condition(try await lag()) }
    }
}
