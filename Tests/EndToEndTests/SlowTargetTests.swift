import Foundation
import Glibc
import PostgresClient
import TestSupport
import Testing

/// A target that takes nothing for a while: all of the worker's buffers are full.
@Suite struct SlowTargetTests {
    @Test(arguments: ["one transaction", "many"])
    func workerStaysUnderItsLimitWhenTheTargetStands(kind: String) async throws {
        let scene = try await BadInputScene(
            source: try await PostgresCluster.shared("streaming"),
            script: "CREATE TABLE guest (id int PRIMARY KEY, name text); ALTER TABLE guest ALTER name SET STORAGE EXTERNAL;",
            tables: "\"*\": { columns: { bot: \"*\" } }", replication: "memory_limit: 64MB, heartbeat: 200ms")
        let worker = try scene.start()
        try await worker.waitForErrors("streaming")
        _ = try await scene.source.execute("INSERT INTO guest VALUES (-1, 'first')")
        try await scene.waitUntilEqual()
        let before = try Self.peakMemoryKilobytes(worker)
        let blocker = try await BadInputScene.connect(scene.targetURL)
        _ = try await blocker.execute("BEGIN; LOCK TABLE guest IN EXCLUSIVE MODE")
        // 150 MB in rows of 96 kB: large buffers that grow as they are filled are the heap's worst case. Rows of 192 kB have a
        // statement each.
        let (count, size) = kind == "many" ? (800, 6_000) : (1_600, 3_000)
        let rows = "INSERT INTO guest SELECT i, repeat(md5(i::text), \(size)) FROM generate_series"
        if kind == "many" {
            for first in stride(from: 1, to: count, by: 10) { _ = try await scene.source.execute("\(rows)(\(first), \(first + 9)) i") }
        } else {
            _ = try await scene.source.execute("\(rows)(1, \(count)) i")
        }
        var looks = 0
        try await waitUntil("the worker reads no more") {
            let waiting = """
                SELECT 1 FROM pg_stat_replication r JOIN pg_stat_activity a USING (pid)
                WHERE a.datname = current_database() AND a.wait_event = 'WalSenderWriteData'
                """
            looks = try await scene.source.execute(waiting).rowCount == 1 ? looks + 1 : 0
            return looks == 50
        }
        _ = try await blocker.execute("ROLLBACK")
        try await scene.waitUntilEqual()
        let peak = try Self.peakMemoryKilobytes(worker)
        #expect(peak - before < 64_000, "\(before) kB before, \(peak) kB at most")
        worker.terminate()
        #expect(try await worker.wait() == 0)
        await blocker.close()
    }

    private static func peakMemoryKilobytes(_ worker: RunningLindero) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(worker.child.processID)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return try #require(line.flatMap { Int($0.filter(\.isNumber)) })
    }
}
