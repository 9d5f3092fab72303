import Foundation
import PostgresClient
import TestSupport
import Testing

@testable import Replicator

@Suite(.timeLimit(.minutes(3)))
struct PauseWatchTests {
    /// The process that watches, told as a move tells it.
    private func watch(_ scene: MoveScene, lifeMilliseconds: Int) async throws -> RunningLindero {
        let watch = try LinderoProcess.start(["pause-watch"])
        let console = Array(try #require(scene.bouncer).console.utf8).map { String($0, radix: 16) }.joined(separator: " ")
        watch.child.write(Array("hotel_sync\n\(lifeMilliseconds)\n\(console)\n".utf8))
        try await waitUntil("it is ready; it said \(watch.output)") { watch.output.hasPrefix("ready") }
        return watch
    }

    @Test func clientsGoOnWhenTheMoverDies() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let writer = LiveWriter("w", try await scene.client())
        try await writer.advance()
        let watch = try await watch(scene, lifeMilliseconds: 600_000)
        watch.terminate()
        watch.interrupt()
        try await scene.bouncer?.admin("PAUSE hotel_sync")
        // The kernel closes the pipe of a process that dies, however it does.
        watch.child.closeInput()
        #expect(try await watch.wait() == 0)
        try await writer.advance()
        await writer.stop()
        #expect(writer.failures == [])
        await scene.close()
    }

    @Test func clientsGoOnWhenTheMoverHangs() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        // First, so that they wait when its time is over, however soon that is.
        try await scene.bouncer?.admin("PAUSE hotel_sync")
        let watch = try await watch(scene, lifeMilliseconds: 300)
        #expect(try await watch.wait() == 0)
        #expect(try await scene.isPaused == false)
        await scene.close()
    }

    @Test func aWatchThatIsToldSoLeavesClientsAlone() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let watch = try await watch(scene, lifeMilliseconds: 600_000)
        try await scene.bouncer?.admin("PAUSE hotel_sync")
        watch.child.write(Array("done\n".utf8))
        #expect(try await watch.wait() == 0)
        #expect(try await scene.isPaused == true)
        await scene.close()
    }

    @Test func withoutAWatchNobodyIsPaused() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        var move = try scene.move()
        for (program, arguments) in [("/nowhere", []), ("/bin/false", []), ("/bin/echo", ["not now"])] {
            move.pauseWatch = PauseWatch.Program(path: program, arguments: arguments)
            do {
                let error = try #require(await scene.failure(move), "it was moved")
                guard case .noPauseWatch(let reason) = error else { throw error }
                #expect(program != "/bin/echo" || reason == "not now")
            }
        }
        #expect(try scene.entries() == scene.entriesBefore)
        await scene.close()
    }

    @Test func whatItIsToldIsInNoArgumentAndNoEnvironment() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let watch = try await watch(scene, lifeMilliseconds: 600_000)
        for file in ["cmdline", "environ"] {
            let text = try String(contentsOfFile: "/proc/\(watch.child.processID)/\(file)", encoding: .utf8)
            #expect(!text.contains("postgresql://"))
        }
        await scene.close()
    }
}
