import Foundation
import PostgresClient
import TestSupport
import Testing

/// Two databases, a configuration for a replica between them, and what the program says about it.
final class BadInputScene: Sendable {
    /// No test's output may ever show it.
    static let password = "verysecret"

    let sourceURL: String
    let targetURL: String
    let source: PostgresConnection
    let target: PostgresConnection
    let folder: ConfigurationFolder

    /// - Parameters:
    ///   - script: run on both sides.
    ///   - tables: lines under `tables:`.
    init(
        source: PostgresCluster? = nil, script: String = "CREATE TABLE guest (id int PRIMARY KEY, name text)",
        tables: String = "guest: { columns: { bot: \"*\" } }", replication: String = ""
    ) async throws {
        var cluster = source
        if cluster == nil { cluster = try await PostgresCluster.shared("source") }
        sourceURL = try await cluster?.createDatabase(prefix: "bad") ?? ""
        targetURL = try await PostgresCluster.shared("target").createDatabase(prefix: "bad")
        self.source = try await Self.connect(sourceURL)
        target = try await Self.connect(targetURL)
        for connection in [self.source, target] where !script.isEmpty { _ = try await connection.execute(script) }
        folder = try ConfigurationFolder(Self.file(tables: tables, replication: replication))
    }

    static func file(tables: String, replication: String = "") -> String {
        """
        version: 1
        backend: replica
        databases:
          bot:  { url: env:BOT_URL }
          sync: { url: env:SYNC_URL }
        origin: bot
        replication: { \(replication) }
        tables:
          \(tables)

        """
    }

    static func connect(_ url: String) async throws -> PostgresConnection {
        var options = ConnectionOptions(url)
        options.usesPinnedSettings = false
        return try await PostgresConnection.connect(options)
    }

    var environment: [String: String] { ["BOT_URL": sourceURL, "SYNC_URL": targetURL] }

    func run(_ arguments: [String], _ more: [String: String] = [:]) async throws -> LinderoProcess.Outcome {
        try await LinderoProcess.run(
            arguments, environment: environment.merging(more) { _, new in new }, folder: folder.path)
    }

    func start(_ arguments: [String] = []) throws -> RunningLindero {
        try LinderoProcess.start(["run", "--http", "none"] + arguments, environment: environment, folder: folder.path)
    }

    /// `check` and `run` must both name the trouble, for people and for scripts, and change nothing.
    func expectBlocked(
        _ code: String, says words: [String], next: String, _ more: [String: String] = [:],
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let check = try await run(["check"], more)
        #expect(check.exitCode == 2, sourceLocation: sourceLocation)
        let checked = try JSONDecoder().decode(
            CheckDocument.self, from: Data(try await run(["check", "--json"], more).output.utf8))
        #expect(checked.blocked, sourceLocation: sourceLocation)
        #expect(
            checked.findings.contains { $0.code == code && $0.severity == "blocker" && $0.fix?.contains(next) == true },
            "\(check.output)", sourceLocation: sourceLocation)
        let run = try await run(["run", "--http", "none"], more)
        expectComplaint(run, exit: 2, says: words + [next, "bot"], sourceLocation: sourceLocation)
        let document = try failure(try await self.run(["run", "--json", "--http", "none"], more))
        #expect(document.code == code, sourceLocation: sourceLocation)
        #expect(document.where != nil && document.next != nil, sourceLocation: sourceLocation)
        for word in words {
            #expect(check.output.contains(word), "\(check.output)", sourceLocation: sourceLocation)
            #expect(document.message.contains(word), sourceLocation: sourceLocation)
        }
        let objects = try await source.query(
            "SELECT 1 FROM pg_publication UNION ALL SELECT 1 FROM pg_replication_slots WHERE slot_name LIKE 'lindero%' "
                + "AND database = current_database()")
        #expect(objects.rowCount == 0, "nothing was made", sourceLocation: sourceLocation)
    }

    /// Whether both tables hold the same rows.
    func waitUntilEqual() async throws {
        let sql = "SELECT count(*)::text || md5(coalesce(string_agg(g::text, ',' ORDER BY id), '')) FROM guest g"
        try await waitUntil("both tables are equal") {
            guard let there = try? await target.execute(sql).rows.first?[0] else { return false }
            return try await source.execute(sql).rows.first?[0] == there
        }
    }
}

struct CheckDocument: Decodable {
    struct Finding: Decodable {
        var severity: String
        var code: String
        var database: String?
        var message: String
        var fix: String?
    }
    var blocked: Bool
    var findings: [Finding]
}

/// What a person reads when a command fails: what happened, then the next command, and never a password.
func expectComplaint(
    _ outcome: LinderoProcess.Outcome, exit: Int32, says words: [String],
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(outcome.exitCode == exit, "\(outcome.errors)", sourceLocation: sourceLocation)
    for word in words {
        #expect(outcome.errors.contains(word), "\(outcome.errors)", sourceLocation: sourceLocation)
    }
    #expect(outcome.errors.contains("\n  next: "), "\(outcome.errors)", sourceLocation: sourceLocation)
    #expect(outcome.output.isEmpty, "\(outcome.output)", sourceLocation: sourceLocation)
    expectNoPassword(outcome, sourceLocation: sourceLocation)
}

func expectNoPassword(_ outcome: LinderoProcess.Outcome, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(
        !(outcome.output + outcome.errors).contains(BadInputScene.password), sourceLocation: sourceLocation)
}
