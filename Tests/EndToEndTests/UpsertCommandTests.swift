import Foundation
import PostgresClient
import TestSupport
import Testing

@Suite struct UpsertCommandTests {
    /// One database, two services with roles of their own.
    final class Scene: Sendable {
        let admin: PostgresConnection
        let url: String
        let folder: ConfigurationFolder
        let environment: [String: String]
        let botRole: String
        let syncRole: String

        init(syncURL: String? = nil) async throws {
            url = try await PostgresCluster.shared("source").createDatabase(prefix: "cmd")
            var options = ConnectionOptions(url)
            options.usesPinnedSettings = false
            admin = try await PostgresConnection.connect(options)
            let roles = ["bot", "sync"].map { "\($0)_\(UInt64.random(in: 0...UInt64.max))" }
            (botRole, syncRole) = (roles[0], roles[1])
            _ = try await admin.execute(
                """
                CREATE TABLE guest (id int PRIMARY KEY, note text, status text, author text DEFAULT current_user);
                CREATE ROLE \(roles[0]) LOGIN; CREATE ROLE \(roles[1]) LOGIN;
                GRANT SELECT ON guest TO \(roles[0]), \(roles[1]); GRANT INSERT, UPDATE (id, status) ON guest TO \(roles[1]);
                """)
            folder = try ConfigurationFolder(
                """
                version: 1
                backend: shared
                databases:
                  bot:  { url: env:BOT_URL, roles: [\(roles[0])] }
                  sync: { url: env:SYNC_URL, roles: [\(roles[1])] }
                origin: bot
                tables:
                  guest: { insert: sync, columns: { bot: [note], sync: "*" } }

                """)
            let own = roles.map { [url] role in url.replacingOccurrences(of: "//postgres@", with: "//\(role)@") }
            environment = ["BOT_URL": own[0], "SYNC_URL": syncURL ?? own[1]]
        }

        func upsert(_ input: String, _ more: [String] = []) async throws -> LinderoProcess.Outcome {
            try await LinderoProcess.run(
                ["upsert", "guest", "--as", "sync"] + more, environment: environment, folder: folder.path,
                input: Array(input.utf8))
        }
    }

    @Test func sideWritesByItsOwnEntryOfTheSharedDatabase() async throws {
        let scene = try await Scene()
        let outcome = try await scene.upsert("{\"id\":1,\"status\":\"new\"}\n{\"id\":2,\"note\":\"theirs\"}\n")
        #expect(outcome.exitCode == 3, "\(outcome.errors)")
        #expect(outcome.output.contains("1 inserted, 0 updated, 0 unchanged, 1 refused"))
        #expect(outcome.errors.contains("line 2: column \"note\" is owned by bot, not by sync"))
        #expect(try await scene.admin.execute("SELECT author FROM guest").rows.first?[0] == scene.syncRole)
    }

    @Test func theOriginIsWrittenWhereTheSidesOwnDatabaseWaitsForTheMove() async throws {
        let other = try await PostgresCluster.shared("source").createDatabase(prefix: "cmd")
        let scene = try await Scene(syncURL: other)
        _ = try await scene.admin.execute("GRANT INSERT, UPDATE ON guest TO \(scene.botRole)")
        let outcome = try await scene.upsert("{\"id\":1,\"status\":\"new\"}\n{\"id\":2,\"note\":\"theirs\"}\n")
        #expect(outcome.exitCode == 3, "\(outcome.errors)")
        #expect(outcome.errors.contains("note: \"sync\" is another database; \"bot\" is written"), "\(outcome.errors)")
        #expect(outcome.errors.contains("line 2: column \"note\" is owned by bot, not by sync"))
        #expect(try await scene.admin.execute("SELECT author FROM guest").rows.map { $0[0] } == [scene.botRole])
    }

    @Test func failureInTheMiddleTellsWhatIsCommitted() async throws {
        let scene = try await Scene()
        _ = try await scene.admin.execute(
            "INSERT INTO guest (id) VALUES (700); BEGIN; SELECT 1 FROM guest WHERE id = 700 FOR UPDATE")
        let input = "not json\n" + (1...1_200).map { "{\"id\":\($0),\"status\":\"x\"}\n" }.joined()
        let outcome = try await scene.upsert(input, ["--timeout-seconds", "5"])
        #expect(outcome.exitCode == 1)
        #expect(outcome.output.isEmpty)
        #expect(
            outcome.errors.contains(
                "stopped: 501 records: 500 inserted, 0 updated, 0 unchanged, 1 refused. Nothing is applied from line 502 on."),
            "\(outcome.errors)")
        #expect(outcome.errors.contains("refused: line 1: "))
        #expect(outcome.errors.contains("Running it again leaves what is committed as it is."))
        let scripted = try await scene.upsert(input, ["--timeout-seconds", "5", "--json"])
        let document = try JSONDecoder().decode(Stopped.self, from: Data(scripted.output.utf8))
        #expect(document.committed.unchanged == 500 && document.stopped_at_line == 502)
        _ = try await scene.admin.execute("COMMIT")
        let again = try await scene.upsert(input)
        #expect(again.output.contains("699 inserted, 1 updated, 500 unchanged, 1 refused"), "\(again.output)")
    }

    @Test func aSignalEndsItBetweenTwoBatchesAndTellsWhatIsCommitted() async throws {
        let scene = try await Scene()
        let process = try LinderoProcess.start(
            ["upsert", "guest", "--as", "sync"], environment: scene.environment, folder: scene.folder.path)
        process.child.write(Array((1...510).map { "{\"id\":\($0),\"status\":\"x\"}\n" }.joined().utf8))
        try await waitUntil("the first batch is committed") {
            try await scene.admin.execute("SELECT count(*) FROM guest").rows.first?[0] == "500"
        }
        process.child.signal(SIGINT)
        #expect(try await process.wait(timeoutSeconds: 30) == 130)
        #expect(
            process.errors.contains("stopped: 500 records: 500 inserted, 0 updated, 0 unchanged, 0 refused. Nothing is applied from line 501 on."),
            "\(process.errors)")
        #expect(process.errors.contains("next: Run the same command again. Running it again leaves what is committed as it is."))
        #expect(try await scene.admin.execute("SELECT count(*) FROM guest").rows.first?[0] == "500")
    }

    private struct Stopped: Decodable {
        struct Counts: Decodable { var unchanged: Int }
        var committed: Counts
        var stopped_at_line: Int
    }
}
