import PostgresClient
import TestSupport
import Testing

@testable import Replicator

@Suite struct SentCommitsTests {
    private static let cases: [(snapshot: String, xids: Set<UInt32>, hidden: Set<UInt32>)] = [
        ("700:705:", [699, 700, 704], []),
        ("700:705:700,703", [699, 700, 703, 704], [700, 703]),
        ("700:705:", [705, 706], [705, 706]),
        // After the first round, and at its end.
        ("4294967290:4294967300:4294967290,4294967297", [4_294_967_290, 4_294_967_295, 0, 1, 3, 4], [4_294_967_290, 1, 4]),
    ]

    @Test(arguments: cases)
    func whatASnapshotDoesNotSeeIsHidden(text: String, xids: Set<UInt32>, hidden: Set<UInt32>) throws {
        let snapshot = try #require(SourceSnapshot(text))
        #expect(xids.filter { !snapshot.shows($0) } == hidden)
    }

    @Test(arguments: ["", "1:2", "1:x:", "1:9:3,y"]) func whatIsNoSnapshotIsToldFromOneThatSeesAll(text: String) {
        #expect(SourceSnapshot(text) == nil)
    }

    @Test func whatIsHiddenIsWaitedForAndNotAskedAboutAgain() async throws {
        struct GaveUp: Error {}
        let url = try await PostgresCluster.shared("source").createDatabase(prefix: "sent")
        let (source, writer) = (try await ReplicaPair.connect(url), try await ReplicaPair.connect(url))
        _ = try await writer.execute("BEGIN")
        let xid = try #require(try await writer.query("SELECT pg_current_xact_id()::xid::text").firstValue.flatMap { UInt32($0) })
        var sent = SentCommits(connection: source)
        await #expect(throws: GaveUp.self) { try await sent.settle([3, xid]) { _ in throw GaveUp() } }
        var rounds = 0
        try await sent.settle([3, xid]) { _ in
            rounds += 1
            if rounds == 3 { _ = try await writer.execute("COMMIT") }
        }
        #expect(rounds == 3)
        await source.close()
        try await sent.settle([3, xid]) { _ in throw GaveUp() }
        await #expect(throws: PostgresError.self) { try await sent.settle([xid &+ 1_000_000]) { _ in throw GaveUp() } }
        await writer.close()
    }
}
