import Foundation
import PostgresClient
import TestSupport

/// Two databases with a table `guest`, and a folder whose lindero.yaml makes the second a replica of the first.
struct GuestPair {
    let source: PostgresConnection
    let target: PostgresConnection
    private let folder: String
    private let environment: [String: String]

    /// - Parameter rule: what lindero.yaml says of `guest`, beside that bot inserts and deletes.
    init(schema: String, targetSchema: String = "", rule: String, ddl: String = "pause") async throws {
        let sourceURL = try await PostgresCluster.shared("source").createDatabase(prefix: "gs")
        let targetURL = try await PostgresCluster.shared("target").createDatabase(prefix: "gt")
        source = try await PostgresConnection.connect(ConnectionOptions(sourceURL))
        target = try await PostgresConnection.connect(ConnectionOptions(targetURL))
        environment = ["DATABASE_URL": sourceURL, "SYNC_DATABASE_URL": targetURL]
        _ = try await source.execute(schema)
        if !targetSchema.isEmpty { _ = try await target.execute(targetSchema) }
        folder = NSTemporaryDirectory() + "lindero-guest-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try write(rule: rule, ddl: ddl)
    }

    /// Writes lindero.yaml anew, as a person would while the worker runs.
    func write(rule: String, ddl: String = "pause", backend: String = "replica") throws {
        try """
            version: 1
            backend: \(backend)
            databases:
              bot: { url: env:DATABASE_URL }
              sync: { url: env:SYNC_DATABASE_URL }
            origin: bot
            replication: { ddl: \(ddl) }
            tables:
              guest: { insert: bot, delete: bot, \(rule) }

            """.write(toFile: folder + "/lindero.yaml", atomically: true, encoding: .utf8)
    }

    /// Adds a line to lindero.yaml.
    func append(_ line: String) throws {
        let path = folder + "/lindero.yaml"
        try (String(contentsOfFile: path, encoding: .utf8) + line + "\n").write(toFile: path, atomically: true, encoding: .utf8)
    }

    func run() throws -> RunningLindero { try start(["run", "--http", "none"]) }

    func start(_ arguments: [String]) throws -> RunningLindero {
        try LinderoProcess.start(arguments, environment: environment, folder: folder)
    }

    func command(_ arguments: [String]) async throws -> LinderoProcess.Outcome {
        try await LinderoProcess.run(arguments, environment: environment, folder: folder)
    }

    func remove() async throws {
        await target.close()
        await PostgresCluster.dropSlots(source)
        await source.close()
        try? FileManager.default.removeItem(atPath: folder)
    }
}
