import Foundation
import PostgresClient
import ReplicationCore
import Synchronization
import TestSupport
import Testing

@testable import Replicator

@Suite(.timeLimit(.minutes(3)))
struct MoveCommandTests {
    /// Run by name: a file that was just written may still be open for writing in a child of another test.
    private static let shell = "/bin/sh"

    /// A program in a folder of its own that writes what it sees to `seen`, then does as `body` says.
    private static func program(_ body: String = "") throws -> (path: String, seen: () -> String) {
        let folder = NSTemporaryDirectory() + "lindero-move-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let path = folder + "/move it"
        try """
            #!/bin/sh
            cd '\(folder)'
            echo "$LINDERO_STEP $LINDERO_SERVICE $LINDERO_FROM $LINDERO_TO $*" >> seen
            env >> environment
            \(body)
            """.write(toFile: path, atomically: true, encoding: .utf8)
        chmod(path, 0o755)
        return (path, { (try? String(contentsOfFile: folder + "/seen", encoding: .utf8)) ?? "" })
    }

    @Test func aCommandIsToldWhatMovesAndWhereAndNoSecret() async throws {
        let scene = try await MoveScene()
        setenv("LINDERO_MOVE_TEST_URL", "postgresql://u:secret@h/d", 1)
        let program = try Self.program("echo one; echo two >&2; printf three")
        var move = try scene.move()
        move.command = [Self.shell, program.path, "--fast", "two words", "$(id)"]
        try await scene.run(move)
        #expect(program.seen() == "move sync bot sync --fast two words $(id)\n")
        let environment = try String(contentsOfFile: (program.path as NSString).deletingLastPathComponent + "/environment", encoding: .utf8)
        #expect(!environment.contains("secret") && !environment.contains("postgresql"))
        #expect(Set(scene.log.lines.withLock { $0 }) == ["move sync: one", "move sync: two", "move sync: three"])
        await scene.close()
    }

    @Test func aCommandThatFailsIsAskedToBringTheServiceBack() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let writer = LiveWriter("w", try await scene.client())
        try await writer.advance()
        let program = try Self.program("[ $LINDERO_STEP = undo ] || exit 7")
        var move = try scene.move()
        move.command = [Self.shell, program.path]
        do {
            let error = try #require(await scene.failure(move), "it was moved")
            guard case .command(Self.shell, .exited(code: 7)) = error else { throw error }
        }
        #expect(program.seen() == "move sync bot sync \nundo sync sync bot \n")
        #expect(try scene.entries() == scene.entriesBefore)
        let before = try await scene.counts("w")
        try await writer.advance()
        await writer.stop()
        #expect(writer.failures == [])
        #expect(try await scene.counts("w").bot > before.bot)
        await scene.close()
    }

    @Test func aCommandThatHangsIsEndedWithWhatItStarted() async throws {
        let scene = try await MoveScene()
        let program = try Self.program("[ $LINDERO_STEP = undo ] && exit 1; echo $$ > pid; sleep 600 & echo $! >> pid; trap '' TERM; wait; wait; sleep 600")
        var move = try scene.move(seconds: patient(.seconds(1)) / .seconds(1))
        move.command = [Self.shell, program.path]
        do {
            let error = try #require(await scene.failure(move), "it was moved")
            guard case .notUndone(.command(_, .tookTooLong), "sync", let left) = error else { throw error }
            #expect(left.count == 1)
        }
        let folder = (program.path as NSString).deletingLastPathComponent
        let pids = try String(contentsOfFile: folder + "/pid", encoding: .utf8).split(separator: "\n").compactMap { Int32($0) }
        #expect(pids.count == 2)
        try await waitUntil("both are gone") { pids.allSatisfy { kill($0, 0) != 0 || Self.isZombie($0) } }
        await scene.close()
    }

    private static func isZombie(_ pid: Int32) -> Bool {
        (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8))?.contains(") Z ") == true
    }

    @Test func aCommandThatIsNotThereIsSaid() async throws {
        let scene = try await MoveScene()
        var move = try scene.move()
        move.command = ["/nowhere/move"]
        do {
            let error = try #require(await scene.failure(move), "it was moved")
            guard case .command("/nowhere/move", .notStarted) = error else { throw error }
        }
        await scene.close()
    }

    /// A service that ends in good order ends its last write first; under the fence that write can't end.
    @Test func aServiceThatWaitsAtTheFenceCanBeStoppedByTheCommand() async throws {
        let scene = try await MoveScene()
        let direct = try await scene.client()
        let program = try Self.program("sleep 0.3")
        var move = try scene.move(fence: .strict) { _ in
            Task { _ = try? await direct.execute("INSERT INTO public.leads VALUES (1, 1)") }
            try await waitUntil("it waits at the fence") {
                try await scene.bot.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").firstValue != "0"
            }
        }
        move.command = [Self.shell, program.path]
        let figures = try await scene.run(move)
        #expect(figures.sessionsEnded >= 1)
        #expect(try await scene.bot.execute("SELECT count(*) FROM public.leads").firstValue == "0")
        await direct.close()
        await scene.close()
    }

    @Test func withoutAnythingAPersonMovesItAndTheMoveWaits() async throws {
        let scene = try await MoveScene()
        let direct = try await scene.client()
        do {
            let error = try #require(await scene.failure(try scene.move(seconds: 0.5)), "it was moved")
            guard case .sessionsLeft("sync", "bot", _, let sessions) = error else { throw error }
            #expect(sessions.map(\.application) == ["a service"])
            #expect(sessions.map(\.client) == ["127.0.0.1"])
        }
        scene.events.withLock { $0 = [] }
        async let figures = scene.run(try scene.move())
        try await waitUntil("it waits") {
            scene.events.withLock { $0 }.contains { if case .waiting(let sessions) = $0 { sessions.count == 1 } else { false } }
        }
        await direct.close()
        #expect(try await figures.sessionsMoved == 1)
        await scene.close()
    }

    @Test func aServiceWithoutRolesIsNotMoved() async throws {
        let scene = try await MoveScene()
        var move = try scene.move()
        move.roles = []
        await #expect(throws: ServiceMoveError.self) { try await scene.run(move) }
        await scene.close()
    }

    @Test func aMoveThatIsCancelledIsUndone() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let writer = LiveWriter("w", try await scene.client())
        try await writer.advance()
        let move = try scene.move(fence: .strict, seconds: 600) { _ in try await Task.sleep(for: .seconds(600)) }
        let failure = Mutex<(any Error)?>(nil)
        let task = Task {
            do { return try await scene.run(move) } catch {
                failure.withLock { $0 = error }
                throw error
            }
        }
        try await waitUntil("the fence stands") {
            if let error = failure.withLock({ $0 }) { throw error }
            return scene.events.withLock { $0 }.contains { if case .begun(.drain) = $0 { true } else { false } }
        }
        task.cancel()
        do {
            _ = try await task.value
            Issue.record("it was moved")
        } catch let error as ServiceMoveError {
            guard case .cancelled = error else { throw error }
        }
        try await writer.advance()
        await writer.stop()
        #expect(writer.failures == [])
        #expect(try scene.entries() == scene.entriesBefore)
        await scene.close()
    }
}
