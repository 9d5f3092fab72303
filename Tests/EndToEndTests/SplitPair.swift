import Foundation
import PostgresClient
import Replicator
import TestSupport

/// Two databases with the same tables, and a folder whose lindero.yaml makes them the sides of a split.
struct SplitPair {
    let bot: PostgresConnection
    let sync: PostgresConnection
    let folder: String
    private let environment: [String: String]

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
    init(schema: String, tables: String = tables, backend: String = "split") async throws {
        let botURL = try await PostgresCluster.shared("source").createDatabase(prefix: "sb")
        let syncURL = try await PostgresCluster.shared("target").createDatabase(prefix: "ss")
        bot = try await PostgresConnection.connect(ConnectionOptions(botURL))
        sync = try await PostgresConnection.connect(ConnectionOptions(syncURL))
        environment = ["DATABASE_URL": botURL, "SYNC_DATABASE_URL": syncURL]
        for side in [bot, sync] {
            _ = try await side.execute(schema)
            _ = try await Migrator(connection: side).migrate()
        }
        folder = NSTemporaryDirectory() + "lindero-split-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try write(tables: tables, backend: backend)
    }

    func write(tables: String = tables, backend: String = "split") throws {
        try """
            version: 1
            backend: \(backend)
            databases:
              bot: { url: env:DATABASE_URL }
              sync: { url: env:SYNC_DATABASE_URL }
            origin: bot
            tables:
            \(tables)
            """.write(toFile: folder + "/lindero.yaml", atomically: true, encoding: .utf8)
    }

    func command(_ arguments: [String], input: [UInt8]? = nil) async throws -> LinderoProcess.Outcome {
        try await LinderoProcess.run(arguments, environment: environment, folder: folder, input: input)
    }

    func remove() async {
        await bot.close()
        await sync.close()
        try? FileManager.default.removeItem(atPath: folder)
    }
}
