import Foundation
import PostgresClient
import TestSupport
import Testing

/// A database that two services share, with the configuration of the README: a login role for each.
private final class SharedScene: Sendable {
    let folder: ConfigurationFolder
    let admin: PostgresConnection
    let url: String
    let bot: String
    let sync: String

    init() async throws {
        url = try await PostgresCluster.shared("source").createDatabase(prefix: "guard")
        admin = try await PostgresConnection.connect(ConnectionOptions(url))
        let suffix = String(UInt64.random(in: 0...UInt64.max), radix: 36)
        bot = "bot_\(suffix)"
        sync = "sync_\(suffix)"
        folder = try ConfigurationFolder(
            """
            version: 1
            backend: shared
            databases:
              bot:  { url: env:DATABASE_URL, roles: [\(bot)] }
              sync: { url: env:SYNC_DATABASE_URL, roles: [\(sync)] }
            origin: bot
            tables:
              "public.*": { insert: bot, delete: bot, columns: { bot: [id, a], sync: [b] } }

            """)
        _ = try await admin.execute(
            """
            CREATE ROLE "\(bot)" LOGIN; CREATE ROLE "\(sync)" LOGIN;
            CREATE TABLE public.t (id int PRIMARY KEY, a text, b text); GRANT ALL ON public.t TO "\(bot)", "\(sync)";
            """)
    }

    func url(as role: String) -> String { url.replacingOccurrences(of: "//postgres@", with: "//\(role)@") }

    var environment: [String: String] { ["DATABASE_URL": url, "SYNC_DATABASE_URL": url(as: sync)] }

    func run(_ arguments: String...) async throws -> LinderoProcess.Outcome {
        try await LinderoProcess.run(arguments, environment: environment, folder: folder.path)
    }
}

@Suite struct CommandLineGuardTests {
    @Test func driftIsToldByCheckStatusAndTheWorker() async throws {
        let scene = try await SharedScene()
        #expect(try await scene.run("migrate").exitCode == 0)
        #expect(try await scene.run("guard", "apply").exitCode == 0)
        var status = try await scene.run("status")
        #expect(status.output.contains("guard: enforce on 1 tables") && !status.output.contains("drifted"))
        #expect(try await !scene.run("check").output.contains("drifted"))

        _ = try await scene.admin.execute("GRANT UPDATE ON public.t TO \"\(scene.bot)\"")
        status = try await scene.run("status")
        #expect(status.output.contains("guard has drifted: 2 statements on \"t\""))
        #expect(status.output.contains("Next: lindero guard apply --mode enforce"))
        #expect(try await scene.run("status", "--json").output.contains("\"statements\": 2"))
        let check = try await scene.run("check", "--json")
        #expect(check.output.contains("\"guard_drift\""))
        let worker = try LinderoProcess.start(["run", "--http", "none"], environment: scene.environment, folder: scene.folder.path)
        try await worker.waitForErrors("guard has drifted: 2 statements")
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    @Test func sharedModeMigratesTheOneDatabaseAsItsOrigin() async throws {
        let scene = try await SharedScene()
        let planned = try await scene.run("migrate", "--dry-run")
        #expect(planned.exitCode == 0 && planned.output.contains("CREATE TABLE lindero.direction"))
        for (arguments, words) in [
            (["migrate"], "bot: applied migration"), (["migrate"], "bot: up to date"),
            (["migrate", "--down"], "bot: removed migration"),
        ] {
            let outcome = try await LinderoProcess.run(
                arguments, environment: scene.environment, folder: scene.folder.path)
            #expect(outcome.exitCode == 0, "\(outcome.errors)")
            #expect(outcome.output.contains(words) && !outcome.output.contains("sync:"))
        }
    }
}
