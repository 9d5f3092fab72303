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
        // A view of another's is a way around it.
        _ = try await scene.admin.execute("CREATE VIEW public.around AS SELECT * FROM public.t; GRANT UPDATE ON public.around TO \"\(scene.bot)\"")
        let check = try await scene.run("check", "--json")
        #expect(check.output.contains("\"guard_drift\""))
        #expect(check.output.contains("\"guard_notice\"") && check.output.contains("through the view"), "\(check.output)")
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

    @Test func initWritesTheReferenceThatItWasGivenAndNeverASecret() async throws {
        let scene = try await SharedScene()
        let folder = try ConfigurationFolder()
        let services = "[hotel]\n" + scene.url.dropFirst("postgresql://".count).split(whereSeparator: { "@:/".contains($0) })
            .enumerated().map { ["user", "host", "port", "dbname"][$0.offset] + "=" + $0.element + "\n" }.joined()
        try folder.write(services, to: "services.conf")
        let environment = ["PGSERVICEFILE": folder.path + "/services.conf", "HOTEL_URL": scene.url]
        try folder.write(scene.url + "\n", to: "url.txt")
        for reference in ["service:hotel", "env:HOTEL_URL", "file:url.txt", scene.url] {
            try? FileManager.default.removeItem(atPath: folder.path + "/lindero.yaml")
            let arguments = ["init", "--from-database", "--url", reference]
            let outcome = try await LinderoProcess.run(arguments, environment: environment, folder: folder.path)
            #expect(outcome.exitCode == 0, "\(outcome.errors)")
            #expect(try folder.text().contains("url: \(reference)"))
            let check = try await LinderoProcess.run(["status"], environment: environment, folder: folder.path)
            #expect(check.exitCode == 0, "\(check.errors)")
        }
        // A relative path is the file's own folder's from then on.
        try FileManager.default.createDirectory(atPath: folder.path + "/sub", withIntermediateDirectories: true)
        let arguments = ["init", "--from-database", "--url", "file:url.txt", "--config", "sub/lindero.yaml"]
        #expect(try await LinderoProcess.run(arguments, folder: folder.path).exitCode == 0)
        #expect(try await LinderoProcess.run(["status", "--config", "sub/lindero.yaml"], folder: folder.path).exitCode == 0)

        let secret = scene.url.replacingOccurrences(of: "postgres@", with: "postgres:verysecret@")
        for flags in [["--from-database"], []] {
            let refused = try await LinderoProcess.run(
                ["init", "--config", "other.yaml", "--url", secret] + flags, folder: folder.path)
            #expect(refused.exitCode == 2)
            #expect(refused.errors.contains("--url env:NAME") && !refused.errors.contains("verysecret"))
            #expect(!FileManager.default.fileExists(atPath: folder.path + "/other.yaml"))
        }
    }

    @Test func auditSaysWhenNothingIsBeingAudited() async throws {
        let scene = try await SharedScene()
        _ = try await scene.run("migrate")
        let off = try await scene.run("audit")
        #expect(off.exitCode == 0)
        #expect(off.output.contains("Nothing is being audited: the guard is off.") && off.output.contains("--mode audit"))
        #expect(try await scene.run("guard", "apply", "--mode", "audit").exitCode == 0)
        #expect(try await scene.run("audit").output.contains("No ownership violations recorded."))
        #expect(try await scene.run("audit", "--json").output.contains("\"mode\": \"audit\""))
        #expect(try await scene.run("guard", "apply", "--mode", "enforce").output.contains("1 tables are guarded"))
        #expect(try await scene.run("audit").output.contains("the guard refuses foreign writes"))
    }
}
