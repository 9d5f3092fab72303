import Foundation
import Glibc
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

/// The disk fills up under transactions that still run, for real: the spill folder is a small file system.
@Suite struct FullSpillTests {
    /// Mounting takes root; elsewhere the test is skipped.
    static let canMount = getuid() == 0

    private func root(_ arguments: [String]) async throws {
        let child = try ChildProcess(arguments[0], Array(arguments.dropFirst()))
        #expect(
            try await child.wait(timeoutSeconds: 30) == 0,
            "\(arguments.joined(separator: " ")): \(child.errors)")
        try? FileManager.default.removeItem(
            at: URL(fileURLWithPath: child.outputPath).deletingLastPathComponent())
    }

    @Test(.enabled(if: canMount)) func fullDiskPausesAndNothingIsLostOrAcknowledged() async throws {
        let base = "/tmp/lindero-full-spill-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try FileManager.default.createDirectory(atPath: base, withIntermediateDirectories: true)
        try await root(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", base])
        var failure: (any Error)?
        do {
            try await fill(base)
        } catch {
            failure = error
        }
        try await root(["umount", "-l", base])
        try FileManager.default.removeItem(atPath: base)
        if let failure { throw failure }
    }

    private func fill(_ base: String) async throws {
        let scene = try await StreamingPair(base: base)
        let session = try await scene.session()
        try await scene.pair.streaming { state in
            try await scene.pair.apply("INSERT INTO t VALUES (-1, 'before')", state)
            _ = try await session.execute("BEGIN; \(StreamingPair.rows(1, 30_000))")
            try await waitUntil("it waits for room") { state.phase == .paused }
            let problem = state.snapshot().problem ?? ""
            #expect(problem.contains(base) && problem.contains("goes on by itself"), "\(problem)")
            let noted = "SELECT state, problem LIKE '%make room%' FROM lindero.direction"
            try await waitUntil("status can tell") {
                try await scene.pair.rows(noted, on: scene.pair.target) == [["paused", "t"]]
            }
            _ = try await session.execute("COMMIT")
            let lsn =
                try await scene.pair.rows("SELECT pg_current_wal_insert_lsn()", on: scene.pair.source)[0][0]
                ?? ""
            // Longer than wal_sender_timeout: the stream is kept alive.
            let replied =
                "SELECT bool_or(reply_time > '%')::text FROM pg_stat_replication WHERE pid = "
                + "(SELECT active_pid FROM pg_replication_slots WHERE slot_name = '\(scene.pair.slot)')"
            let until =
                try await scene.pair.rows("SELECT clock_timestamp() + '\(StreamingPair.senderTimeoutSeconds + 1)s'", on: scene.pair.source)[0][0]
                ?? ""
            try await waitUntil("the server still hears of us") {
                try await scene.pair.rows(
                    replied.replacingOccurrences(of: "%", with: until), on: scene.pair.source) == [["true"]]
            }
            #expect(state.phase == .paused)
            #expect(state.snapshot().reconnects == 0)
            let confirmed =
                "SELECT confirmed_flush_lsn < '\(lsn)' FROM pg_replication_slots WHERE slot_name = '\(scene.pair.slot)'"
            #expect(try await scene.pair.rows(confirmed, on: scene.pair.source) == [["t"]])
            try await root(["mount", "-o", "remount,size=100m,mode=0700", base])
            try await waitUntil("it goes on") { state.phase != .paused }
            try await scene.pair.catchUp(state)
            try await scene.pair.expectSame(StreamingPair.contents)
            try await waitUntil("it streams") { state.phase == .streaming }
            #expect(scene.files.isEmpty)
        }
        await session.close()
    }
}
