import Foundation
import PostgresClient
import Synchronization
import TestSupport
import Testing

/// `lindero advance` and `rollback` killed while clients wait in pgbouncer.
@Suite(.timeLimit(.minutes(20)))
struct MoveKillTests {
    private static let settings = """
          Reservas:
            match: [bookingId]
            insert: [bot, sync]
            delete: sync
            columns: { bot: [crmNotes], sync: "*", shared: { phone: { policy: max } } }
        """

    private struct Scene {
        var pair: SplitPair
        var bouncer: BouncerProcess
        var role: String
        var environment: [String: String]

        func start(_ arguments: [String]) throws -> RunningLindero {
            try LinderoProcess.start(arguments, environment: environment, folder: pair.folder)
        }

        func client() async throws -> PostgresConnection {
            var options = ConnectionOptions(bouncer.conninfo(entry: "hotel_sync", user: role))
            options.usesPinnedSettings = false
            options.applicationName = "a service"
            return try await PostgresConnection.connect(options)
        }
    }

    private func scene() async throws -> Scene {
        let pair = try await SplitPair(schema: PhaseTests.schema, tables: "", backend: "shared")
        _ = try await pair.bot.execute(PhaseTests.rows)
        let role = "sync_" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        for (cluster, side) in [("source", pair.bot), ("target", pair.sync)] {
            try await PostgresCluster.shared(cluster).execute("CREATE ROLE \(role) LOGIN")
            _ = try await side.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON public.\"Reservas\" TO \(role); ALTER TABLE public.\"Reservas\" REPLICA IDENTITY FULL")
        }
        let peer = try #require(await pair.bot.peer)
        let bouncer = try await BouncerProcess.start(
            entries: "[databases]\nhotel_sync = host=\(peer.host) port=\(peer.port) dbname=\(peer.database)\n")
        try await bouncer.allow(role)
        try """
            version: 1
            backend: shared
            databases:
              bot: { url: env:DATABASE_URL }
              sync: { url: env:SYNC_DATABASE_URL, roles: [\(role)] }
            origin: bot
            gates: { observe: 0s }
            cutover:
              pgbouncer: { admin: env:PGBOUNCER_ADMIN_URL, config: \(bouncer.entriesPath), databases: { sync: hotel_sync } }
            tables:
            \(Self.settings)
            """.write(toFile: pair.folder + "/lindero.yaml", atomically: true, encoding: .utf8)
        var environment = pair.environment
        environment["PGBOUNCER_ADMIN_URL"] = bouncer.console
        return Scene(pair: pair, bouncer: bouncer, role: role, environment: environment)
    }

    /// Kills the command while it waits for a transaction that keeps the PAUSE waiting; then lets it do its work.
    private func killWhilePaused(_ arguments: [String], _ scene: Scene, _ worker: RunningLindero, _ writes: ServiceWrites) async throws {
        let long = try await scene.client()
        _ = try await long.execute("BEGIN; SELECT count(*) FROM public.\"Reservas\"")
        let operation = try scene.start(arguments)
        try await waitUntil("clients wait; it said \(operation.errors)", timeoutSeconds: 90) {
            if let code = operation.child.exitCode { throw Ended(code: code, errors: operation.errors) }
            return try await scene.bouncer.database("hotel_sync")?["paused"] == "1"
        }
        operation.kill9()
        _ = try await operation.wait()
        // Nobody runs any more who could let them go on but the watch.
        try await waitUntil("clients go on") { try await scene.bouncer.database("hotel_sync")?["paused"] == "0" }
        try await writes.advance()
        _ = try await long.execute("COMMIT")
        await long.close()
        try await waitUntil("the leader's session is gone") {
            try await scene.pair.bot.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'lindero %'").rows.isEmpty
        }
        let again = try scene.start(arguments)
        #expect(try await again.wait(timeoutSeconds: 120) == 0, "\(again.errors) worker: \(worker.errors.suffix(2_000))")
        try await writes.advance()
    }

    private struct Ended: Error { let code: Int32; let errors: String }

    @Test func clientsGoOnAndTheMoveIsFinishedThereAndBack() async throws {
        let scene = try await scene()
        let pair = scene.pair
        let worker = try scene.start(["run", "--http", "none"])
        try await worker.waitForErrors("following changes")
        let writes = ServiceWrites(try await scene.client())
        let replica = try scene.start(["advance", "--to", "replica", "--execute"])
        #expect(try await replica.wait(timeoutSeconds: 120) == 0, "\(replica.errors) worker: \(worker.errors.suffix(2_000))")

        try await killWhilePaused(["advance", "--to", "split", "--execute"], scene, worker, writes)
        let there = "SELECT count(*) FROM pg_stat_activity WHERE usename = '\(scene.role)' AND datname = current_database()"
        #expect(try await pair.values(there)[0] == "0")
        try await killWhilePaused(["rollback", "--execute"], scene, worker, writes)
        #expect(try await pair.values(there)[1] == "0")
        let count = await writes.stop()
        #expect(writes.failure == nil)
        #expect(try await pair.bot.execute("SELECT count(*) FROM public.\"Reservas\" WHERE status = 'live'").firstValue == "\(count)")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await pair.remove()
    }
}

/// A client that inserts one row after the other, each once.
private final class ServiceWrites: Sendable {
    private let state = Mutex((count: 0, failure: String?.none, isOver: false))
    private let ended = Mutex<Task<Void, Never>?>(nil)

    init(_ connection: PostgresConnection) {
        let task = Task { [self] in
            while !state.withLock({ $0.isOver }) {
                let number = state.withLock { $0.count } + 1
                do {
                    _ = try await connection.execute("INSERT INTO public.\"Reservas\" (\"bookingId\", status) VALUES ('live-\(number)', 'live')")
                    state.withLock { $0.count = number }
                    try await Task.sleep(for: .milliseconds(5))
                } catch {
                    state.withLock { $0.failure = "\(error)" }
                    break
                }
            }
            await connection.close()
        }
        ended.withLock { $0 = task }
    }

    var failure: String? { state.withLock { $0.failure } }

    func advance() async throws {
        let goal = state.withLock { $0.count } + 5
        try await waitUntil("the service writes; \(failure ?? "")") { state.withLock { $0.count >= goal } }
    }

    func stop() async -> Int {
        state.withLock { $0.isOver = true }
        await ended.withLock { $0 }?.value
        return state.withLock { $0.count }
    }
}
