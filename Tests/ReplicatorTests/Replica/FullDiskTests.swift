import Foundation
import Glibc
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// The target's disk fills up, for real: a table in a small file system of its own.
@Suite struct FullDiskTests {
    /// Mounting takes root; elsewhere the test is skipped.
    static let canMount = getuid() == 0

    private func root(_ arguments: [String]) async throws {
        let child = try ChildProcess(arguments[0], Array(arguments.dropFirst()))
        #expect(try await child.wait(timeoutSeconds: 30) == 0, "\(arguments.joined(separator: " ")): \(child.errors)")
        try? FileManager.default.removeItem(at: URL(fileURLWithPath: child.outputPath).deletingLastPathComponent())
    }

    @Test(.enabled(if: canMount)) func fullDiskOnTheTargetIsWaitedOutAndNothingIsLost() async throws {
        let folder = "/tmp/lindero-full-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try await root(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder])
        let target = try await PostgresCluster.start()
        do {
            try await root(["chown", "postgres:", folder])
            try await fill(target, folder)
        } catch {
            target.remove()
            try await clean(folder)
            throw error
        }
        target.remove()
        try await clean(folder)
    }

    private func clean(_ folder: String) async throws {
        try await root(["umount", "-l", folder])
        try FileManager.default.removeItem(atPath: folder)
    }

    private func fill(_ target: PostgresCluster, _ folder: String) async throws {
        let source = try await PostgresCluster.shared("source").createDatabase(prefix: "full")
        let writer = try await ReplicaPair.connect(source)
        let slot = "full" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let schema = "CREATE TABLE t (id int PRIMARY KEY, v text)"
        _ = try await writer.execute("\(schema); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; CREATE PUBLICATION p FOR TABLE t")
        _ = try await writer.execute("SELECT pg_create_logical_replication_slot('\(slot)', 'pgoutput')")
        try await target.execute("CREATE TABLESPACE small LOCATION '\(folder)'")
        try await target.execute("\(schema) TABLESPACE small; ALTER TABLE t ALTER v SET STORAGE EXTERNAL")
        var replication = ReplicationSettings()
        replication.snapshot = .never
        replication.heartbeatMilliseconds = 200
        let settings = DirectionSettings(
            sourceName: "bot", targetName: "sync", source: ConnectionOptions(source),
            target: ConnectionOptions(target.conninfo()), slot: slot, publication: "p", backend: .replica,
            replication: replication, policy: nil)
        let state = DirectionState()
        let running = Task {
            let sync = InitialSync(settings: settings, state: state, logger: FreshPair.quiet)
            try await DirectionSupervisor(
                settings: settings, state: state, logger: FreshPair.quiet, worker: "test", prepare: { _ in try await sync.run() }
            ).run()
        }
        for batch in 0..<30 {
            _ = try await writer.execute(
                "INSERT INTO t SELECT i, repeat(md5(i::text), 100) FROM generate_series(\(batch * 400), \(batch * 400) + 399) i")
        }
        try await waitUntil("the disk is full") {
            if state.phase == .stopped { throw ReplicaPair.Stopped(problem: state.snapshot().problem ?? "") }
            return state.phase == .reconnecting && state.snapshot().problem?.contains("53100") == true
        }
        // What is there is a prefix, whole transactions of 400 rows.
        let partial = try await target.execute("SELECT count(*) % 400, count(*) < 12000 FROM t").rows.first
        #expect(partial?[0] == "0")
        #expect(partial?[1] == "t")
        try await root(["mount", "-o", "remount,size=300m", folder])
        let sql = "SELECT count(*)::text || ' ' || sum(hashtext(v)::bigint) FROM t"
        let expected = try await writer.execute(sql).rows.first?[0]
        try await waitUntil("everything is there", timeoutSeconds: 60) {
            try await target.execute(sql).rows.first?[0] == expected
        }
        state.drain()
        try await running.value
    }
}
