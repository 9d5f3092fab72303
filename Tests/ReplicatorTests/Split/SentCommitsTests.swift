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
    func whatASnapshotDoesNotSeeIsHidden(snapshot: String, xids: Set<UInt32>, hidden: Set<UInt32>) {
        #expect(SentCommits.hidden(xids, from: snapshot) == hidden)
    }

    @Test(arguments: ["", "1:2", "1:x:", "1:9:3,y"]) func whatIsNoSnapshotIsToldFromOneThatSeesAll(text: String) {
        #expect(SentCommits.hidden([1], from: text) == nil)
    }
}
