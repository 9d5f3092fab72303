import Foundation
import Glibc
import ReplicationCore
import Testing

@testable import Replicator

/// The folder of transactions that do not fit in memory.
@Suite struct SpillFolderTests {
    private final class Base {
        let path = "/tmp/lindero-base-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        var folders: [String] {
            ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
        }
        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    private func mode(_ path: String) throws -> Int {
        try #require(FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int)
    }

    @Test func folderIsPrivateNamedAfterItsDirectionAndGoneAtTheEnd() async throws {
        let base = Base()
        let folder = try await SpillFolder.open(base: base.path, direction: "bot->sync")
        #expect(base.folders.count == 1)
        #expect(base.folders[0].hasPrefix("bot__sync-"))
        #expect(try mode(base.path) == 0o700)
        #expect(try mode(folder.path) == 0o700)
        await folder.close()
        #expect(base.folders.isEmpty)
    }

    @Test func whatADeadWorkerLeftIsRemovedAndALivingOneKeepsItsOwn() async throws {
        let base = Base()
        let living = try await SpillFolder.open(base: base.path, direction: "a->b")
        let dead = "\(base.path)/a__b-dead.spill"
        try FileManager.default.createDirectory(atPath: dead, withIntermediateDirectories: true)
        try Data("rows".utf8).write(to: URL(fileURLWithPath: "\(dead)/77"))
        let other = "\(base.path)/not-ours"
        try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
        let next = try await SpillFolder.open(base: base.path, direction: "a->b")
        #expect(!FileManager.default.fileExists(atPath: dead))
        #expect(FileManager.default.fileExists(atPath: other))
        #expect(FileManager.default.fileExists(atPath: living.path))
        await living.close()
        await next.close()
    }

    @Test func startThatNeedsNoFolderRemovesWhatADeadWorkerLeftAndMakesNone() async throws {
        let base = Base()
        await SpillFolder.sweep(base: base.path)
        #expect(!FileManager.default.fileExists(atPath: base.path))
        let living = try await SpillFolder.open(base: base.path, direction: "a->b")
        let dead = "\(base.path)/a__b-dead.spill"
        try FileManager.default.createDirectory(atPath: dead, withIntermediateDirectories: true)
        try Data("rows".utf8).write(to: URL(fileURLWithPath: "\(dead)/77"))
        await SpillFolder.sweep(base: base.path)
        #expect(base.folders.map { "\(base.path)/\($0)" } == [living.path])
        await living.close()
    }

    @Test func folderThatOthersMayWriteToIsRefused() async throws {
        let base = Base()
        try FileManager.default.createDirectory(atPath: base.path, withIntermediateDirectories: true)
        chmod(base.path, 0o777)
        let error = await #expect(throws: SpillError.self) {
            try await SpillFolder.open(base: base.path, direction: "a->b")
        }
        #expect(error?.description.contains("others may write") == true)
        await #expect(throws: SpillError.self) {
            try await SpillFolder.open(base: "/nowhere/at/all", direction: "a->b")
        }
    }

    @Test func linkInPlaceOfTheFolderIsNotFollowed() async throws {
        let base = Base()
        let real = Base()
        try FileManager.default.createDirectory(atPath: real.path, withIntermediateDirectories: true)
        symlink(real.path, base.path)
        await #expect(throws: SpillError.self) {
            try await SpillFolder.open(base: base.path, direction: "a->b")
        }
        unlink(base.path)
    }
}
