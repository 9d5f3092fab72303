@testable import ReplicationCore
import TestSupport
import Testing

@testable import Replicator

@Suite struct GroupLimitTests {
    /// A chunk of one transaction with so many changes; open-ended without `endLSN`.
    private func chunk(changes: Int, endLSN: LSN = LSN(9)) -> ChangeChunk {
        var chunk = ChangeChunk()
        chunk.changes = Array(repeating: Change(kind: .insert, relation: 0), count: changes)
        chunk.transactions = [
            TransactionSpan(
                xid: 1, commitLSN: LSN(8), endLSN: endLSN, commitTime: PostgresTime(microseconds: 0), origin: nil,
                changes: 0..<changes)
        ]
        return chunk
    }

    private func mailbox(_ chunks: [ChangeChunk]) -> StreamMailbox {
        let mailbox = StreamMailbox(limitBytes: 1 << 20)
        for chunk in chunks { mailbox.put(chunk) }
        return mailbox
    }

    private func sizes(_ mailbox: StreamMailbox, _ limits: GroupLimits) -> [[Int]] {
        var groups: [[Int]] = []
        while let group = mailbox.takeNow(limits) { groups.append(group.map(\.changes.count)) }
        return groups
    }

    @Test func groupEndsBeforeTheChunkThatWouldPassTheChanges() {
        let limits = GroupLimits(bytes: .max, changes: 10)
        #expect(sizes(mailbox([4, 6, 1, 9, 1].map { chunk(changes: $0) }), limits) == [[4, 6], [1, 9], [1]])
    }

    @Test func groupEndsBeforeTheChunkThatWouldPassTheBytes() {
        let limits = GroupLimits(bytes: chunk(changes: 5).sizeBytes * 2)
        #expect(sizes(mailbox([5, 5, 5, 5, 5].map { chunk(changes: $0) }), limits) == [[5, 5], [5, 5], [5]])
    }

    @Test func chunkPastEveryLimitIsAGroupOfItsOwn() {
        let limits = GroupLimits(bytes: 1, changes: 1)
        #expect(sizes(mailbox([1, 500, 1].map { chunk(changes: $0) }), limits) == [[1], [500], [1]])
    }

    @Test func pieceOfALargeTransactionNeverWaitsWithOthers() {
        let chunks = [chunk(changes: 1), chunk(changes: 7, endLSN: .zero), chunk(changes: 2)]
        #expect(sizes(mailbox(chunks), .none) == [[1], [7], [2]])
    }

    @Test func waitingChunksAreTakenAtOnceHoweverFew() async {
        let group = await mailbox([chunk(changes: 1)]).take(GroupLimits(bytes: 4 << 20, changes: 100_000))
        #expect(group?.count == 1)
    }

    /// What the applier gets that may wait for a minute, once `body` has come to its end.
    private func group(
        _ mailbox: StreamMailbox, _ limits: GroupLimits, while body: () async -> Void
    ) async -> [Int]? {
        let taking = blocking {
            mailbox.takeBlocking(limits, untilQuiet: false, patienceMilliseconds: 60_000).chunks?.map(\.changes.count)
        }
        while !mailbox.isBehind { await Task.yield() }
        await body()
        return await taking.value
    }

    @Test(.timeLimit(.minutes(1))) func groupOfABacklogWaitsUntilItIsFull() async {
        let mailbox = mailbox([chunk(changes: 4)])
        mailbox.note(isBacklog: true)
        #expect(mailbox.takeNow(GroupLimits(bytes: .max, changes: 10)) == nil)
        let taken = await group(mailbox, GroupLimits(bytes: .max, changes: 10)) {
            mailbox.put(chunk(changes: 5))
            mailbox.put(chunk(changes: 1))
        }
        #expect(taken == [4, 5, 1])
    }

    @Test(.timeLimit(.minutes(1))) func groupOfABacklogThatHasComeToItsEndWaitsNoLonger() async {
        let mailbox = mailbox([chunk(changes: 4)])
        mailbox.note(isBacklog: true)
        let taken = await group(mailbox, GroupLimits(bytes: .max, changes: 10)) { mailbox.note(isBacklog: false) }
        #expect(taken == [4])
    }

    @Test(.timeLimit(.minutes(1))) func groupThatWaitsToBeFullEndsAtAPieceThatComes() async {
        let mailbox = mailbox([chunk(changes: 4)])
        mailbox.note(isBacklog: true)
        let taken = await group(mailbox, GroupLimits(bytes: .max, changes: 100)) {
            mailbox.put(chunk(changes: 7, endLSN: .zero))
        }
        #expect(taken == [4])
        // What is taken is not counted twice: the piece alone is no longer what makes the mailbox full.
        #expect(sizes(mailbox, .none) == [[7]])
        mailbox.put(chunk(changes: 4))
        #expect(mailbox.takeNow(GroupLimits(bytes: .max, changes: 10)) == nil)
    }

    @Test(.timeLimit(.minutes(1))) func pieceOfALargeTransactionIsNotWaitedWith() {
        let mailbox = mailbox([chunk(changes: 4), chunk(changes: 7, endLSN: .zero)])
        mailbox.note(isBacklog: true)
        let taken = mailbox.takeBlocking(.none, untilQuiet: false, patienceMilliseconds: 60_000)
        #expect(taken.chunks?.map(\.changes.count) == [4])
    }

    /// How many transactions of the target a backlog of 200 transactions with a row each becomes.
    private func targetTransactions(of group: GroupSettings) async throws -> Int {
        var replication = ReplicationSettings()
        replication.group = group
        let pair = try await ReplicaPair("CREATE TABLE t (id int PRIMARY KEY)", replication: replication)
        _ = try await pair.source.execute("DO $$ BEGIN FOR i IN 1..200 LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$")
        try await pair.streaming { state in
            try await pair.catchUp(state)
            try await pair.expectSame("SELECT id FROM t ORDER BY id", atLeast: 200)
        }
        let count = try await pair.rows("SELECT count(DISTINCT xmin::text) FROM t", on: pair.target)
        return try #require(count.first?[0].flatMap { Int($0) })
    }

    @Test func everySourceTransactionHasItsOwnWhenOneChangeIsTheLimit() async throws {
        var group = GroupSettings()
        group.maximumChanges = 1
        #expect(try await targetTransactions(of: group) == 200)
    }

    @Test func backlogSharesTransactionsByDefault() async throws {
        #expect(try await targetTransactions(of: GroupSettings()) < 200)
    }
}

extension StreamMailbox.Taken {
    fileprivate var chunks: [ChangeChunk]? {
        if case .chunks(let chunks) = self { return chunks }
        return nil
    }
}
