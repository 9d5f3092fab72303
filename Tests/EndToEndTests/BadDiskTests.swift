import Foundation
import Glibc
import PostgresClient
import TestSupport
import Testing

/// The target's disk fills up, for real: its tables in a small file system of their own.
@Suite struct BadDiskTests {
    /// Mounting takes root; elsewhere these tests are skipped.
    static let canMount = getuid() == 0

    private func root(_ arguments: [String]) async throws {
        let child = try ChildProcess(arguments[0], Array(arguments.dropFirst()))
        #expect(try await child.wait(timeoutSeconds: 30) == 0, "\(arguments.joined(separator: " ")): \(child.errors)")
        try? FileManager.default.removeItem(at: URL(fileURLWithPath: child.outputPath).deletingLastPathComponent())
    }

    /// A cluster with a tablespace of 16 MB; the function makes it large.
    private func onASmallDisk(
        _ body: (_ target: PostgresCluster, _ grow: () async throws -> Void) async throws -> Void
    ) async throws {
        let folder = "/tmp/lindero-bad-disk-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try await root(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder])
        let target = try await PostgresCluster.start()
        var failure: (any Error)?
        do {
            try await root(["chown", "postgres:", folder])
            try await target.execute("CREATE TABLESPACE small LOCATION '\(folder)'")
            try await body(target) { try await root(["mount", "-o", "remount,size=300m", folder]) }
        } catch {
            failure = error
        }
        target.remove()
        try await root(["umount", "-l", folder])
        try FileManager.default.removeItem(atPath: folder)
        if let failure { throw failure }
    }

    private static let table = "CREATE TABLE guest (id int PRIMARY KEY, name text)"
    private static let external = "ALTER TABLE guest ALTER name SET STORAGE EXTERNAL"

    private func scene(_ target: PostgresCluster) async throws -> (BadInputScene, [String: String]) {
        let scene = try await BadInputScene()
        _ = try await scene.source.execute(Self.external)
        try await target.execute("\(Self.table) TABLESPACE small; \(Self.external)")
        return (scene, ["BOT_URL": scene.sourceURL, "SYNC_URL": target.conninfo()])
    }

    private func fill(_ scene: BadInputScene) async throws {
        for batch in 0..<30 {
            _ = try await scene.source.execute(
                "INSERT INTO guest SELECT i, repeat(md5(i::text), 100) FROM generate_series(\(batch * 400), \(batch * 400) + 399) i")
        }
    }

    private func waitUntilEqual(_ scene: BadInputScene, _ target: PostgresCluster) async throws {
        let sql = "SELECT count(*)::text || ' ' || sum(hashtext(name)::bigint) FROM guest"
        let expected = try await scene.source.execute(sql).rows.first?[0]
        try await waitUntil("everything is there", timeoutSeconds: 60) {
            try await target.execute(sql).rows.first?[0] == expected
        }
    }

    @Test(.enabled(if: canMount)) func diskThatFillsWhileStreamingIsToldAndOutlived() async throws {
        try await onASmallDisk { target, grow in
            let (scene, environment) = try await scene(target)
            let worker = try LinderoProcess.start(
                ["run", "--http", "none"], environment: environment, folder: scene.folder.path)
            try await worker.waitForErrors("streaming")
            try await fill(scene)
            try await worker.waitForErrors("53100")
            #expect(worker.errors.contains("out of space"), "\(worker.errors)")
            #expect(worker.errors.contains("goes on by itself"))
            #expect(worker.errors.contains("direction=bot->sync"))
            #expect(worker.child.exitCode == nil)
            try await grow()
            try await waitUntilEqual(scene, target)
            worker.terminate()
            #expect(try await worker.wait() == 0)
        }
    }

    @Test(.enabled(if: canMount)) func diskThatFillsDuringTheCopyIsToldAndOutlived() async throws {
        try await onASmallDisk { target, grow in
            let (scene, environment) = try await scene(target)
            try await fill(scene)
            let worker = try LinderoProcess.start(
                ["run", "--http", "none"], environment: environment, folder: scene.folder.path)
            try await worker.waitForErrors("53100")
            #expect(worker.errors.contains("out of space"), "\(worker.errors)")
            #expect(worker.errors.contains("goes on by itself"))
            #expect(worker.errors.contains("direction=bot->sync"))
            #expect(try await target.execute("SELECT count(*) FROM guest").rows.first?[0] == "0")
            _ = try await scene.source.execute("INSERT INTO guest VALUES (-1, 'written meanwhile')")
            try await grow()
            try await waitUntilEqual(scene, target)
            try await worker.waitForErrors("streaming")
            worker.terminate()
            #expect(try await worker.wait() == 0)
        }
    }
}
