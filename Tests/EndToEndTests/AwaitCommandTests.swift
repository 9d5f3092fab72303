import Foundation
import PostgresClient
import TestSupport
import Testing

/// `lindero await`, and the same over HTTP.
@Suite struct AwaitCommandTests {
    @Test func commandAndWorkerAnswerOnceTheReplicaShowsThePosition() async throws {
        let pair = try await GuestPair(
            schema: "CREATE TABLE public.guest (id int PRIMARY KEY, name text);", rule: "columns: { bot: \"*\" }")
        let worker = try pair.start(["run", "--http", "127.0.0.1:0"])
        try await worker.waitForErrors("streaming")
        let port = try await Self.port(worker)
        for round in 1...20 {
            _ = try await pair.source.execute("INSERT INTO public.guest VALUES (\(round), 'x')")
            let lsn = try #require(try await pair.source.execute("SELECT pg_current_wal_insert_lsn()").firstValue)
            if round % 2 == 0 {
                let outcome = try await pair.command(["await", "--lsn", lsn, "--timeout", "60s", "--json"])
                #expect(outcome.exitCode == 0, "\(outcome.errors)")
                #expect(outcome.output.contains("\"reached\": true"))
            } else {
                let answer = try await RawHTTP.request("/await?lsn=\(lsn)&timeout=60s", port: port)
                #expect(answer.status == 200, "\(answer.body)")
                #expect(answer.body.contains("\"reached\": true"))
            }
            #expect(try await pair.target.execute("SELECT 1 FROM public.guest WHERE id = \(round)").rowCount == 1)
        }
        let late = try await pair.command(["await", "--lsn", "FFFFFFFF/0", "--timeout", "100ms", "--json"])
        #expect(late.exitCode == 1)
        #expect(late.output.contains("\"reached\": false") && late.output.contains("await_timeout"))
        #expect(try await RawHTTP.request("/await?lsn=FFFFFFFF/0&timeout=100ms", port: port).status == 504)
        for query in ["", "?lsn=5", "?lsn=0/1&timeout=5", "?lsn=0/1&timeout=2h", "?lsn=0/1&x=1", "?lsn=0/1&on=nowhere"] {
            #expect(try await RawHTTP.request("/await\(query)", port: port).status == 400, "\(query)")
        }
        for arguments in [["--lsn", "5"], ["--lsn", "0/1", "--timeout", "5"], ["--lsn", "0/1", "--on", "bot"]] {
            #expect(try await pair.command(["await"] + arguments).exitCode == 2, "\(arguments)")
        }
        worker.terminate()
        #expect(try await worker.wait() == 0)
        try await pair.remove()
    }

    @Test func physicalStandbyIsWaitedForByItsReplay() async throws {
        let primary = try await PostgresCluster.start()
        defer { primary.remove() }
        try await primary.execute("CREATE TABLE guest (id int PRIMARY KEY, name text)")
        let standby = try await PostgresCluster.startStandby(of: primary)
        defer { standby.remove() }
        let folder = try ConfigurationFolder(
            """
            version: 1
            backend: replica
            databases:
              main: { url: env:DATABASE_URL }
              copy: { url: env:STANDBY_URL, physical_standby: true }
            origin: main
            tables: { guest: { columns: { main: "*" } } }

            """)
        let environment = ["DATABASE_URL": primary.conninfo(), "STANDBY_URL": standby.conninfo()]
        func lindero(_ arguments: [String]) async throws -> LinderoProcess.Outcome {
            try await LinderoProcess.run(arguments, environment: environment, folder: folder.path)
        }
        let worker = try LinderoProcess.start(
            ["run", "--http", "127.0.0.1:0"], environment: environment, folder: folder.path)
        let port = try await Self.port(worker)
        for round in 1...10 {
            try await primary.execute("INSERT INTO guest VALUES (\(round), 'x')")
            let lsn = try #require(try await primary.execute("SELECT pg_current_wal_insert_lsn()").firstValue)
            if round % 2 == 0 {
                #expect(try await lindero(["await", "--lsn", lsn, "--timeout", "60s"]).exitCode == 0)
            } else {
                #expect(try await RawHTTP.request("/await?lsn=\(lsn)&timeout=60s&on=copy", port: port).status == 200)
            }
            #expect(try await standby.execute("SELECT 1 FROM guest WHERE id = \(round)").rowCount == 1)
        }
        try await standby.execute("SELECT pg_wal_replay_pause()")
        try await primary.execute("INSERT INTO guest VALUES (99, 'x')")
        let lsn = try #require(try await primary.execute("SELECT pg_current_wal_insert_lsn()").firstValue)
        #expect(try await lindero(["await", "--lsn", lsn, "--timeout", "200ms"]).exitCode == 1)
        #expect(try await RawHTTP.request("/await?lsn=\(lsn)&timeout=200ms", port: port).status == 504)
        try await standby.execute("SELECT pg_wal_replay_resume()")
        #expect(try await lindero(["await", "--lsn", lsn, "--timeout", "60s"]).exitCode == 0)
        // A standby is PostgreSQL's own copy: there is nothing to compare.
        #expect(try await lindero(["verify"]).exitCode == 2)
        worker.terminate()
        #expect(try await worker.wait() == 0)
    }

    /// Where the worker really listens.
    private static func port(_ worker: RunningLindero) async throws -> UInt16 {
        try await worker.waitForErrors("url=http://127.0.0.1:")
        let rest = try #require(worker.errors.components(separatedBy: "url=http://127.0.0.1:").last)
        return try #require(UInt16(rest.prefix { $0.isNumber }))
    }
}
