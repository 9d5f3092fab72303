import Logging
import PostgresClient
import ReplicationCore
import Testing
import TestSupport

@testable import Replicator

/// Two fresh databases on two real clusters, and a direction between them that adopts a slot and a publication.
final class ReplicaPair: Sendable {
    let sourceURL: String
    let targetURL: String
    let source: PostgresConnection
    let target: PostgresConnection
    let slot: String
    let settings: DirectionSettings

    /// Runs `schema` on both sides (or `targetSchema` on the target), makes publication and slot.
    init(
        _ schema: String, targetSchema: String? = nil, publication: String = "CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root)",
        policy: OwnershipPolicy? = nil, replication: ReplicationSettings = ReplicationSettings(),
        cluster: String = "source", targetCluster: PostgresCluster? = nil, source own: PostgresCluster? = nil,
        targetURL ready: String? = nil
    ) async throws {
        let from = if let own { own } else { try await PostgresCluster.shared(cluster) }
        sourceURL = try await from.createDatabase(prefix: "rs")
        let other = if let targetCluster { targetCluster } else { try await PostgresCluster.shared("target") }
        targetURL = if let ready { ready } else { try await other.createDatabase(prefix: "rt") }
        source = try await Self.connect(sourceURL)
        target = try await Self.connect(targetURL)
        _ = try await source.execute(schema)
        _ = try await target.execute(targetSchema ?? schema)
        _ = try await source.execute(publication)
        slot = "s" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        _ = try await source.execute("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
        var adopted = replication
        adopted.snapshot = .never
        adopted.slot = slot
        adopted.publication = "p"
        adopted.heartbeatMilliseconds = min(adopted.heartbeatMilliseconds, 200)
        settings = DirectionSettings(
            sourceName: "bot", targetName: "sync", source: ConnectionOptions(sourceURL),
            target: ConnectionOptions(targetURL), slot: slot, publication: "p", backend: .replica,
            replication: adopted, policy: policy)
    }

    /// A plain session, with the server's own settings and `search_path`.
    static func connect(_ url: String) async throws -> PostgresConnection {
        var options = ConnectionOptions(url)
        options.usesPinnedSettings = false
        options.settings = []
        return try await PostgresConnection.connect(options)
    }

    /// Streams while `body` runs, then drains.
    func streaming(_ body: (DirectionState) async throws -> Void) async throws {
        let state = DirectionState()
        let running = start(state)
        do {
            try await body(state)
            state.drain()
            try await running.value
        } catch {
            state.drain()
            running.cancel()
            _ = await running.result
            throw error
        }
    }

    func start(_ state: DirectionState, settings: DirectionSettings? = nil) -> Task<Void, any Error> {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let quiet = logger
        let settings = settings ?? self.settings
        return Task {
            _ = try await PostgresConnection.with(settings.target) { try await Migrator(connection: $0).migrate() }
            try await DirectionSupervisor(
                settings: settings, state: state, logger: quiet, worker: "test", prepare: { _ in }
            ).run()
        }
    }

    /// Runs SQL on the source, then waits until the target has it.
    func apply(_ sql: String, _ state: DirectionState) async throws {
        _ = try await source.execute(sql)
        try await catchUp(state)
    }

    /// Waits until everything that the source has committed is on the target.
    func catchUp(_ state: DirectionState, timeoutSeconds: Double = 30) async throws {
        let text = try await source.execute("SELECT pg_current_wal_insert_lsn()::text").rows.first?[0] ?? ""
        let lsn = try #require(LSN(text))
        try await waitUntil("the target has \(lsn)", timeoutSeconds: timeoutSeconds) {
            let now = state.snapshot()
            if now.phase == .stopped || now.phase == .paused { throw Stopped(problem: now.problem ?? "") }
            return state.appliedLSN >= lsn
        }
    }

    struct Stopped: Error { var problem: String }

    /// The rows of a query as text, on one side.
    func rows(_ sql: String, on connection: PostgresConnection) async throws -> [[String?]] {
        let result = try await connection.execute(sql)
        return (0..<result.rowCount).map { row in
            result.columns.indices.map { result[row: row, column: $0] }
        }
    }

    /// Expects the same rows on both sides, and at least one.
    func expectSame(
        _ sql: String, atLeast: Int = 1, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let expected = try await rows(sql, on: source)
        let found = try await rows(sql, on: target)
        #expect(expected.count >= atLeast, sourceLocation: sourceLocation)
        #expect(found == expected, sourceLocation: sourceLocation)
    }
}
