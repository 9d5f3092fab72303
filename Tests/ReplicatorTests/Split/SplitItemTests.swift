@testable import ReplicationCore
@testable import Replicator
import Testing

/// Which transactions of a chunk wait together.
@Suite struct SplitItemTests {
    /// Transactions of a chunk by their number of changes; the first may go on, and the last be without its end.
    private static func items(_ counts: [Int], goesOn: Bool = false, isOpen: Bool = false, runChanges: Int) -> [[UInt64]] {
        var chunk = ChangeChunk()
        var transactions: [SplitTransaction] = []
        for (index, count) in counts.enumerated() {
            let lsn = LSN(UInt64(index + 1))
            var span = TransactionSpan(
                xid: 1, commitLSN: lsn, endLSN: lsn, commitTime: PostgresTime(microseconds: 0), origin: nil, changes: 0..<0)
            if index == 0, goesOn { span.precedingCount = 5 }
            chunk.transactions.append(span)
            let isEnd = !(isOpen && index == counts.count - 1)
            transactions.append(
                SplitTransaction(
                    span: index, commitLSN: lsn, commitTime: PostgresTime(microseconds: 0), effectiveTime: PostgresTime(microseconds: 0),
                    context: CausalContext(lsn: .zero), operations: [], plainChanges: Array(0..<count),
                    progress: isEnd ? SplitProgress(appliedLSN: lsn, context: CausalContext(lsn: .zero)) : nil))
        }
        chunk.arena.bytes = [1, 2, 3]
        let items = SplitItem.items(transactions, of: SplitChunk(chunk, tables: [:]), runChanges: runChanges)
        #expect(items.map(\.changeCount).reduce(0, +) == counts.reduce(0, +))
        // The values are given back with the last that refers to them.
        #expect(items.dropLast().allSatisfy { $0.sizeBytes == 0 } && items.last?.sizeBytes == chunk.sizeBytes)
        return items.map { $0.transactions.map(\.commitLSN.rawValue) }
    }

    @Test func wholeTransactionsShareAnItemUpToSoManyChanges() {
        #expect(Self.items([4, 4, 2, 1], runChanges: 10) == [[1, 2, 3], [4]])
        #expect(Self.items([4, 4, 3, 1], runChanges: 10) == [[1, 2], [3, 4]])
        #expect(Self.items([11, 1, 11], runChanges: 10) == [[1], [2], [3]])
        #expect(Self.items([1, 1, 1], runChanges: 1) == [[1], [2], [3]])
    }

    /// What is applied in parts is taken part by part.
    @Test func aPartOfATransactionIsAnItemOfItsOwn() {
        #expect(Self.items([1, 1, 1, 1], goesOn: true, isOpen: true, runChanges: 10) == [[1], [2, 3], [4]])
        #expect(Self.items([1], goesOn: true, isOpen: true, runChanges: 10) == [[1]])
    }
}
