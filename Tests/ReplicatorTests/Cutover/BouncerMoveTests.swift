import Foundation
import PostgresClient
import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

@Suite(.timeLimit(.minutes(4)))
struct BouncerMoveTests {
    @Test func clientsOfATransactionPoolMoveWithoutAFailedWriteAndBack() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        var writers: [LiveWriter] = []
        for number in 1...4 { writers.append(LiveWriter("w\(number)", try await scene.client())) }
        for writer in writers { try await writer.advance() }

        let figures = try await scene.run(try scene.move())
        let moved = writers.map(\.acknowledged)
        for writer in writers { try await writer.advance() }
        #expect(figures.sessionsMoved >= 1)
        #expect(figures.longestPauseMilliseconds > 0)
        let peer = try #require(await scene.sync.peer)
        #expect(
            try scene.entries()
                == scene.entriesBefore.replacingOccurrences(
                    of: "host=127.0.0.1   port=\(try #require(await scene.bot.peer).port) dbname=\(try #require(await scene.bot.peer).database)",
                    with: "host=\(peer.host)   port=\(peer.port) dbname=\(peer.database)"))

        let back = try await scene.run(try scene.move(back: true))
        #expect(back.sessionsMoved >= 1)
        for writer in writers { try await writer.advance() }
        #expect(try scene.entries() == scene.entriesBefore)
        for (writer, before) in zip(writers, moved) {
            await writer.stop()
            #expect(writer.failures == [])
            let counts = try await scene.counts(writer.name)
            #expect(counts.bot + counts.sync == writer.acknowledged, "each is on one side")
            #expect(counts.sync > 0 && counts.bot > 0 && before > 0)
        }
        #expect(try await scene.isPaused == false)
        await scene.close()
    }

    @Test func theFileKeepsItsModeAndOwner() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let bouncer = try #require(scene.bouncer)
        #expect(chmod(bouncer.entriesPath, 0o640) == 0)
        var before = stat()
        stat(bouncer.entriesPath, &before)
        try await scene.run(try scene.move())
        var after = stat()
        stat(bouncer.entriesPath, &after)
        #expect(after.st_mode == before.st_mode && after.st_uid == before.st_uid && after.st_gid == before.st_gid)
        #expect(after.st_ino != before.st_ino, "it was replaced, not written over")
        #expect(try FileManager.default.contentsOfDirectory(atPath: bouncer.folder).filter { $0.contains("lindero") } == [])
        await scene.close()
    }

    @Test func aLongTransactionIsNamedAndNobodyWaitsForItForLong() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let long = try await scene.client()
        _ = try await long.execute("BEGIN; INSERT INTO public.leads VALUES (1, 1)")
        let writer = LiveWriter("w", try await scene.client())
        try await writer.advance()
        do {
            let error = try #require(await scene.failure(try scene.move(seconds: 5)), "it was moved")
            guard case .notHeld(_, "bot", _, let sessions) = error else { throw error }
            #expect(sessions.map(\.role) == [scene.syncRole])
            let isBusy = sessions.allSatisfy { $0.isInTransaction }
            #expect(isBusy)
            #expect("\(error)".contains("pid "))
        }
        // It is where it was, and everybody goes on.
        try await writer.advance()
        #expect(try scene.entries() == scene.entriesBefore)
        #expect(try await scene.isPaused == false)
        _ = try await long.execute("COMMIT")
        await writer.stop()
        #expect(writer.failures == [])
        #expect(try await scene.counts("w").sync == 0)
        let releases = scene.events.withLock { $0 }.filter { if case .released = $0 { true } else { false } }
        #expect(releases.count >= 2, "it tried, let them go on, and tried again")
        await long.close()
        await scene.close()
    }

    @Test func whereClientsKeepTheirServerTheyMoveWhenTheyGo() async throws {
        let scene = try await MoveScene(poolMode: "session")
        let writer = LiveWriter("w", try await scene.client())
        try await writer.advance()
        // It stays: the service is put back.
        do {
            let error = try #require(await scene.failure(try scene.move(seconds: 1)), "it was moved")
            guard case .sessionsLeft(_, "bot", _, let sessions) = error else { throw error }
            #expect(sessions.count == 1)
        }
        #expect(try scene.entries() == scene.entriesBefore)
        try await writer.advance()
        // It goes while the move waits for that, and comes again.
        async let figures = scene.run(try scene.move())
        try await waitUntil("pgbouncer has the new address") { try scene.entries() != scene.entriesBefore }
        try await writer.advance()
        await writer.stop()
        let next = LiveWriter("x", try await scene.client())
        try await next.advance()
        #expect(try await figures.longestPauseMilliseconds == 0)
        await next.stop()
        #expect(writer.failures + next.failures == [])
        #expect(try await scene.counts("w").sync == 0)
        #expect(try await scene.counts("x").bot == 0)
        await scene.close()
    }

    @Test func whatAKilledMoveLeftIsFinished() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let bouncer = try #require(scene.bouncer)
        let peer = try #require(await scene.sync.peer)
        let address = ServerAddress(host: peer.host, port: peer.port, database: peer.database)
        let file = BouncerFileStore(path: bouncer.entriesPath)
        let stages: [(String, () async throws -> Void)] = [
            ("paused", { try await bouncer.admin("PAUSE hotel_sync") }),
            ("written beside the file", { try "half".write(toFile: bouncer.entriesPath + ".lindero-new", atomically: true, encoding: .utf8) }),
            ("written", { try file.change("hotel_sync", .point(address)) }),
            ("loaded", { try await bouncer.admin("RELOAD") }),
            ("resumed", { try await bouncer.admin("RESUME hotel_sync") }),
        ]
        for count in 1...stages.count {
            for (_, stage) in stages.prefix(count) { try await stage() }
            try await scene.run(try scene.move())
            let writer = LiveWriter("w\(count)", try await scene.client())
            try await writer.advance()
            await writer.stop()
            #expect(try await scene.counts(writer.name).bot == 0, "after \(stages[count - 1].0)")
            // And the other way: what was begun is undone.
            try await scene.run(try scene.move(back: true))
            for (_, stage) in stages.prefix(count) { try await stage() }
            try await scene.run(try scene.move(back: true))
            let stayed = LiveWriter("s\(count)", try await scene.client())
            try await stayed.advance()
            await stayed.stop()
            #expect(try await scene.counts(stayed.name).sync == 0, "back after \(stages[count - 1].0)")
        }
        #expect(try await scene.isPaused == false)
        await scene.close()
    }

    @Test func anotherFileThanPgbouncersIsSaidAndPutBack() async throws {
        let scene = try await MoveScene(poolMode: "transaction")
        let other = try #require(scene.bouncer).folder + "/other.ini"
        try scene.entriesBefore.write(toFile: other, atomically: true, encoding: .utf8)
        var move = try scene.move()
        move.bouncer?.file = other
        do {
            let error = try #require(await scene.failure(move), "it was moved")
            guard case .file(other, .notRead("hotel_sync")) = error else { throw error }
        }
        #expect(try String(contentsOfFile: other, encoding: .utf8) == scene.entriesBefore)
        #expect(try await scene.isPaused == false)
        move.bouncer?.entry = "nobody"
        do {
            let error = try #require(await scene.failure(move), "it was moved")
            guard case .file(other, .noEntry("nobody")) = error else { throw error }
        }
        await scene.close()
    }
}
