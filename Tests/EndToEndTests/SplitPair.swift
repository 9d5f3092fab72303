import Foundation
import PostgresClient
import Replicator
import TestSupport
import Testing

/// Two databases with the same tables, and a folder whose lindero.yaml makes them the sides of a split.
struct SplitPair {
    let bot: PostgresConnection
    private(set) var sync: PostgresConnection
    let folder: String
    var environment: [String: String]
    /// Whom commands and workers connect as, on both sides.
    var leader = "postgres"

    static let tables = """
          Reservas:
            match: [bookingId]
            insert: [bot, sync]
            delete: sync
            columns:
              bot: [crmNotes]
              sync: "*"
              shared:
                phone: { policy: queue }

        """

    /// - Parameter tables: what lindero.yaml says under `tables:`.
    init(
        schema: String, tables: String = tables, backend: String = "split", gates: String = "", roles: [String] = ["", ""],
        migrates: Bool = true, first: PostgresCluster? = nil, second: PostgresCluster? = nil
    ) async throws {
        let origin = if let first { first } else { try await PostgresCluster.shared("source") }
        let botURL = try await origin.createDatabase(prefix: "sb")
        let other = if let second { second } else { try await PostgresCluster.shared("target") }
        let syncURL = try await other.createDatabase(prefix: "ss")
        bot = try await PostgresConnection.connect(ConnectionOptions(botURL))
        sync = try await PostgresConnection.connect(ConnectionOptions(syncURL))
        environment = ["DATABASE_URL": botURL, "SYNC_DATABASE_URL": syncURL]
        for side in [bot, sync] {
            _ = try await side.execute(schema)
            if migrates { _ = try await Migrator(connection: side).migrate() }
        }
        folder = NSTemporaryDirectory() + "lindero-split-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try write(tables: tables, backend: backend, gates: gates, roles: roles)
    }

    /// The second server was restarted, and our session there is gone.
    mutating func reconnectSync() async throws {
        await sync.close()
        sync = try await PostgresConnection.connect(ConnectionOptions(environment["SYNC_DATABASE_URL"] ?? ""))
    }

    /// Where a role connects to a side.
    func url(_ side: String, as role: String) -> String {
        (environment[side == "bot" ? "DATABASE_URL" : "SYNC_DATABASE_URL"] ?? "").replacingOccurrences(of: "//postgres@", with: "//\(role)@")
    }

    func write(
        tables: String = tables, backend: String = "split", replication: String = "", gates: String = "", cutover: String = "",
        roles: [String] = ["", ""], origin: String = "bot"
    ) throws {
        let lists = roles.map { $0.isEmpty ? "" : ", roles: [\($0)]" }
        try """
            version: 1
            backend: \(backend)
            databases:
              bot: { url: env:DATABASE_URL\(lists[0]) }
              sync: { url: env:SYNC_DATABASE_URL\(lists[1]) }
            origin: \(origin)
            replication: {\(replication)}
            gates: {\(gates)}
            cutover: {\(cutover)}
            tables:
            \(tables)
            """.write(toFile: folder + "/lindero.yaml", atomically: true, encoding: .utf8)
    }

    /// - Parameters:
    ///   - role: whom the worker connects as, on both sides, where that is not the leader.
    ///   - http: where it serves its status.
    func run(as role: String? = nil, http: String = "none") throws -> RunningLindero {
        try LinderoProcess.start(["run", "--http", http], environment: environment(as: role ?? leader), folder: folder)
    }

    func start(_ arguments: [String]) throws -> RunningLindero {
        try LinderoProcess.start(arguments, environment: environment(as: leader), folder: folder)
    }

    private func environment(as role: String) -> [String: String] {
        environment.mapValues { $0.replacingOccurrences(of: "//postgres@", with: "//\(role)@") }
    }

    /// Starts the worker and waits until both directions stream.
    func startStreaming(as role: String? = nil) async throws -> RunningLindero {
        let worker = try run(as: role)
        for direction in ["bot->sync", "sync->bot"] {
            try await worker.waitForErrors("streaming direction=\(direction)", timeoutSeconds: 60)
        }
        return worker
    }

    /// Of sessions that wait for a lock on a side.
    static let waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    /// Kills a worker whose session waits for a row on a side, and ends that session, which would live on.
    func cutOff(_ worker: RunningLindero, waitingOn side: PostgresConnection) async throws {
        worker.kill9()
        _ = try await worker.wait()
        try await waitUntil("the server has let go of it") {
            _ = try await side.execute("SELECT pg_terminate_backend(pid) \(Self.waiting)")
            return try await side.execute("SELECT \(Self.waiting)").rows.isEmpty
        }
    }

    /// Waits until a query gives the same on both sides.
    func waitUntilEqual(_ query: String, timeoutSeconds: Double = 60) async throws {
        var last: [[[String?]]] = []
        do {
            try await waitUntil("both sides are equal", timeoutSeconds: timeoutSeconds) {
                last = []
                for side in [bot, sync] { last.append(try await side.execute(query).rows.map { row in (0..<1).map { row[$0] } }) }
                return last[0] == last[1]
            }
        } catch let error as TimedOut {
            Issue.record("\(query): \(last.map { "\($0)".prefix(1_000) })")
            throw error
        }
    }

    /// The one value of a query on each side.
    func values(_ query: String) async throws -> [String?] {
        [try await bot.execute(query).firstValue, try await sync.execute(query).firstValue]
    }

    func command(
        _ arguments: [String], input: [UInt8]? = nil, with others: [String: String] = [:], timeoutSeconds: Double = 60
    ) async throws -> LinderoProcess.Outcome {
        try await LinderoProcess.run(
            arguments, environment: environment(as: leader).merging(others) { $1 }, folder: folder, input: input, timeoutSeconds: timeoutSeconds)
    }

    /// Carries out what a refused worker advised for tables that were no part of the split.
    func publish(as errors: String) async throws {
        for (side, name) in [(bot, "bot"), (sync, "sync")] {
            let advice = try #require(errors.components(separatedBy: "on \(name): ").last?.components(separatedBy: ";").first)
            _ = try await side.execute(advice)
        }
    }

    /// A worker that is gone may still have its streams' processes on the servers.
    func waitUntilSlotsAreFree() async throws {
        for side in [bot, sync] {
            try await waitUntil("the server lets the slot go") {
                try await side.execute("SELECT FROM pg_replication_slots WHERE database = current_database() AND active").rows.isEmpty
            }
        }
    }

    /// Drops what would keep the shared servers' log, and closes.
    func remove() async {
        for side in [bot, sync] {
            await PostgresCluster.dropSlots(side)
            await side.close()
        }
        try? FileManager.default.removeItem(atPath: folder)
    }
}
