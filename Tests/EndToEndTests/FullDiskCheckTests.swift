import Foundation
import Glibc
import PostgresClient
import TestSupport
import Testing

/// One side's disk is full before anything begins: `check` says which, whatever lies on it.
@Suite struct FullDiskCheckTests {
    /// Mounting takes root; elsewhere the test is skipped.
    static let canMount = getuid() == 0

    private func root(_ arguments: [String]) async throws {
        let child = try ChildProcess(arguments[0], Array(arguments.dropFirst()))
        #expect(try await child.wait(timeoutSeconds: 30) == 0, "\(arguments.joined(separator: " ")): \(child.errors)")
        try? FileManager.default.removeItem(at: URL(fileURLWithPath: child.outputPath).deletingLastPathComponent())
    }

    /// A server whose log and whose tables have a small disk each.
    private func onSmallDisks(_ body: (_ server: PostgresCluster, _ log: String, _ tables: String) async throws -> Void) async throws {
        let folder = "/tmp/lindero-full-disk-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let disks = [(folder + "/log", "96m"), (folder + "/tables", "16m")]
        for (disk, size) in disks {
            try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
            try await root(["mount", "-t", "tmpfs", "-o", "size=\(size)", "tmpfs", disk])
            try await root(["chown", "postgres:", disk])
        }
        let server = try await PostgresCluster.start(settings: ["max_wal_size": "32MB", "min_wal_size": "32MB"])
        var failure: (any Error)?
        do {
            try await server.stop()
            let (log, here) = (server.folder + "/data/pg_wal", disks[0].0 + "/pg_wal")
            try await root(["/bin/bash", "-c", "set -e; cp -a \(log) \(here); rm -r \(log); ln -s \(here) \(log)"])
            try await server.restart()
            try await server.execute("CREATE TABLESPACE small LOCATION '\(disks[1].0)'")
            try await body(server, disks[0].0, disks[1].0)
        } catch {
            failure = error
        }
        server.remove()
        for (disk, _) in disks { try await root(["umount", "-l", disk]) }
        try FileManager.default.removeItem(atPath: folder)
        if let failure { throw failure }
    }

    /// Until nothing more fits.
    private func whileFull(_ disk: String, _ body: () async throws -> Void) async throws {
        try await root(["/bin/bash", "-c", "! head -c 1G /dev/zero >\(disk)/ballast 2>/dev/null"])
        try await body()
        try FileManager.default.removeItem(atPath: disk + "/ballast")
    }

    @Test(.enabled(if: canMount)) func aFullDiskOfOneSideIsNamedWithWhatHasToFitThere() async throws {
        try await onSmallDisks { server, log, tables in
            let scene = try await BadInputScene(source: server)
            _ = try await scene.target.execute("DROP TABLE guest")
            _ = try await scene.source.execute("INSERT INTO guest SELECT n, repeat('x', 100) FROM generate_series(1, 1000) n")
            let other = try await PostgresCluster.shared("target").createDatabase(prefix: "full")
            let there = try await BadInputScene.connect(other)
            _ = try await there.execute(
                "CREATE TABLE guest (id int PRIMARY KEY, name text); INSERT INTO guest SELECT n, repeat('x', 100) FROM generate_series(1, 1000) n")
            let small = try await server.createDatabase(prefix: "small")
            try await server.execute("ALTER DATABASE \"\(small.split(separator: "/").last ?? "")\" SET default_tablespace = small")

            func found(_ environment: [String: String]) async throws -> [CheckDocument.Finding] {
                let outcome = try await scene.run(["check", "--json"], environment)
                let document = try JSONDecoder().decode(CheckDocument.self, from: Data(outcome.output.utf8))
                #expect(outcome.exitCode == (document.findings.contains { $0.severity == "blocker" } ? 2 : 0), "\(outcome.output)\(outcome.errors)")
                return document.findings.filter { $0.code == "disk_space" }
            }
            let (asSource, asTarget): ([String: String], [String: String]) = ([:], ["BOT_URL": other, "SYNC_URL": small])
            func expect(_ environment: [String: String], on side: String, _ words: String, fix: String) async throws {
                let findings = try await found(environment)
                #expect(findings.count == 1, "\(findings)")
                let finding = try #require(findings.first)
                #expect(finding.severity == "blocker" && finding.database == side && finding.message.hasPrefix(words), "\(finding)")
                #expect(finding.message.hasSuffix("0 B are free"), "\(finding)")
                #expect(finding.fix == "make room on the disk of \(fix)", "\(finding)")
            }
            for environment in [asSource, asTarget] { #expect(try await found(environment).isEmpty) }
            try await whileFull(log) {
                let folder = server.folder + "/data/pg_wal"
                try await expect(asSource, on: "bot", "the log that is kept while tables are copied may take", fix: folder)
                try await expect(asTarget, on: "sync", "the log of the copy may take", fix: folder)
            }
            try await whileFull(tables) {
                #expect(try await found(asSource).isEmpty)
                try await expect(asTarget, on: "sync", "the tables and their indexes may take", fix: tables)
            }
            for environment in [asSource, asTarget] { #expect(try await found(environment).isEmpty) }
            for connection in [scene.source, scene.target, there] { await connection.close() }
        }
    }
}
